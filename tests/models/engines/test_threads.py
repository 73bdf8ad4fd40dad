"""The number of threads is measured, not guessed."""

import time
from collections.abc import Iterator

import pytest
import torch

from models.engines.threads import choose_threads, in_threads


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("faster", "slower"), [(1, 2), (2, 1)])
def test_the_faster_number_stays(faster: int, slower: int) -> None:
    used: list[int] = []

    def work() -> None:
        used.append(torch.get_num_threads())
        time.sleep(0.002 if used[-1] == faster else 0.006)

    assert choose_threads(work) == faster == torch.get_num_threads()
    assert set(used) == {faster, slower}


def test_threads_that_gain_little_are_left_to_others() -> None:
    assert choose_threads(lambda: time.sleep(0.010 if torch.get_num_threads() == 2 else 0.011)) == 1


def test_one_thread_is_not_measured() -> None:
    torch.set_num_threads(1)
    assert choose_threads(lambda: pytest.fail("there is nothing to choose")) == 1


def test_another_number_lasts_as_long_as_what_is_done_in_it() -> None:
    with pytest.raises(KeyError), in_threads(1):
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2
