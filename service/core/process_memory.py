"""Processes' memory: what is resident, that it gives back what it freed, and where it looks for garbage.

A search for garbage stops everything: an API process for 40 ms, a worker with torch and diffusers for half a second.
"""

import atexit
import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def bound_allocator() -> None:
    """Tell glibc to map large blocks on their own, for good, and to share two arenas; does nothing elsewhere.

    A process that decodes large pictures must not keep their size. Left alone, glibc raises its mapping threshold to
    32 MiB once a mapped block was freed, and every thread gets an arena: decoded pictures then stay in the heap, some
    60 MiB a thread.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    mallopt(_M_TRIM_THRESHOLD, 1 << 20)
    mallopt(_M_ARENA_MAX, 2)


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process, by default of this one; 0 where it has ended, or the system does not tell."""
    try:
        statm = Path(f"/proc/{'self' if pid is None else pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def importing() -> Iterator[None]:
    """No search while modules are imported, which makes next to no garbage: a tenth to a quarter of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Search once more, and not again before the end through what is there now: modules and a model, which stay."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # at the end packages free what they have made, or complain of leaks
