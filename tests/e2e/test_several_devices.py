"""One chat model over two processes of a real worker: answers, and what a rank's end costs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.tree import FAST_LEASES, Tree, metric, wait_for

pytestmark = pytest.mark.timeout(180)

RANK = "models.engines.chat.parallel"
# Sampled hot and without eos, so that it takes seconds; the seed makes it repeatable
LONG_CHAT: dict[str, Any] = {
    "question": "Tell me a long story.",
    "do_sample": True,
    "temperature": 5.0,
    "top_k": 50,
    "seed": 3,
    "max_new_tokens": 400,
}


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory, random_weights: dict[str, str]) -> Iterator[Tree]:
    """Two chat workers, of two ranks each."""
    data_dir = tmp_path_factory.mktemp("parallel") / "data"
    variables = {"VISCPM_MODELS": "chat", "VISCPM_CHAT_WORKERS": "2", "VISCPM_CHAT_DEVICES": "cpu,cpu,cpu,cpu"}
    running = Tree(data_dir, **variables, **random_weights, **FAST_LEASES)
    try:
        yield running.wait_ready()
    finally:
        running.stop()


def _chat(tree: Tree, body: dict[str, Any]) -> httpx.Response:
    with tree.client(90) as client:
        return client.post("/chat", json=body)


def _at_work(tree: Tree) -> list[psutil.Process]:
    """The workers that have a job in hand, as their metrics tell."""
    with tree.client() as client:
        page = client.get("/metrics").text

    def has_job(worker: psutil.Process) -> bool:
        command = worker.cmdline()
        return metric(page, "viscpm_jobs_in_hand", worker=command[command.index("--worker-id") + 1]) > 0

    return [worker for worker in tree.processes("worker chat") if has_job(worker)]


def _rank_of(worker: psutil.Process) -> psutil.Process:
    (rank,) = [child for child in worker.children() if RANK in " ".join(child.cmdline())]
    return rank


def test_a_killed_rank_costs_a_worker_and_no_answer(parallel: Tree) -> None:
    wait_for(lambda: len(parallel.processes(RANK)) == 2, what="a second rank of each worker")
    undisturbed = _chat(parallel, LONG_CHAT).json()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_chat, parallel, LONG_CHAT)
        (victim,) = wait_for(lambda: _at_work(parallel), what="a worker at work")
        time.sleep(0.2)
        assert not waiting.done(), "too short to lose a rank in the middle"
        _rank_of(victim).kill()
        wait_for(lambda: not victim.is_running(), 10, "the end of the worker that lost its rank")
        answer = waiting.result(60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["answer"] == undisturbed["answer"]
    assert "rank 1 on cpu was killed by SIGKILL: the model over 2 devices is lost" in parallel.log
    assert "exited with 1; starting it again" in parallel.log


def test_no_rank_outlives_its_worker(parallel: Tree) -> None:
    wait_for(lambda: len(parallel.processes(RANK)) == 2, 60, "the replacement of what was lost")
    worker = parallel.processes("worker chat")[0]
    rank = _rank_of(worker)
    worker.kill()
    wait_for(lambda: not rank.is_running(), 5, "the end of its rank")


def test_a_stopped_service_leaves_none(parallel: Tree) -> None:
    ranks = parallel.processes(RANK)
    already = parallel.log.count("is lost")
    assert parallel.stop() == 0
    running = [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
    assert ranks and running == []
    assert parallel.log.count("is lost") == already, "an end that was asked for is no loss"
