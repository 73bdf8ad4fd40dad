"""The supervisor's own decisions; what its tree does is in tests/e2e."""

import asyncio
import logging
import sys
import time
from pathlib import Path

import pytest

from service.core.settings import read_settings
from service.process import supervisor
from service.process.supervisor import Supervisor


def test_backoff_grows_and_a_steady_life_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    child = supervisor._Child("worker", lambda: [], {})
    child._started_s = time.monotonic()
    assert [child.next_backoff_s() for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    child._started_s = time.monotonic() - 61
    assert child.next_backoff_s() == 0


async def test_a_child_s_end_is_told_in_words() -> None:
    for code, words in (("sys.exit(3)", "exited with 3"), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL")):
        child = supervisor._Child("one", lambda code=code: [sys.executable, "-c", f"import os, sys; {code}"], {})
        child.spawn()
        assert await child.ended() == words


def test_each_worker_has_a_new_id_and_knows_its_predecessor(tmp_path: Path) -> None:
    async def commands() -> list[list[str]]:
        tree = Supervisor(read_settings(data_dir=tmp_path), {})
        worker = tree._worker("chat", 0)
        return [worker._command(), worker._command(), worker._command()]

    first, second, third = asyncio.run(commands())
    ids = [command[command.index("--worker-id") + 1] for command in (first, second, third)]
    assert len(set(ids)) == 3 and "--predecessor" not in first
    assert second[second.index("--predecessor") + 1] == ids[0]
    assert third[third.index("--predecessor") + 1] == ids[1]


def test_flags_reach_the_children_as_variables() -> None:
    assert supervisor._variables({"port": "0", "models": ("chat", "paint")}) == {
        "VISCPM_PORT": "0",
        "VISCPM_MODELS": "chat,paint",
    }


async def test_one_metrics_port_for_several_workers_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = read_settings(data_dir=tmp_path, port=0, worker_metrics_port=9100)
    with caplog.at_level(logging.ERROR):
        assert await Supervisor(settings, {}).run() == 1
    assert "VISCPM_WORKER_METRICS_PORT=9100 is one port for 3 workers" in caplog.text


async def test_each_chat_worker_gets_its_own_devices(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = read_settings(data_dir=tmp_path, port=0, chat_workers=2, chat_devices="cuda:0,cuda:1,cuda:2")
    with caplog.at_level(logging.ERROR):
        assert await Supervisor(settings, {}).run() == 1
    assert "VISCPM_CHAT_DEVICES=cuda:0,cuda:1,cuda:2: 3 devices for 2 workers" in caplog.text

    tree = Supervisor(settings, {})
    tree._chat_devices = [("cuda:0",), ("cuda:1", "cuda:2")]
    workers = [tree._worker("chat", 0), tree._worker("chat", 1), tree._worker("paint", 0)]
    devices = [worker._environment.get("VISCPM_CHAT_DEVICES") for worker in workers]
    assert devices == ["cuda:0", "cuda:1,cuda:2", None]
