"""Which example stands where: a function of the step alone."""

import pytest

from models.training.order import ExampleOrder


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
