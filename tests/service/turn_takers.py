"""The scripted engine with weights of its own, on a device that it has in turn."""

from collections.abc import Iterable, Sequence

from torch import nn

from models.engines.turns.residency import InUse
from models.engines.turns.sharing import open_device
from models.jobs import Engine, EngineConfig, Observe
from tests.service.engines import ScriptedEngine, write_log

WEIGHTS_BYTES = 4 * 100 * 100


class ScriptedTurnTaker(ScriptedEngine):
    def __init__(self, config: EngineConfig, observe: Observe) -> None:
        super().__init__(config, observe)
        self.weights = nn.Linear(100, 100, bias=False)

    def modules(self) -> Sequence[nn.Module]:
        return [self.weights]

    def settle(self) -> None:
        write_log("settle", "")

    def in_use(self) -> Iterable[InUse]:
        return []


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    write_log("load", str(config.kind))
    device = open_device(config, observe)
    engine = ScriptedTurnTaker(config, observe)
    device.begin(engine.weights)
    return device.around(engine)
