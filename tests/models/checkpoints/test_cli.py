"""`viscpm checkpoint`: what it prints, and one line with an exit code for what fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from models.checkpoints.cli import main
from models.checkpoints.manifest import manifest


@pytest.mark.slow
def test_inspect_tells_what_a_checkpoint_is(
    chat_file: Path, chat_tensors: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(chat_file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "chat"
    assert told["llm"]["dim_model"] == 32
    assert told["vision"]["heads"] == 1
    assert (told["tensors"], told["unused"]) == (len(chat_tensors), 4)
    assert told["parameters"] == sum(tensor.numel() for tensor in chat_tensors.values())
    assert told["bytes"] == 2 * told["parameters"]
    assert told["dtypes"] == {"float16": len(chat_tensors)}
    assert main(["inspect", str(chat_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"parameters     {told['parameters']:,}" in lines
    assert f"fingerprint    {told['fingerprint']}" in lines


@pytest.mark.slow
def test_convert_then_inspect(paint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(paint_file), str(tmp_path / "to"), "--shard-size", "100KB"]) == 0
    digest = capsys.readouterr().out.split()[-1]
    assert len(list((tmp_path / "to").glob("*.safetensors"))) > 1
    assert main(["inspect", str(tmp_path / "to"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["fingerprint"]) == ("paint", digest)


@pytest.mark.slow
def test_convert_quantizes(chat_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(chat_file), str(tmp_path / "to"), "--quantize", "int8"]) == 0
    digest = capsys.readouterr().out.split()[-1]
    told = []
    for path in (tmp_path / "to", chat_file):
        assert main(["inspect", str(path), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [one["quantization"] for one in told] == ["int8", "off"]
    assert told[0]["fingerprint"] == digest != told[1]["fingerprint"]
    assert told[0]["bytes"] < told[1]["bytes"] and told[0]["parameters"] == told[1]["parameters"]
    assert main(["convert", str(tmp_path / "to"), str(tmp_path / "other"), "--quantize", "int4"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "quantized to int8 already, but int4 is wanted" in line


@pytest.mark.slow
def test_manifest_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "chat-zhplus"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {key: list(entry) for key, entry in manifest("chat-v1.1").items()}


@pytest.mark.parametrize("command", [["inspect", "no.pt"], ["convert", "no.pt", "to"]])
def test_a_failure_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.err == "viscpm checkpoint: no.pt: no such file or folder\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["manifest", "chat-v9"],
        ["fetch", "nothing"],
        ["convert", "a", "b", "--shard-size", "0"],
        ["convert", "a", "b", "--quantize", "int2"],
    ],
)
def test_wrong_flags_end_with_two(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "usage: viscpm checkpoint" in capsys.readouterr().err


@pytest.mark.own_process
def test_fetch_as_its_users_run_it(hub_with_chat: str, tmp_path: Path) -> None:
    """In a process of its own, with HF_ENDPOINT, from nothing to a listing with a progress bar."""
    command = [sys.executable, "-m", "models.checkpoints.cli", "fetch", "chat-v1.1", "--to", str(tmp_path)]
    # TQDM_POSITION makes the bar show although nobody looks at a terminal.
    environment = os.environ | {"HF_ENDPOINT": hub_with_chat, "HF_HOME": str(tmp_path / "home"), "TQDM_POSITION": "-1"}
    root = Path(__file__).parents[3]
    finished = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stderr
    assert f"{tmp_path / 'pytorch_model.v1.bin'}  200,000 bytes" in finished.stdout
    assert "pytorch_model.v1.bin: 100%" in finished.stderr
    assert "2 files of 0.2 MB, of which 0.2 MB are to come into" in finished.stderr
    refused = subprocess.run(
        [*command[:4], "chinese-clip", "--to", str(tmp_path)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("viscpm checkpoint: cannot fetch config.json; tried http://127.0.0.1")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.own_process
def test_a_killed_fetch_goes_on_through_a_proxy(new_hub: Callable[..., Any], tmp_path: Path) -> None:
    """The mirror's name is known to the proxy alone."""
    content = os.urandom(200_000)
    files = {"openbmb/VisCPM-Chat/pytorch_model.v1.bin": content, "openbmb/VisCPM-Chat/vocab.txt": b"<pad>"}
    code = "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 10_000\n"
    code += "import sys; from models.checkpoints.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "fetch", "chat-v1.1", "--to", str(tmp_path)]
    root = Path(__file__).parents[3]
    with new_hub(files) as proxy:
        own = {"http_proxy": proxy.url, "VISCPM_HUB": "http://mirror.invalid", "HF_HOME": str(tmp_path / "home")}
        cleared = {"no_proxy": "localhost", "NO_PROXY": "localhost"}
        environment = os.environ | cleared | own
        proxy.stall_after_bytes = 50_000
        with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.DEVNULL) as killed:
            deadline_s = time.monotonic() + 60
            while not (partials := list(tmp_path.glob("*.part"))) or partials[0].stat().st_size < 40_000:
                assert time.monotonic() < deadline_s and killed.poll() is None
                time.sleep(0.02)
            killed.kill()
        received = partials[0].stat().st_size
        proxy.stall_after_bytes = None
        finished = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=100)
        assert finished.returncode == 0, finished.stderr
        assert proxy.ranges("/storage/openbmb/VisCPM-Chat/pytorch_model.v1.bin")[-1] == f"bytes={received}-"
        assert any(path.startswith("http://mirror.invalid/openbmb/") for _, path, _ in proxy.requests)
    assert (tmp_path / "pytorch_model.v1.bin").read_bytes() == content
    assert not list(tmp_path.glob("*.part"))
