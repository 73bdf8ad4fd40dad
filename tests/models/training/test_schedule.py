"""How fast is learnt: a function of the step alone."""

import pytest

from models.training.schedule import Schedule


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
