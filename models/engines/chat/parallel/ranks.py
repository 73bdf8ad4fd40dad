"""The other ranks, as rank 0 sees them: processes that it starts, tells what to do, and watches.

A rank that is gone takes the model with it: nothing can be computed without its share. Its end is noticed at once, by
the socket that ends with it; that it hangs, by the timeout of the collective that waits for it.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import torch

from models.engines.chat.kv_pool import KVPool
from models.engines.chat.parallel.commands import (
    BlocksCounted,
    Broken,
    Channel,
    CountBlocks,
    Join,
    Load,
    Loaded,
    Message,
    ReadSlice,
    begin_prompts,
)
from models.engines.chat.parallel.group import Group, join, leave
from models.engines.chat.prefill import PromptRows, ReadPrompt, Slices, prompt_slices
from models.jobs import EngineConfig
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.sharding import Shard

logger = logging.getLogger(__name__)

# Of a collective, which all ranks reach within milliseconds of one another. Below VISCPM_STALL_S, so that the worker
# can still give its jobs to others.
COLLECTIVE_TIMEOUT_S = 20.0
_KNOWN_WITHIN_S = 1.0  # what became of a rank, once a collective with it failed
_ENDS_WITHIN_S = 2.0  # a rank that was told to
_POLL_S = 0.1

Answer = TypeVar("Answer", bound=Message)


class RanksLost(torch.AcceleratorError):
    """A rank is gone or hangs, so this process cannot compute any more; the message is one line."""


class Ranks:
    """Ranks 1 to N - 1 of a model over N devices, which load from the start.

    They end with the thread that makes this, and with `close`.

    Args:
        timeout_s: of a collective.

    Raises:
        RanksLost: one ended at once.
    """

    def __init__(self, config: EngineConfig, timeout_s: float = COLLECTIVE_TIMEOUT_S) -> None:
        self.shard = Shard(0, len(config.devices))
        self.failure = ""  # what became of one of them; empty while all is well
        self._group: Group | None = None
        self._timeout_s = timeout_s
        self._is_lost = threading.Event()
        folder = tempfile.TemporaryDirectory(prefix="viscpm-ranks-")
        self._store_file = Path(folder.name) / "store"
        self._others: list[_Rank] = []
        self.close = weakref.finalize(self, _close, self._others, folder)  # at the process' end at the latest
        on_end = weakref.WeakMethod(self._on_end)
        for rank in range(1, self.shard.size):
            other = _Rank(rank, config.devices[rank], lambda how: (tell := on_end()) and tell(how))
            self._others.append(other)
            store_file = str(self._store_file)
            load = Load(config=config, rank=rank, size=self.shard.size, store_file=store_file, timeout_s=timeout_s)
            self._send(other, load)

    def join(self, device: torch.device) -> Group:
        """Waits until they have loaded, however long that takes, and meets them. Raises RanksLost."""
        for other in self._others:
            self._answer(other, Loaded)
        with self.together(Join()):
            self._group = join(self.shard, device, self._store_file, self._timeout_s)
        return self._group

    def tell(self, command: Message) -> None:
        """Raises RanksLost."""
        if self.failure:
            raise RanksLost(self.failure)
        for other in self._others:
            self._send(other, command)

    @contextmanager
    def together(self, command: Message) -> Iterator[None]:
        """What all ranks do at the same time: told to the others, then done here.

        Raises:
            RanksLost: also where it failed here alone, since the others wait for what will never come.
        """
        self.tell(command)
        try:
            yield
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise self._lost(f"rank 0 cannot go on beside the others: {reason}") from error

    def count_blocks(self) -> list[int]:
        """How many blocks of the pool each other rank's device has room for. Raises RanksLost."""
        self.tell(CountBlocks())
        return [self._answer(other, BlocksCounted).num_blocks for other in self._others]

    def read_prompts(self, model: ChatModel, prompts: Sequence[PromptRows], pool: KVPool) -> Slices:
        """`prompt_slices` of all ranks. Raises RanksLost."""
        assert self._group is not None, "join comes first"
        with self.together(begin_prompts(prompts)):
            own = [self._with_broadcast(one, model.llm.embedding.weight.dtype) for one in prompts]
        slices = prompt_slices(model, own, pool)
        while True:
            with self.together(ReadSlice()):
                read = next_slice(slices)
            if read is not None:
                return read
            yield

    def _with_broadcast(self, prompt: PromptRows, dtype: torch.dtype) -> PromptRows:
        """Its picture's embeddings, as all ranks have them now."""
        assert self._group is not None
        if prompt.embeddings is None:
            return prompt
        return replace(prompt, embeddings=self._group.broadcast(prompt.embeddings.to(dtype)))

    def _send(self, other: "_Rank", command: Message) -> None:
        try:
            other.channel.send(command)
        except OSError as error:
            raise self._lost(f"{other.name} does not listen any more") from error

    def _answer(self, other: "_Rank", kind: type[Answer]) -> Answer:
        while True:
            try:
                answer = other.answers.get(timeout=_POLL_S)
            except Empty:
                if self.failure:
                    raise RanksLost(self.failure) from None
                continue
            assert isinstance(answer, kind), f"{other.name} said {answer}"
            return answer

    def _lost(self, reason: str) -> RanksLost:
        self._is_lost.wait(_KNOWN_WITHIN_S)
        if not self.failure:
            self._on_end(reason)
        return RanksLost(self.failure)

    def _on_end(self, how: str) -> None:
        if self.close.alive and not self.failure:
            self.failure = how
            logger.error("%s: the model over %d devices is lost", how, self.shard.size)
        self._is_lost.set()


class _Rank:
    """A process, and what it says."""

    def __init__(self, rank: int, device: str, on_end: Callable[[str], object]) -> None:
        self.name = f"rank {rank} on {device}"
        self.answers: SimpleQueue[Message] = SimpleQueue()
        self._on_end = on_end
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "models.engines.chat.parallel", str(theirs.fileno()), str(os.getpid())]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        self.channel = Channel(ours)
        threading.Thread(target=self._listen, name=self.name, daemon=True).start()

    def end(self) -> None:
        self.channel.close()
        try:
            self.process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listen(self) -> None:
        reason = ""
        while (message := self.channel.receive()) is not None:
            if isinstance(message, Broken):
                reason = f": {message.reason}"
            else:
                self.answers.put(message)
        self._on_end(f"{self.name} {self._how_it_ended()}{reason}")

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(_KNOWN_WITHIN_S)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def next_slice(slices: Slices) -> list[ReadPrompt] | None:
    """Reads the next slice; what the prompts gave, once there is none left."""
    try:
        next(slices)
        return None
    except StopIteration as stop:
        prompts: list[ReadPrompt] = stop.value
        return prompts


def _close(others: list[_Rank], folder: "tempfile.TemporaryDirectory[str]") -> None:
    for other in others:
        other.channel.close()
    for other in others:
        other.end()
    leave()
    folder.cleanup()
