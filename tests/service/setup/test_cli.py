"""`viscpm setup` as people run it: by flags, on a terminal, and then the service with the file that it wrote."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from service.process.cli import main
from tests.e2e.tree import Tree

pytestmark = pytest.mark.own_process

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("VISCPM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.process_tree
def test_what_it_writes_starts(folder: Path) -> None:
    """With one small checkpoint, of the model that starts faster; and `viscpm doctor` finds the service in order."""
    assert main(["setup", "--models", "small-chat", "--card", "cpu", "--file", str(folder / "my.env")]) == 0
    variables = {"VISCPM_ENV_FILE": str(folder / "my.env"), "PYTHONPATH": str(ROOT)}
    tree = Tree(folder / "data", **variables)
    try:
        tree.wait_ready()
        with tree.client() as client:
            assert list(client.get("/health/ready").json()["models"]) == ["chat"]
        port = tree.url.rpartition(":")[2]
        set_up = {"VISCPM_DATA_DIR": str(folder / "data"), "VISCPM_PORT": port, "VISCPM_CHAT_WORKERS": "0"}
        ended = subprocess.run(
            [sys.executable, "-m", "service.doctor", "--json"],
            env=os.environ | variables | set_up,
            capture_output=True,
            text=True,
        )
    finally:
        tree.stop()
    report = json.loads(ended.stdout)
    assert ended.returncode == 0, report
    told = {finding["found"] for finding in report["findings"]}
    assert f"this service's API runs on {tree.url}" in told
    assert any("they agree: the queue's server (TIME) " in found and "the API (Date) " in found for found in told)
    assert {"name": "VISCPM_MODELS", "value": "chat", "source": "env file"} in report["settings"]


def test_real_checkpoints_come_with_the_command_that_brings_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--models", "chat-balance,paint-balance", "--card", "24g", "--source", "modelscope"]
    assert main(["setup", *flags]) == 0
    assert (folder / "viscpm.env").read_text().splitlines()[1:] == [
        "VISCPM_MODELS=chat,paint",
        "VISCPM_CHAT_CHECKPOINT=checkpoints/chat-balance",
        "VISCPM_PAINT_CHECKPOINT=checkpoints/paint-balance",
        "VISCPM_CHAT_DEVICE=cuda",
        "VISCPM_PAINT_DEVICE=cuda",
        "VISCPM_DEVICE_SHARING=turns",
    ]
    said = capsys.readouterr().out
    for name in ("chat-balance", "paint-balance"):
        assert f"\n  viscpm checkpoint fetch {name} --hub modelscope --to checkpoints/{name}\n" in said
    assert "\n  viscpm serve\n" in said
    assert main(["setup", *flags[:-1], "none", "--force"]) == 0
    assert "folders that have to hold the files, as these would bring them" in capsys.readouterr().out


def test_a_file_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "viscpm.env").write_text("VISCPM_PORT=9000\n")
    assert main(["setup", "--yes"]) == 1
    assert "viscpm.env is there already: --force writes it anew" in capsys.readouterr().err
    assert (folder / "viscpm.env").read_text() == "VISCPM_PORT=9000\n"
    assert main(["setup", "--yes", "--force"]) == 0
    assert "VISCPM_MODELS=chat,paint\n" in (folder / "viscpm.env").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--models", "chat"], "no model is called chat"),
        (["--yes", "--card", "huge"], "huge is no card"),
        (["--yes", "--models", "chat-v1.1", "--card", "2g"], "chat needs 4.4 GiB of a card, and there are 2.0"),
        (["--yes", "--models", "chat-v1.1", "--source", "ftp"], "ftp is no source"),
    ],
)
def test_wrong_flags(flags: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_without_a_terminal_nothing_is_asked(folder: Path) -> None:
    command = [sys.executable, "-m", "service.process.cli", "setup", "--models", "small"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("viscpm setup: --card is missing, and there is no terminal to ask on")


def test_three_questions_on_a_terminal(folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "service.process.cli", "setup"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, b"chat-v1.1\nhuge\n24g\nhttps://hf-mirror.com\n")
    said, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, said
    for words in ("1 of 3. Which models?", "2 of 3. Which card?", "huge is no card", "3 of 3. Where from?"):
        assert words in said
    assert "--hub https://hf-mirror.com --to checkpoints/chat-v1.1" in said
    assert "VISCPM_CHAT_CHECKPOINT=checkpoints/chat-v1.1\n" in (folder / "viscpm.env").read_text()
