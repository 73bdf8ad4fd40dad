"""Who runs, who waits and who gives way, without any tensor."""

import random
from dataclasses import dataclass, field

import pytest

from models.engines.chat.kv_pool import BLOCK_SLOTS, BlockAllocator, SlotTable
from models.engines.chat.scheduler import PoolExhausted, Scheduler, first_ones


@dataclass(eq=False)
class Request:
    name: int
    table: SlotTable
    prompt: int
    length: int  # tokens of its answer
    done: int = 0
    is_alone: bool = False
    restarts: int = field(default=0)

    @property
    def num_rows(self) -> int:
        return self.prompt

    @property
    def first_slots(self) -> int:
        return self.prompt + 1

    @property
    def next_slots(self) -> int:
        return self.prompt + self.done + 1

    def preempt(self) -> None:
        self.done = 0
        self.restarts += 1


def made(num_blocks: int, *sizes: tuple[int, int]) -> tuple[Scheduler[Request], list[Request]]:
    allocator = BlockAllocator(num_blocks)
    scheduler: Scheduler[Request] = Scheduler(allocator)
    requests = [Request(name, SlotTable(allocator), *size) for name, size in enumerate(sizes)]
    for request in requests:
        scheduler.add(request)
    return scheduler, requests


def test_the_oldest_starts_first_and_leaves_a_block_to_each_that_runs() -> None:
    scheduler, (first, second, third) = made(6, (2 * BLOCK_SLOTS, 9), (2 * BLOCK_SLOTS, 9), (1, 9))
    assert scheduler.start_next() is first
    assert scheduler.start_next() is None, "3 blocks are free, and of those one belongs to the first"
    assert third.table.blocks == [], "nobody overtakes"
    scheduler.remove(first)
    assert scheduler.start_next() is second


def test_the_youngest_gives_way_and_begins_again_before_those_that_came_later() -> None:
    scheduler, (first, second, third) = made(4, (15, 40), (15, 40), (15, 40))
    assert [scheduler.start_next(), scheduler.start_next()] == [first, second]
    assert scheduler.start_next() is None
    first.done = second.done = 2
    assert scheduler.make_room(first) == [] and scheduler.make_room(second) == []
    first.done = second.done = 18
    assert scheduler.make_room(first) == [second]
    assert scheduler.waiting == [second, third] and second.done == 0 and scheduler.num_preempted == 1
    scheduler.remove(first)
    assert scheduler.start_next() is second
    assert scheduler.num_preempted == 0


def test_the_youngest_that_needs_more_preempts_itself() -> None:
    scheduler, (first, second) = made(3, (15, 40), (15, 40))
    assert [scheduler.start_next(), scheduler.start_next()] == [first, second]
    first.done = 2
    scheduler.make_room(first)
    second.done = 2
    assert scheduler.make_room(second) == [second]
    assert scheduler.running == [first]


def test_one_that_is_too_large_for_the_whole_pool_is_told_so() -> None:
    scheduler, (only,) = made(2, (15, 90))
    assert scheduler.start_next() is only
    only.done = 2 * BLOCK_SLOTS - 15
    with pytest.raises(PoolExhausted, match="2 blocks"):
        scheduler.make_room(only)


def test_one_that_is_to_be_alone_waits_for_the_others_and_keeps_others_out() -> None:
    scheduler, (first, second, third) = made(50, (3, 9), (3, 9), (3, 9))
    assert [scheduler.start_next(), scheduler.start_next()] == [first, second]
    first.is_alone = True
    scheduler.preempt(first)
    assert scheduler.start_next() is None
    scheduler.remove(second)
    assert scheduler.start_next() is first
    assert scheduler.start_next() is None
    scheduler.remove(first)
    assert scheduler.start_next() is third


@pytest.mark.slow
def test_over_10000_arrivals_the_pool_is_never_exceeded_and_all_end() -> None:
    generator = random.Random(5)
    num_blocks = 24
    allocator = BlockAllocator(num_blocks)
    scheduler: Scheduler[Request] = Scheduler(allocator)
    alive: list[Request] = []
    arrived = ended = cancelled = preempted = 0
    waited: dict[int, int] = {}
    for turn in range(1_000_000):
        if arrived < 10_000 and len(alive) < 20 and generator.random() < 0.7:
            most = num_blocks * BLOCK_SLOTS
            prompt = generator.randint(1, most // 3)
            request = Request(arrived, SlotTable(allocator), prompt, generator.randint(1, min(90, most - prompt - 1)))
            scheduler.add(request)
            alive.append(request)
            waited[arrived] = turn
            arrived += 1
        if alive and generator.random() < 0.02:
            victim = alive.pop(generator.randrange(len(alive)))
            scheduler.remove(victim)
            assert victim.table.blocks == []
            cancelled += 1
        while scheduler.start_next() is not None:
            pass
        for request in list(scheduler.running):
            if request not in scheduler.running:
                continue
            preempted += len(scheduler.make_room(request))
            if request in scheduler.running:
                request.done += 1
                assert request.table.capacity >= request.prompt + request.done
        used = sum(len(request.table.blocks) for request in alive)
        assert used == num_blocks - allocator.num_free <= num_blocks
        assert all(not request.table.blocks for request in scheduler.waiting)
        for request in [request for request in scheduler.running if request.done >= request.length]:
            scheduler.remove(request)
            alive.remove(request)
            ended += 1
            assert turn - waited[request.name] < 5000, "it starved"
        if arrived == 10_000 and not alive:
            break
    assert ended + cancelled == 10_000 and allocator.num_free == num_blocks
    assert preempted > 100, "the pool was never short, which shows nothing"


def test_a_call_takes_the_first_ones_as_many_as_its_rows_allow() -> None:
    _, requests = made(9, (3, 1), (2, 1), (4, 1))
    assert first_ones(requests, None) == requests
    assert first_ones(requests, 5) == requests[:2]
    assert first_ones(requests, 1) == requests[:1], "at least one"
