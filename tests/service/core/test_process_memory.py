"""Resident memory is told in bytes, what a decoder frees goes back, and what stays is not searched for garbage."""

import gc
import mmap
import subprocess
import sys
import weakref

import psutil
import pytest

from service.core.process_memory import bound_allocator, importing, resident_bytes, settle

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux: /proc and glibc")

# A block grows the mapping threshold when it is freed; the next ones then come from the heap, and stay there.
_FREES = """
import sys
from service.core.process_memory import bound_allocator, resident_bytes
if sys.argv[1] == "bound":
    bound_allocator()
for size_mib in (8, 20, 30):
    bytearray(size_mib << 20)
before = resident_bytes()
blocks = [bytearray(b"x") * (16 << 20) for _ in range(6)]
pin = bytearray(1000)
most = resident_bytes()
del blocks[:]
print(most - before, resident_bytes() - before)
"""


@pytest.mark.slow
@linux
def test_resident_memory_is_what_the_system_says() -> None:
    # Mapped anew: a block of the heap may lie where an earlier test's did, and be resident already
    with mmap.mmap(-1, 64 << 20) as block:
        before = resident_bytes()
        block.write(b"x" * len(block))
        told, known = resident_bytes(), psutil.Process().memory_info().rss
    assert abs(told - known) < 8 << 20
    assert told - before > 60 << 20


@linux
def test_another_process_memory_is_told_while_it_lives() -> None:
    code = "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert 2**20 < resident_bytes(process.pid) < 2**30
        process.kill()
    assert resident_bytes(process.pid) == 0


@linux
def test_freed_blocks_go_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", _FREES, "bound"], capture_output=True, text=True, check=True)
    most_bytes, kept_bytes = map(int, run.stdout.split())
    assert most_bytes > 90 << 20 and kept_bytes < 2 << 20


def test_it_may_be_bound_again_and_again() -> None:
    bound_allocator()
    bound_allocator()
    assert len(bytearray(2 << 20)) == 2 << 20


class Knot:
    """Refers to itself: counting references does not free it."""

    def __init__(self) -> None:
        self.itself = self


def test_there_is_no_search_while_modules_are_imported_and_one_is_possible_again_afterwards() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such"), importing():
        assert not gc.isenabled()
        import no_such  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


@pytest.mark.slow
def test_garbage_of_before_is_freed_and_what_is_in_use_is_not_searched_again() -> None:
    before = weakref.ref(Knot())
    kept = Knot()
    settle()
    assert before() is None
    assert gc.get_freeze_count() > 0
    assert not any(found is kept for found in gc.get_objects())


def test_garbage_of_afterwards_is_found() -> None:
    settle()
    after = weakref.ref(Knot())
    assert after() is not None
    gc.collect()
    assert after() is None
