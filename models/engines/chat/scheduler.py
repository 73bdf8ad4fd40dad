"""Who waits and who runs: requests in the order of their arrival, blocks of the pool, and no tensors."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from models.engines.chat.kv_pool import BlockAllocator, SlotTable, blocks_of


class Schedulable(Protocol):
    """A request, as the scheduler sees it."""

    table: SlotTable
    is_alone: bool  # it runs when nothing else does

    @property
    def num_rows(self) -> int:
        """Of the batch."""

    @property
    def first_slots(self) -> int:
        """Slots for its prompt and its first token."""

    @property
    def next_slots(self) -> int:
        """Slots that it holds and that its next token takes."""

    def preempt(self) -> None:
        """Give up all that was computed: it will begin again, and say nothing twice."""


class PoolExhausted(Exception):
    """The only request in progress needs more slots than there are."""


Request = TypeVar("Request", bound=Schedulable)


class Scheduler(Generic[Request]):
    """Oldest first: it starts first, and is the last to give its blocks up, so that none starves."""

    def __init__(self, allocator: BlockAllocator) -> None:
        self.allocator = allocator
        self.waiting: list[Request] = []
        self.running: list[Request] = []  # those in prefill among them
        self.num_preempted = 0  # waiting ones that ran before
        self._arrivals: dict[int, int] = {}  # id(request) -> number
        self._preempted: set[int] = set()
        self._count = 0

    def add(self, request: Request) -> None:
        self._arrivals[id(request)] = self._count
        self._count += 1
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Forgets it, and frees its blocks."""
        for queue in (self.waiting, self.running):
            if request in queue:
                queue.remove(request)
        self._preempted.discard(id(request))
        self.num_preempted = len(self._preempted)
        del self._arrivals[id(request)]
        request.table.free()

    def start_next(self) -> Request | None:
        """The oldest that waits, now running with the blocks of its prompt; None where there is no room for it.

        One block for each that runs is left to it, so that what has just started is not preempted at once.
        """
        if not self.waiting or any(request.is_alone for request in self.running):
            return None
        request = self.waiting[0]
        if request.is_alone and self.running:
            return None
        if request.table.missing_blocks(request.first_slots) + len(self.running) > self.allocator.num_free:
            if self.running or request.table.missing_blocks(request.first_slots) > self.allocator.num_free:
                return None
        self.waiting.pop(0)
        request.table.grow(request.first_slots)
        self._preempted.discard(id(request))
        self.num_preempted = len(self._preempted)
        self.running.append(request)
        self.running.sort(key=self._arrival)
        return request

    def make_room(self, request: Request) -> list[Request]:
        """Takes the blocks of the request's next token; the youngest that run are preempted for it -> those.

        Raises:
            PoolExhausted: it runs alone, and the pool is too small for it.
        """
        preempted: list[Request] = []
        while request.table.missing_blocks(request.next_slots) > self.allocator.num_free:
            youngest = self.running[-1]
            if youngest is request and len(self.running) == 1:
                raise PoolExhausted(
                    f"{request.next_slots} tokens of keys, of {self.allocator.num_blocks} blocks that there are"
                )
            self.preempt(youngest)
            preempted.append(youngest)
            if youngest is request:
                return preempted
        request.table.grow(request.next_slots)
        return preempted

    def preempt(self, request: Request) -> None:
        """Back to the waiting ones, in the order of arrival."""
        self.running.remove(request)
        request.table.free()
        request.preempt()
        self.waiting.append(request)
        self.waiting.sort(key=self._arrival)
        self._preempted.add(id(request))
        self.num_preempted = len(self._preempted)

    def num_free_after_waiting(self) -> int:
        """Blocks that are free once all that wait have started."""
        return self.allocator.num_free - sum(blocks_of(request.first_slots) for request in self.waiting)

    def _arrival(self, request: Request) -> int:
        return self._arrivals[id(request)]


def first_ones(requests: Sequence[Request], max_rows: int | None) -> list[Request]:
    """As many as have no more rows together; at least one."""
    group: list[Request] = []
    rows = 0
    for request in requests:
        rows += request.num_rows
        if group and max_rows is not None and rows > max_rows:
            break
        group.append(request)
    return group
