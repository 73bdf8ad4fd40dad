"""Which example stands where, and how fast is learnt: functions of the step alone."""

import pytest

from models.finetune.order import ExampleOrder
from models.finetune.schedule import Schedule


def test_every_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    order = ExampleOrder(num_examples=10, global_batch_size=4, seed=3)
    found = [position for step in range(5) for position in order.positions(step, range(4))]
    first, second = found[:10], found[10:]
    assert [{position.epoch for position in part} for part in (first, second)] == [{0}, {1}]
    indices = [[position.index for position in part] for part in (first, second)]
    assert sorted(indices[0]) == sorted(indices[1]) == list(range(10)) and indices[0] != indices[1]
    assert [position.place for position in found] == [0, 1, 2, 3] * 5
    assert order.epoch(5) == 2


def test_processes_and_resumed_runs_see_their_part_of_the_same_order() -> None:
    whole = ExampleOrder(7, 6, seed=0).positions(11, range(6))
    parts = ExampleOrder(7, 6, seed=0)
    assert [*parts.positions(11, range(3)), *parts.positions(11, range(3, 6))] == whole
    assert ExampleOrder(7, 6, seed=1).positions(11, range(6)) != whole


def test_an_order_needs_examples() -> None:
    with pytest.raises(ValueError, match="no examples"):
        ExampleOrder(0, 4, seed=0)


def test_the_default_warms_up_along_a_logarithm_from_a_tenth_as_the_release_does() -> None:
    schedule = Schedule(1000)
    assert schedule.share(0) == pytest.approx(0.1)
    assert schedule.share(13) == pytest.approx(0.1 + 0.9 * 0.4981, abs=1e-4)  # log 14 / log 200
    assert schedule.share(199) == pytest.approx(1.0)
    assert {schedule.share(step) for step in (200, 500, 999)} == {1.0}


def test_a_linear_warm_up_and_a_decay_over_the_last_steps() -> None:
    schedule = Schedule(100, warmup_steps=4, warmup_start=0.0, warmup_shape="linear", decay_steps=9)
    assert [schedule.share(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert [schedule.share(step) for step in (90, 91, 95, 99)] == pytest.approx([1.0, 0.9, 0.5, 0.1])
