"""Newcomers on their way into the batch: short prompts are read together, a picture that must be looked at alone."""

from collections.abc import Generator

from models.engines.chat.request import ChatRequest, ChatRuntime, read_prompts
from models.engines.chat.scheduler import Scheduler

TOKENS_AT_ONCE = 512  # of several prompts; one may be longer
TOKENS_IN_A_PASS = 3072  # of all that are read while streamed layers pass: what one of the longest takes


class PromptReader:
    """Requests that the scheduler has started and that have no `sequences` yet.

    Args:
        layers_pass: layers come and go, so that all that waits is read while they pass, pictures or not.
    """

    def __init__(self, scheduler: Scheduler[ChatRequest], runtime: ChatRuntime, layers_pass: bool = False) -> None:
        self.group: list[ChatRequest] = []  # being read
        self.next_layer: int | None = None  # of the language model, that the next slice takes; None: it takes none yet
        self._layers_pass = layers_pass
        self._scheduler = scheduler
        self._runtime = runtime
        self._slices: Generator[str, None, None] | None = None
        self._unread: list[ChatRequest] = []
        self._is_one_by_one = False  # until those that failed together are read

    def begin(self) -> bool:
        """Whether anything is being read now, or could be begun."""
        if self.group:
            return True
        first = self._next_unread()
        if first is None:
            return False
        self.group = [first]
        num_tokens = first.num_prompt_tokens
        most_tokens = TOKENS_IN_A_PASS if self._layers_pass else TOKENS_AT_ONCE
        while not self._is_one_by_one and not self._is_read_alone(self.group[-1]):
            request = self._next_unread(most_tokens - num_tokens)
            if request is None:
                break
            num_tokens += request.num_prompt_tokens
            self.group.append(request)
        self._slices = read_prompts(self.group, self._runtime)
        return True

    def read_slice(self) -> str:
        """One slice of the group's -> what it was, `picture` or `prompt`; "" once all are read."""
        assert self._slices is not None
        part = next(self._slices, "")
        if part == "prompt":
            self.next_layer = 0 if self.next_layer is None else self.next_layer + 1
        elif not part:
            self._stop()
        return part

    def read_one_by_one(self) -> None:
        """After a slice that failed: whose fault it was shows when each is read alone."""
        self._unread = self.group + self._unread
        self._is_one_by_one = True
        self._stop()

    def drop(self, request: ChatRequest) -> None:
        """Its slots are others' from now on; what was read beside it is read again."""
        if request in self.group:
            self._unread = [one for one in self.group if one is not request] + self._unread
            self._stop()
        elif request in self._unread:
            self._unread.remove(request)

    def _stop(self) -> None:
        self.group, self._slices, self.next_layer = [], None, None

    def _is_read_alone(self, request: ChatRequest) -> bool:
        return request.needs_tower and not self._layers_pass

    def _next_unread(self, room_tokens: int | None = None) -> ChatRequest | None:
        """The oldest, if it has no more tokens than that and, beside others, no picture to be looked at."""
        if not self._unread:
            self._is_one_by_one = False
            started = self._scheduler.start_next()
            if started is None:
                return None
            self._unread.append(started)
        request = self._unread[0]
        if room_tokens is not None and (request.num_prompt_tokens > room_tokens or self._is_read_alone(request)):
            return None
        return self._unread.pop(0)
