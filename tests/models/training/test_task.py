"""The least that a task has to say: the loop trains it, and what it leaves out has a default."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.training.loop import RunSettings, train
from models.training.schedule import Schedule
from models.training.task import Position, Task


class Points:
    """x and what is to be said of it."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def to(self, device: torch.device) -> "Points":
        return Points(self.x.to(device), self.y.to(device))


class Line(Task[Points]):
    """Learns y = 2x + 1 from what `Task` demands and nothing more."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.seen: list[Position] = []
        self.exported: dict[str, Tensor] = {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"name": "line", "params": list(self.model.parameters()), "lr": 0.1}]

    def num_examples(self) -> int:
        return 8

    def collate(self, positions: Sequence[Position]) -> Points:
        self.seen += positions
        x = torch.tensor([[position.index / 4 - 1] for position in positions])
        return Points(x, 2 * x + 1)

    def loss(self, batch: Points) -> tuple[Tensor, Tensor]:
        return (self.model(batch.x) - batch.y).square().sum(), torch.tensor(len(batch.x))

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        assert folder.is_dir()
        self.exported = dict(weights)


def settings(output: Path, **fields: Any) -> RunSettings:
    steps = Schedule(fields.pop("steps", 150), 1, 1.0, "linear", 0)
    return RunSettings(output, steps, batch_size=4, accumulation=2, weight_decay=0.0, **fields)


@pytest.mark.slow
def test_a_task_is_trained_with_nothing_but_what_is_demanded(tmp_path: Path) -> None:
    task = Line()
    train(task, settings(tmp_path, validate_every=50))
    assert set(task.exported) == {"weight", "bias"}
    assert task.exported["weight"].item() == pytest.approx(2, abs=0.05)
    assert task.exported["bias"].item() == pytest.approx(1, abs=0.05)
    assert not (tmp_path / "validation.csv").exists(), "a task without measures has none"


def test_positions_tell_index_epoch_step_and_place_in_the_global_batch(tmp_path: Path) -> None:
    task = Line()
    train(task, settings(tmp_path, steps=3))
    assert [(one.step, one.place) for one in task.seen] == [(step, place) for step in range(3) for place in range(8)]
    for epoch in range(3):  # the batch is as large as the source
        assert sorted(one.index for one in task.seen if one.epoch == epoch) == list(range(8))


def test_what_a_task_leaves_out_is_nothing() -> None:
    task = Line()
    assert (task.hidden_weights(), task.validate(), task.counts(), task.stateful()) == ([], {}, {}, ())
    before = task.model.weight.clone()
    task.after_step()
    assert torch.equal(task.model.weight, before)


@pytest.mark.parametrize("absent", ["parameter_groups", "num_examples", "collate", "loss", "export"])
def test_what_is_demanded_cannot_be_left_out(absent: str) -> None:
    methods = {name: getattr(Line, name) for name in Task.__abstractmethods__}
    methods.pop(absent)
    incomplete = type("Incomplete", (Task,), methods)
    with pytest.raises(TypeError, match=absent):
        incomplete()


def test_positions_are_values() -> None:
    assert Position(1, 2, 3, 4) == Position(index=1, epoch=2, step=3, place=4)
    assert len({Position(1, 2, 3, 4), Position(1, 2, 3, 4), Position(1, 2, 3, 5)}) == 2
