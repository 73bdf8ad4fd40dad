"""Which jobs run: in order, within memory, and what the heartbeat may promise."""

import random

import pytest

from models.engines.paint.scheduler import Scheduler, share_of_step


def start_all(scheduler: Scheduler) -> None:
    while (job_id := scheduler.startable()) is not None:
        scheduler.start(job_id)


def test_jobs_start_in_order_as_far_as_memory_goes() -> None:
    scheduler = Scheduler(max_jobs=8, budget_bytes=100, least_bytes=10)
    for job_id, num_bytes in (("a", 60), ("b", 50), ("c", 10)):
        scheduler.add(job_id, num_bytes)
    start_all(scheduler)
    assert (scheduler.running, scheduler.waiting) == (("a",), ("b", "c")), "none overtakes another"
    scheduler.remove("a")
    start_all(scheduler)
    assert (scheduler.running, scheduler.waiting) == (("b", "c"), ())


def test_a_job_beyond_the_budget_runs_alone() -> None:
    scheduler = Scheduler(max_jobs=8, budget_bytes=100, least_bytes=10)
    scheduler.add("large", 500)
    scheduler.add("small", 10)
    start_all(scheduler)
    assert scheduler.running == ("large",) and scheduler.capacity == 0


@pytest.mark.parametrize(
    ("taken", "capacity"), [([], 8), ([10], 7), ([40, 40], 2), ([100], 0), ([300], 0), ([1] * 8, 0), ([95], 0)]
)
def test_capacity_is_what_fits(taken: list[int], capacity: int) -> None:
    scheduler = Scheduler(max_jobs=8, budget_bytes=100, least_bytes=10)
    for number, num_bytes in enumerate(taken):
        scheduler.add(str(number), num_bytes)
    assert scheduler.capacity == capacity
    start_all(scheduler)
    assert scheduler.capacity == capacity


def test_one_job_is_always_taken() -> None:
    assert Scheduler(max_jobs=8, budget_bytes=5, least_bytes=10).capacity == 1


def test_ids_come_and_go() -> None:
    scheduler = Scheduler(max_jobs=2, budget_bytes=100, least_bytes=10)
    scheduler.add("a", 10)
    start_all(scheduler)
    scheduler.add("a", 20)
    assert (scheduler.running, scheduler.waiting) == ((), ("a",))
    scheduler.remove("a")
    scheduler.remove("never")
    assert "a" not in scheduler and scheduler.capacity == 2


def test_over_random_arrivals_the_budget_holds_and_nothing_starves() -> None:
    chance = random.Random(0)
    scheduler = Scheduler(max_jobs=6, budget_bytes=100, least_bytes=10)
    sizes: dict[str, int] = {}
    waited: dict[str, int] = {}
    for number in range(10_000):
        if scheduler.capacity:
            job_id = str(number)
            sizes[job_id] = chance.randint(1, 130)
            waited[job_id] = 0
            scheduler.add(job_id, sizes[job_id])
        start_all(scheduler)
        running = scheduler.running
        assert sum(sizes[job_id] for job_id in running) <= 100 or len(running) == 1
        assert running or not scheduler.waiting
        for job_id in scheduler.waiting:
            waited[job_id] += 1
        for job_id in (*running, *scheduler.waiting):
            if chance.random() < 0.2:
                scheduler.remove(job_id)
    assert max(waited.values()) < 200


@pytest.mark.parametrize(("step_s", "one_s", "pieces"), [(1.0, 0.3, 3), (1.0, 0.01, 4), (0.1, 2.0, 1), (1.0, 0.0, 1)])
def test_other_work_takes_about_one_steps_time(step_s: float, one_s: float, pieces: int) -> None:
    assert share_of_step(step_s, one_s, most=4) == pieces
