"""Give freed memory back to the system: a process that decodes large pictures must not keep their size."""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def bound_allocator() -> None:
    """Tell glibc to map large blocks on their own, for good, and to share two arenas; does nothing elsewhere.

    Left alone, glibc raises its mapping threshold to 32 MiB once a mapped block was freed, and every thread gets an
    arena: decoded pictures then stay in the heap, some 60 MiB a thread.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    mallopt(_M_TRIM_THRESHOLD, 1 << 20)
    mallopt(_M_ARENA_MAX, 2)
