"""Resident memory is told in bytes, and what a decoder frees goes back."""

import mmap
import subprocess
import sys

import psutil
import pytest

from service.core.process_memory import bound_allocator, resident_bytes

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
