"""Starting and stopping: clear lines for what cannot start, and no process left behind, however it ends."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.tree import Tree, paused, wait_for

pytestmark = pytest.mark.timeout(180)

# Roles without a model: they start in a second. The workers come from outside, so the tree waits for them.
NO_WORKERS = {"VISCPM_CHAT_WORKERS": "0", "VISCPM_PAINT_WORKERS": "0", "VISCPM_CHAT_CHECKPOINT": "none"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(tmp_path: Path, number: signal.Signals) -> None:
    tree = Tree(tmp_path / "data", "--models", "chat", **NO_WORKERS)
    wait_for(lambda: tree.processes("valkey-server") and tree.processes(" api "), what="server and API")
    family = tree.processes()
    code = tree.stop(number) if number != signal.SIGKILL else _kill(tree)
    assert code == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    wait_for(lambda: not [one for one in family if _is_alive(one)], 5, "the end of every process")
    if number != signal.SIGKILL:
        assert tree.log.rstrip().endswith("stopped")


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "data", "--models", "chat", **NO_WORKERS)
    apis = wait_for(lambda: tree.processes(" api "), what="an API process")
    family = tree.processes()
    with paused(apis):  # it will not drain: the supervisor would wait for VISCPM_DRAIN_S and more
        tree.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "stopping" in tree.log, 5, "the first signal's line")
        assert tree.stop(signal.SIGINT, limit_s=10) == 0
    wait_for(lambda: not [one for one in family if _is_alive(one)], 5, "the end of every process")


def _kill(tree: Tree) -> int:
    tree.process.kill()
    return tree.process.wait(10)


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_dead_api_is_started_again_on_the_same_port(tree: Tree) -> None:
    (api,) = tree.processes(" api ")
    api.kill()
    wait_for(lambda: [one for one in tree.processes(" api ") if one.pid != api.pid], what="another API process")
    with tree.client() as client:  # connections made meanwhile wait in the shared socket
        assert client.get("/health/live").status_code == 200
    rss = tree.processes(" api ")[0].memory_info().rss
    assert rss < 150 * 2**20, f"{rss / 2**20:.0f} MiB at start"


def test_a_dead_server_is_started_again_with_its_data(tree: Tree) -> None:
    with tree.client() as client:
        talk = client.post("/chat", json={"question": "hello", "max_new_tokens": 4, "num_beams": 1}).json()
        time.sleep(1.2)  # everysec
        (server,) = tree.processes("valkey-server")
        server.kill()
        again = {"question": "and?", "max_new_tokens": 4, "num_beams": 1, "conversation_id": talk["conversation_id"]}
        wait_for(lambda: client.post("/chat", json=again).status_code == 200, 20, "an answer after the restart")
    assert len(tree.processes("valkey-server")) == 1


def test_a_second_tree_on_the_same_folder_is_refused(tree: Tree) -> None:
    data_dir = tree.log_path.with_suffix("")
    _assert_refused(["--port", "0", "--data-dir", str(data_dir)], "in use by another viscpm")


def test_a_busy_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        _assert_refused(["--port", str(port), "--data-dir", str(tmp_path)], f"cannot listen on 127.0.0.1:{port}")


def _assert_refused(flags: list[str], message: str, **variables: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "service.process.cli", "serve", *flags], capture_output=True, text=True, timeout=60
    )
    errors = [line for line in process.stderr.splitlines() if " ERROR " in line]
    assert process.returncode == 1, process.stderr
    assert len(errors) == 1 and message in errors[0], process.stderr


def test_a_bad_checkpoint_ends_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "broken.pt"
    bad.write_bytes(b"these are no weights")
    tree = Tree(tmp_path / "data", "--models", "chat", VISCPM_CHAT_CHECKPOINT=str(bad))
    assert tree.process.wait(60) == 1
    errors = [line for line in tree.log.splitlines() if " ERROR " in line]
    assert "broken.pt" in errors[0], tree.log
    assert "chat worker 0 exited with" in errors[1], tree.log
    assert len(errors) == 2 and "Traceback" not in tree.log
