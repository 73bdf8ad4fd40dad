"""The audit file against what disks do: full in the middle of a line, hung, moved away; nobody waits for it."""

import os
import resource
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.jobs import audit_file
from service.jobs.audit_file import AuditFile

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux: /dev/full, and pipes of a known size")


class Written:
    """What became of lines, in the order in which it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, OSError | None]] = []
        self.num_lost = 0

    def lost(self, num_lines: int) -> None:
        self.num_lost += num_lines

    def of(self, number: int) -> Callable[[OSError | None], None]:
        return lambda error: self.told.append((number, error))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def written() -> Written:
    return Written()


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """No file grows beyond this: a write is cut off there, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_lines_are_in_order_and_none_is_lost_at_the_end(path: Path, written: Written) -> None:
    path.write_text("before\n")
    file = AuditFile(str(path), written.lost)
    for number in range(2000):
        file.append(b"%d\n" % number, written.of(number))
    file.close(10)
    assert lines_of(path) == ["before", *map(str, range(2000))]
    assert written.told == [(number, None) for number in range(2000)] and written.num_lost == 0
    file.append(b"again\n")
    file.close(10)
    assert lines_of(path)[-1] == "again"


def test_several_processes_may_share_a_file(path: Path, written: Written) -> None:
    files = [AuditFile(str(path), written.lost) for _ in range(3)]
    for number in range(500):
        for file in files:
            file.append(b"%d " % number * 50 + b"\n")
    for file in files:
        file.close(10)
    lines = lines_of(path)
    assert sorted(lines) == sorted([f"{number} " * 50 for number in range(500)] * 3)


def test_a_file_that_was_moved_away_is_opened_again(path: Path, written: Written) -> None:
    file = AuditFile(str(path), written.lost)
    file.append(b"1\n", written.of(1))
    until(lambda: written.told)
    path.rename(path.with_suffix(".1"))
    file.append(b"2\n", written.of(2))
    until(lambda: len(written.told) == 2)
    path.unlink()
    file.append(b"3\n")
    file.close(10)
    assert lines_of(path.with_suffix(".1")) == ["1"] and lines_of(path) == ["3"] and written.num_lost == 0


def test_a_disk_that_fills_up_in_a_line_spoils_that_line_alone(
    path: Path, written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    file = AuditFile(str(path), written.lost)
    with disk_of(25):
        for number in range(4):  # 10 bytes each
            file.append(b"line %d...\n" % number, written.of(number))
        until(lambda: len(written.told) == 4)
    file.append(b"line 4...\n", written.of(4))
    file.close(10)
    assert lines_of(path) == ["line 0...", "line 1...", "line ", "line 4..."]
    assert [number for number, error in written.told if error is None] == [0, 1, 4]
    assert [type(error) for _, error in written.told[2:4]] == [OSError, OSError] and written.num_lost == 2
    [record] = [one for one in caplog.records if one.name == audit_file.__name__]
    assert f"the audit file {path}: " in record.message and "File too large" in record.message


@linux
def test_the_log_is_told_of_a_full_disk_once_a_minute(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    file = AuditFile("/dev/full", written.lost)
    for number in range(50):
        file.append(b"line\n", written.of(number))
        until(lambda expected=number + 1: len(written.told) == expected)
    assert written.num_lost == 50 and "No space left on device" in caplog.text and len(caplog.records) == 1
    file._told_s -= 60
    file.append(b"line\n")
    file.close(10)
    assert caplog.records[1].message.startswith("the audit file /dev/full: 50 lines could not be written")


@linux
def test_a_hung_disk_holds_up_nobody_and_what_waits_is_bounded(
    path: Path, written: Written, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit_file, "_MAX_WAITING", 50)
    monkeypatch.setattr(audit_file, "_BATCH_LINES", 1)
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    try:
        file = AuditFile(str(path), written.lost)
        began_s = time.monotonic()
        for number in range(200):
            file.append(b"x" * 4095 + b"\n", written.of(number))
        assert time.monotonic() - began_s < 1
        until(lambda: sum(error is None for _, error in written.told) == 16)  # all that a pipe holds
        num_refused = sum(error is not None for _, error in written.told)
        assert written.num_lost == num_refused >= 200 - 50 - 17 and "50 lines wait for it" in caplog.text
        file.close(0.1)
        assert time.monotonic() - began_s < 5 and "lines were not written in 0.1 s" in caplog.text
    finally:
        os.set_blocking(pipe, False)
        for thread in [one for one in threading.enumerate() if one.name == "audit"]:
            while thread.is_alive():
                try:
                    os.read(pipe, 1 << 20)
                except BlockingIOError:
                    thread.join(0.01)
        os.close(pipe)
        os.close(file._descriptor)


def test_a_file_that_cannot_be_opened_says_so_at_once(tmp_path: Path, written: Written) -> None:
    with pytest.raises(FileNotFoundError):
        AuditFile(str(tmp_path / "no such" / "file"), written.lost)


def test_the_file_is_as_open_as_the_umask_says(path: Path, written: Written) -> None:
    before = os.umask(0o027)
    try:
        AuditFile(str(path), written.lost).close(1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
