"""How an engine comes onto its device: at once where that is its own, else from host memory in its first turn."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from models.engines.device import usable_device
from models.engines.turns.device_queue import DeviceQueue, Place, default_folder
from models.engines.turns.engine import POLL_S, Turn, TurnTaker, TurnTakingEngine
from models.engines.turns.placement import Placement, placement_of
from models.engines.turns.residency import module_bytes
from models.jobs import DeviceTurns, Engine, EngineConfig, Observe

logger = logging.getLogger(__name__)


class OwnDevice:
    """Nobody else's: models are loaded onto it, and stay."""

    def __init__(self, device: torch.device) -> None:
        self.device = self.load_device = device

    def begin(self, *modules: nn.Module) -> None:
        """They are there."""

    def around(self, engine: TurnTaker) -> Engine:
        """The engine that the worker drives."""
        total_bytes = placement_of(self.device).total_bytes
        logger.info(
            "%s", told_alone(engine.description.kind, self.device, module_bytes(*engine.modules()), total_bytes)
        )
        return engine


class SharedDevice:
    """Models are loaded into host memory, and come onto the device once it is this worker's turn."""

    def __init__(self, device: torch.device, kind: str, settings: DeviceTurns, observe: Observe) -> None:
        self.device = device
        self.load_device = torch.device("cpu")
        self._kind = kind
        self._settings = settings
        self._observe = observe
        self._placement: Placement = placement_of(device, settings.device_bytes)
        folder = Path(settings.lock_dir) if settings.lock_dir else default_folder()
        self._turn = Turn(DeviceQueue(folder, self._placement.name, kind), self._placement, observe)

    def begin(self, *modules: nn.Module) -> None:
        """Waits for the device; then the modules' tensors lie there, and the rest of loading has it."""
        queue = self._turn.queue
        weights_bytes = module_bytes(*modules)
        others = queue.introduce(weights_bytes)
        total_bytes = self._placement.total_bytes
        logger.info("%s", told_in_turns(self._kind, self.device, weights_bytes, others, total_bytes))
        started_s = time.monotonic()
        while not self._turn.try_take():
            time.sleep(POLL_S)
        logger.info("waited %.1f s for %s", time.monotonic() - started_s, self.device)
        queue.account(weights_bytes, total_bytes)
        for module in modules:
            module._apply(self._placement.place)

    def around(self, engine: TurnTaker) -> Engine:
        """The engine that the worker drives."""
        shared = TurnTakingEngine(engine, self._turn, self._settings, self._observe)
        self._turn.queue.introduce(shared.weights_bytes)
        return shared


def open_device(config: EngineConfig, observe: Observe) -> OwnDevice | SharedDevice:
    """The device of a worker.

    Raises:
        DeviceUnusable: torch cannot compute there.
        QueueUnusable: the folder of locks cannot be used.
    """
    device = usable_device(config.device)
    if config.turns is None:
        return OwnDevice(device)
    return SharedDevice(device, config.kind, config.turns, observe)


def told_alone(kind: str, device: torch.device, weights_bytes: int, total_bytes: int) -> str:
    """What fits where, in one line, for a worker that keeps its device."""
    left_bytes = total_bytes - weights_bytes
    room = (
        "another worker of this size fits beside it"
        if left_bytes > weights_bytes
        else "another worker of this size does not fit beside it: VISCPM_DEVICE_SHARING=turns shares it in turn"
    )
    return (
        f"{kind} keeps {device}: weights of {_gb(weights_bytes)} of {_gb(total_bytes)}, {_gb(left_bytes)} left; {room}"
    )


def told_in_turns(
    kind: str, device: torch.device, weights_bytes: int, others: Sequence[Place], total_bytes: int
) -> str:
    """The same for a worker that takes turns, beside those that are there already."""
    beside = ", ".join(f"{other.kind} of {_gb(other.weights_bytes)}" for other in others) or "no other worker yet"
    sum_bytes = weights_bytes + sum(other.weights_bytes for other in others)
    if not others:
        need = "whether turns are needed shows when the next one comes"
    elif sum_bytes > total_bytes:
        need = "together they do not fit: turns are needed"
    else:
        need = f"together {_gb(sum_bytes)}: the weights fit at once, and VISCPM_DEVICE_SHARING=off would be faster"
    weights = f"weights of {_gb(weights_bytes)} of {_gb(total_bytes)}"
    return f"{kind} takes turns on {device}: {weights}, beside {beside}; {need}"


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
