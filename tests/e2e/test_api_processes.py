"""Several API processes behind one port: whichever a scrape reaches tells of all of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.tree import FAST_LEASES, Tree, metric, paused, wait_for

pytestmark = pytest.mark.timeout(180)

ENGINES = {f"VISCPM_{kind}_ENGINE": "tests.service.engines:create_engine" for kind in ("CHAT", "PAINT")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Two API processes, an open gate, and engines that only play."""
    data_dir: Path = tmp_path_factory.mktemp("pair") / "data"
    running = Tree(data_dir, "--models", "chat", "--api-processes", "2", **ENGINES, **FAST_LEASES)
    try:
        yield running.wait_ready()
    finally:
        running.stop()


def apis(tree: Tree) -> list[psutil.Process]:
    return sorted(tree.processes(" api "), key=lambda one: int(one.cmdline()[-1]))


def ask(tree: Tree, others: list[psutil.Process], path: str = "/chat") -> httpx.Response:
    """One request, answered by the process that is not among `others`."""
    with paused(others), tree.client() as client:
        if path == "/chat":
            return client.post(path, json={"question": "echo hello"})
        return client.get(path)


def pages(tree: Tree) -> list[str]:
    """What each process shows, after all that was counted before."""
    first, second = apis(tree)
    return [ask(tree, [other], "/metrics").text for other in (second, first)]


def test_each_scrape_shows_all_requests_whichever_process_answers(pair: Tree) -> None:
    first, second = apis(pair)
    for others, count in (([second], 3), ([first], 4)):
        for _ in range(count):
            assert ask(pair, others).status_code == 200
            for page in pages(pair):
                assert metric(page, "viscpm_requests_total", route="/chat", outcome="ok") == _asked(page)
    for page in pages(pair):
        assert _asked(page) == 7
        assert metric(page, "viscpm_e2e_request_latency_seconds_count", route="/chat") == 7
        assert metric(page, "viscpm_jobs", model="chat", state="accepted") == 7  # not twice
        told_bytes = metric(page, "viscpm_process_resident_memory_bytes")
        assert told_bytes == pytest.approx(sum(one.memory_info().rss for one in apis(pair)), rel=0.1)
        families = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
        assert len(families) == len(set(families))
    names = {int(match) for match in re.findall(r"viscpm-metrics-\S+ --number (\d)", _commands(pair))}
    assert names == {0, 1}


def _asked(page: str) -> float:
    return metric(page, "viscpm_jobs", model="chat", state="done")


def _commands(tree: Tree) -> str:
    return "\n".join(" ".join(one.cmdline()) for one in apis(tree))


def test_a_process_that_is_started_again_takes_no_counter_back(pair: Tree) -> None:
    for other in apis(pair):
        ask(pair, [other])
    before = _counters(pages(pair)[0])
    dead = apis(pair)[0]
    dead.kill()
    between = _counters(ask(pair, [], "/metrics").text)  # the other one, or the new one
    wait_for(lambda: len(apis(pair)) == 2 and dead.pid not in {one.pid for one in apis(pair)}, what="a new process")
    wait_for(lambda: _listens(pair), what="the new process' first answer")
    for page in pages(pair):
        after = _counters(page)
        assert before.keys() <= between.keys() <= after.keys()
        assert [name for name in before if not before[name] <= between[name] <= after[name]] == []


def _listens(tree: Tree) -> bool:
    """Whether the new process answers, the other one standing still."""
    first, second = apis(tree)
    try:
        with paused([second]), tree.client(timeout_s=1.0) as client:
            return client.get("/health/live").status_code == 200
    except httpx.TimeoutException:
        return False


def _counters(page: str) -> dict[str, float]:
    """Samples of the API processes that only grow; the workers' have labels of their own."""
    lines = re.findall(r"^(viscpm_\w+(?:_total|_bucket|_count|_sum)(?:\{.*\})?) (\S+)$", page, re.MULTILINE)
    return {name: float(value) for name, value in lines if "worker=" not in name}


def test_the_folder_of_the_counts_is_gone_with_the_tree(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    no_workers = {"VISCPM_CHAT_WORKERS": "0", "VISCPM_CHAT_CHECKPOINT": "none", "TMPDIR": str(temporary)}
    tree = Tree(tmp_path / "data", "--models", "chat", "--api-processes", "2", **no_workers)
    try:
        wait_for(lambda: list(temporary.glob("viscpm-metrics-*/*.db")), what="the folder of counts")
    finally:
        assert tree.stop() == 0
    assert list(temporary.glob("viscpm-*")) == []
