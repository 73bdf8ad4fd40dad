"""Counts that several processes share: what any of them shows, and what a process that died leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import values

from service.core import shared_metrics
from service.core.metrics import Metrics
from tests.service.tree import ROOT

# argv: folder, number. Counts one request for each line that it reads; says what it shows after it.
_PROCESS = """
import sys
from pathlib import Path
from service.core.metrics import Metrics
from service.core.shared_metrics import share_metrics

share_metrics(Path(sys.argv[1]), int(sys.argv[2]))
metrics = Metrics("api")
print("ready", flush=True)
for line in sys.stdin:
    metrics.count("requests_total", route="/x", outcome="ok")
    metrics.observe("e2e_request_latency_seconds", 0.2, route="/x")
    metrics.set("queue_depth", float(line), model="chat")
    print(repr(metrics.render().decode()), flush=True)
"""


class Counting:
    """A process that counts."""

    def __init__(self, folder: Path, number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(folder), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def count(self, depth: int = 0) -> str:
        """One request; the page after it."""
        assert self.process.stdin is not None
        print(depth, file=self.process.stdin, flush=True)
        page: str = eval(self._line())
        return page

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], Counting]]:
    started: list[Counting] = []

    def start(number: int) -> Counting:
        started.append(Counting(tmp_path, number))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.mark.own_process
def test_any_process_shows_what_all_counted_also_the_dead(start: Callable[[int], Counting]) -> None:
    first, second = start(0), start(1)
    first.count()
    page = second.count()
    assert 'viscpm_requests_total{outcome="ok",route="/x"} 2.0' in page
    assert 'viscpm_e2e_request_latency_seconds_bucket{le="0.3",route="/x"} 2.0' in page
    assert 'viscpm_e2e_request_latency_seconds_sum{route="/x"} 0.4' in page
    first.kill()
    assert 'viscpm_requests_total{outcome="ok",route="/x"} 3.0' in second.count()
    page = start(0).count()  # in the dead one's place
    assert 'viscpm_requests_total{outcome="ok",route="/x"} 4.0' in page
    assert 'viscpm_e2e_request_latency_seconds_count{route="/x"} 4.0' in page


@pytest.mark.own_process
def test_what_is_read_is_the_answering_process_own(start: Callable[[int], Counting]) -> None:
    first, second = start(0), start(1)
    first.count(depth=5)
    page = second.count(depth=3)
    assert [line for line in page.splitlines() if line.startswith("viscpm_queue_depth")] == [
        'viscpm_queue_depth{model="chat"} 3.0'
    ]
    families = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(set(families)) == len(families)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process counts in a folder, until the test's end."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr(shared_metrics, "_folder", None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    shared_metrics.share_metrics(tmp_path, 3)
    return tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux: posix_fallocate")
def test_room_is_taken_at_the_start(shared: Path) -> None:
    """A memory-mapped file that finds the disk full ends its process by SIGBUS."""
    blocks = {path.name: path.stat().st_blocks * 512 for path in shared.glob("*.db")}
    assert blocks.keys() == {"counter_3.db", "histogram_3.db"}
    assert all(size_bytes >= 2**20 for size_bytes in blocks.values())
    metrics = Metrics("api")
    for status in range(400, 600):  # more than there are
        for route in ("/chat", "/paint", "/metrics", "/jobs/{job_id}", "unmatched"):
            metrics.count("requests_total", route=route, outcome=f"http_{status}")
    assert (shared / "counter_3.db").stat().st_size == 2**20


def test_who_shares_is_told(shared: Path) -> None:
    (shared / "0.pid").write_text("1")
    (shared / "1.pid").write_text("")  # about to be written
    assert shared_metrics.sharing_pids() == [1, os.getpid()]


def test_who_counts_alone_reads_no_files() -> None:
    assert shared_metrics.shared_collector() is None
    assert shared_metrics.sharing_pids() == [os.getpid()]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        shared_metrics.share_metrics(tmp_path / "gone", 0)
    assert shared_metrics.shared_collector() is None
