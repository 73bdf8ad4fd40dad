"""Saved states: whole or not there, the last two, of this run alone."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from models.training.state import (
    NUM_KEPT,
    RUN_FILE,
    STATES_FOLDER,
    StateError,
    keep_trained,
    load_state,
    save_state,
    saved_states,
)

RUN = {"seed": 0, "task": "chat"}


class Bench:
    """A small network and its optimiser on one process."""

    def __init__(self, is_frozen: bool = False) -> None:
        torch.manual_seed(1)
        self.accelerator = Accelerator(cpu=True)
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        model[0].requires_grad_(not is_frozen)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        keep_trained(self.accelerator, self.model)

    def step(self) -> None:
        self.model(torch.ones(1, 3)).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def test_a_state_brings_weights_and_optimiser_back(tmp_path: Path) -> None:
    one = Bench()
    one.step()
    folder = save_state(one.accelerator, tmp_path, 7, RUN)
    assert folder == tmp_path / STATES_FOLDER / "step-00000007"
    assert json.loads((folder / RUN_FILE).read_text()) == {"step": 7, **RUN}
    one.step()

    other = Bench()
    assert load_state(other.accelerator, tmp_path, RUN) == 7
    other.step()  # with AdamW's averages
    for name, tensor in one.weights().items():
        torch.testing.assert_close(other.weights()[name], tensor, rtol=0, atol=0)


def test_without_a_state_there_is_nothing_to_restore(tmp_path: Path) -> None:
    bench = Bench()
    before = bench.weights()
    assert load_state(bench.accelerator, tmp_path, RUN) == 0
    assert saved_states(tmp_path) == []
    assert all(torch.equal(before[name], tensor) for name, tensor in bench.weights().items())


def test_the_last_ones_are_kept_and_come_in_the_order_of_steps(tmp_path: Path) -> None:
    bench = Bench()
    for step in (5, 10, 200):
        save_state(bench.accelerator, tmp_path, step, RUN)
    assert [step for step, _ in saved_states(tmp_path)] == [10, 200]
    assert NUM_KEPT == 2
    assert load_state(bench.accelerator, tmp_path, RUN) == 200


def test_a_state_that_was_not_written_to_its_end_is_none(tmp_path: Path) -> None:
    bench = Bench()
    whole = save_state(bench.accelerator, tmp_path, 5, RUN)
    partial = whole.with_name("step-00000010.partial")
    partial.mkdir()
    (partial / "half").write_text("")
    (tmp_path / STATES_FOLDER / "notes").mkdir()
    assert [step for step, _ in saved_states(tmp_path)] == [5]
    save_state(bench.accelerator, tmp_path, 10, RUN)
    assert not partial.exists() and not (saved_states(tmp_path)[-1][1] / "half").exists()


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    bench = Bench()
    save_state(bench.accelerator, tmp_path, 5, RUN)
    bench.step()
    save_state(bench.accelerator, tmp_path, 5, {**RUN, "task": "tower"})
    ((step, folder),) = saved_states(tmp_path)
    assert (step, json.loads((folder / RUN_FILE).read_text())["task"]) == (5, "tower")
    other = Bench()
    load_state(other.accelerator, tmp_path, {})
    assert all(torch.equal(bench.weights()[name], tensor) for name, tensor in other.weights().items())


def test_a_state_of_another_run_is_refused_and_not_restored(tmp_path: Path) -> None:
    bench = Bench()
    folder = save_state(bench.accelerator, tmp_path, 5, RUN)
    other = Bench()
    other.step()
    before = other.weights()
    with pytest.raises(StateError) as refused:
        load_state(other.accelerator, tmp_path, {**RUN, "seed": 4})
    assert str(refused.value) == f"{folder}: saved by a run with seed 0, resumed with 4"
    assert all(torch.equal(before[name], tensor) for name, tensor in other.weights().items())
    # What an older version did not write down is no difference
    assert load_state(other.accelerator, tmp_path, {**RUN, "newer": 1}) == 5


def test_frozen_weights_stay_out_and_are_left_as_they_are(tmp_path: Path) -> None:
    bench = Bench(is_frozen=True)
    bench.step()
    folder = save_state(bench.accelerator, tmp_path, 5, RUN)
    whole = save_state(Bench().accelerator, tmp_path / "whole", 5, RUN)
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, whole)]
    assert sizes[0] < sizes[1]
    other = Bench(is_frozen=True)
    nn.init.constant_(other.model[0].weight, 3.0)
    load_state(other.accelerator, tmp_path, RUN)
    assert other.model[0].weight.unique().tolist() == [3.0]
    assert torch.equal(other.model[1].weight, bench.model[1].weight)
