"""The audit log's file: lines in the order in which they came, written by a thread of its own.

Lines go out in one write, so that processes which share the file do not mix theirs. The file may be moved away at any
time (logrotate): it is opened again. What a full disk cuts off is not glued to what comes after.
"""

import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

_log = logging.getLogger(__name__)

_MAX_WAITING = 10_000  # lines of some 400 bytes; beyond that the disk hangs
_BATCH_LINES = 256
_WRITING_S = 0.05  # what another process writes has grown by then
_TELL_S = 60.0  # between two log lines about what is lost


class _Line(NamedTuple):
    data: bytes
    on_done: Callable[[OSError | None], None] | None


class AuditFile:
    """Safe to use from one thread; nothing of it waits for the disk but the constructor and `close`.

    Args:
        on_lost: called with a number of lines that could not be written, from any thread.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, on_lost: Callable[[int], None]) -> None:
        self._path = path
        self._on_lost = on_lost
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._told_s = float("-inf")
        self._num_lost = 0  # since the log was told
        self._may_be_cut_off = True  # by a process before this one
        self._descriptor = self._open()

    def append(self, data: bytes, on_done: Callable[[OSError | None], None] | None = None) -> None:
        """Have a line written, its end included; `on_done` is called from the thread, with why it could not be."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)  # a hung disk must not hold us
            self._thread.start()
        if self._lines.qsize() < _MAX_WAITING:
            self._lines.put(_Line(data, on_done))
            return
        error = OSError(f"{_MAX_WAITING} lines wait for it")
        self._lose(1, error)
        if on_done is not None:
            on_done(error)

    def close(self, patience_s: float) -> None:
        """Write what waits, for as long as `patience_s`. A later `append` begins anew."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._lines.put(None)
            thread.join(patience_s)
        if thread is not None and thread.is_alive():
            _log.error(
                "the audit file %s: %d lines were not written in %g s", self._path, self._lines.qsize(), patience_s
            )
        elif self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _run(self) -> None:
        is_closing = False
        while not is_closing:
            batch = [self._lines.get()]
            while len(batch) < _BATCH_LINES and not self._lines.empty():
                batch.append(self._lines.get())
            is_closing = None in batch
            lines = [line for line in batch if line is not None]
            num_written, error = self._written([line.data for line in lines])
            if error is not None:
                self._lose(len(lines) - num_written, error)
            for place, line in enumerate(lines):
                if line.on_done is not None:
                    line.on_done(None if place < num_written else error)

    def _written(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        """How many lines are in the file, and why not all."""
        num_bytes = 0
        data = b"".join(lines)
        try:
            if data:
                self._follow()
                if self._may_be_cut_off and self._is_cut_off():
                    os.write(self._descriptor, b"\n")
                self._may_be_cut_off = False
            while num_bytes < len(data):
                num_bytes += os.write(self._descriptor, data[num_bytes:])
        except OSError as error:
            self._may_be_cut_off = True
            num_written = 0
            while num_written < len(lines) and len(lines[num_written]) <= num_bytes:
                num_bytes -= len(lines[num_written])
                num_written += 1
            return num_written, error
        return len(lines), None

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def _follow(self) -> None:
        """Open the file again where it was moved away."""
        if self._descriptor >= 0:
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and os.path.samestat(there, os.fstat(self._descriptor)):
                return
            os.close(self._descriptor)
            self._descriptor = -1
        self._descriptor = self._open()

    def _is_cut_off(self) -> bool:
        """Whether the file's last line has no end, and nobody is at it: another process' write may be half done."""
        size_bytes = -1
        while (told := os.fstat(self._descriptor)).st_size != size_bytes:
            size_bytes = told.st_size
            if not stat.S_ISREG(told.st_mode) or not size_bytes:
                return False
            if os.pread(self._descriptor, 1, size_bytes - 1) == b"\n":
                return False
            time.sleep(_WRITING_S)
        return True

    def _lose(self, num_lines: int, error: OSError) -> None:
        self._on_lost(num_lines)
        self._num_lost += num_lines
        if time.monotonic() - self._told_s >= _TELL_S:
            self._told_s = time.monotonic()
            reason = error.strerror or error
            _log.error("the audit file %s: %d lines could not be written: %s", self._path, self._num_lost, reason)
            self._num_lost = 0
