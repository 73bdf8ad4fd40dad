"""Waits between tries: they double, stay within their bounds, begin again, and differ between processes."""

import time

import pytest

from service.core.backoff import Backoff


def test_waits_double_up_to_the_longest_and_begin_again() -> None:
    backoff = Backoff(1.0, 10.0, jitter=0)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert backoff.failures == 6
    backoff.reset()
    assert backoff.failures == 0 and backoff.next_s() == 1


def test_the_first_try_again_may_follow_at_once() -> None:
    backoff = Backoff(1.0, 30.0, jitter=0, at_once=True)
    assert [backoff.next_s() for _ in range(7)] == [0, 1, 2, 4, 8, 16, 30]
    backoff.reset()
    assert backoff.next_s() == 0


def test_jitter_only_shortens_and_separates_processes() -> None:
    processes = [Backoff(0.05, 1.0) for _ in range(50)]
    for longest_s in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        waits_s = [backoff.next_s() for backoff in processes]
        assert all(longest_s / 2 <= wait_s <= longest_s for wait_s in waits_s)
        assert len(set(waits_s)) > 40 and max(waits_s) - min(waits_s) > 0.2 * longest_s


def test_a_day_of_failures_still_waits_the_longest() -> None:
    backoff = Backoff(0.05, 5.0, jitter=0)
    assert {backoff.next_s() for _ in range(5000)} >= {5.0} and backoff.next_s() == 5.0


async def test_waiting_takes_as_long_as_told() -> None:
    backoff = Backoff(0.1, 1.0, jitter=0)
    started_s = time.monotonic()
    await backoff.wait()
    await backoff.wait()
    assert backoff.failures == 2
    assert time.monotonic() - started_s == pytest.approx(0.3, abs=0.15)
