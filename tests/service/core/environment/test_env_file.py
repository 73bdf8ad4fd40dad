"""Where settings come from that the environment does not set."""

from pathlib import Path

import pytest

from service.core.environment.env_file import env_file, env_file_variables
from service.core.settings import SettingsError, read_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ENV_FILE", "PORT", "MODELS", "LOG_LEVEL"):
        monkeypatch.delenv(f"VISCPM_{name}", raising=False)
    return tmp_path


def test_the_file_of_the_folder_is_read_where_there_is_one(folder: Path) -> None:
    assert env_file({}) is None
    assert env_file_variables({}) == {}
    (folder / "viscpm.env").write_text('# a comment\nVISCPM_PORT=9000\nVISCPM_MODELS="chat"\nVISCPM_LOG_LEVEL\n')
    assert env_file_variables({}) == {"VISCPM_PORT": "9000", "VISCPM_MODELS": "chat"}
    assert env_file({"VISCPM_ENV_FILE": ""}) is None


def test_a_named_one_has_to_be_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_ENV_FILE", "other.env")
    with pytest.raises(SettingsError, match=r"^VISCPM_ENV_FILE=other\.env: there is no such file$"):
        read_settings()
    (folder / "other.env").write_text("VISCPM_PORT=9001\nCUDA_MEMORY_CPMBEE_MAX=2g\n")
    assert (read_settings().port, read_settings().cpmbee_max_bytes) == (9001, 2 * 2**30)


def test_the_environment_wins_over_the_file_and_flags_over_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "viscpm.env").write_text("VISCPM_PORT=9000\nVISCPM_MODELS=chat\n")
    monkeypatch.setenv("VISCPM_PORT", "9002")
    assert (read_settings().port, read_settings().models) == (9002, ("chat",))
    assert read_settings(port=9003).port == 9003
    assert {"port", "models"} <= read_settings().model_fields_set


def test_what_is_wrong_there_is_named(folder: Path) -> None:
    (folder / "viscpm.env").write_text("VISCPM_PORT=many\n")
    with pytest.raises(SettingsError, match="VISCPM_PORT=many: Input should be a valid integer"):
        read_settings()
