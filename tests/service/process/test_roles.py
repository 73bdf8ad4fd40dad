"""`serve`, `api` and `worker`: one line and exit code 2 for what is wrong, flags before variables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.process import cli


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "HOST", "PORT", "MODELS", "LEASE_S", "AUTH"):
        monkeypatch.delenv(f"VISCPM_{name}", raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "many"], "VISCPM_PORT=many"),
        (["serve", "--port", "70000"], "VISCPM_PORT=70000"),
        (["serve", "--models", "chat,draw"], "VISCPM_MODELS=draw"),
        (["worker", "sing"], "invalid choice: 'sing'"),
        (["worker", "chat"], "VISCPM_REDIS_URL is not set"),
        (["api"], "VISCPM_REDIS_URL is not set"),
        (["serve", "--host", "0.0.0.0"], "VISCPM_HOST=0.0.0.0 can be asked from elsewhere"),
        (["api", "--host", "::"], "VISCPM_HOST=:: can be asked from elsewhere, and VISCPM_AUTH does not say how: on"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    output = capfd.readouterr()
    assert code == 2
    assert message in output.err and output.err.count("\n") == 1 and output.err.startswith("viscpm")


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VISCPM_QUEUE_SIZE", "0")
    assert cli.main(["serve"]) == 2
    assert "VISCPM_QUEUE_SIZE=0" in capsys.readouterr().err


@pytest.mark.parametrize("role", [["api"], ["worker", "chat"]])
def test_a_misspelt_variable_is_named_at_start(
    role: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISCPM_REDIS_ULR", "redis://redis:6379")
    assert cli.main(role) == 2
    warning, refusal = capfd.readouterr().err.splitlines()
    assert "WARNING" in warning and "VISCPM_REDIS_ULR (did you mean VISCPM_REDIS_URL?): ignored" in warning
    assert "VISCPM_REDIS_URL is not set" in refusal


def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CUDA_MEMORY_CPMBEE_MAX", "much")
    assert cli.main(["serve"]) == 2
    assert "CUDA_MEMORY_CPMBEE_MAX=much: must be a whole number of GiB" in capsys.readouterr().err


@pytest.mark.slow
def test_what_ends_a_role_is_a_json_line_where_lines_are() -> None:
    command = [sys.executable, "-m", "service.process.cli", "worker", "chat", "--log-format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    told = json.loads(ended.stderr)
    assert ended.returncode == 2
    assert (told["level"], told["role"]) == ("error", "worker chat") and "VISCPM_REDIS_URL" in told["message"]


def test_a_key_that_cannot_sign_ends_the_start_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("KEY", "CERT"):
        monkeypatch.setenv(f"VISCPM_C2PA_{name}_FILE", str(tmp_path / name))
        (tmp_path / name).write_text("no PEM")
    assert cli.main(["serve", "--port", "0"]) == 2
    assert capfd.readouterr().err == f"viscpm: VISCPM_C2PA_KEY_FILE={tmp_path}/KEY: no private key in PEM\n"
