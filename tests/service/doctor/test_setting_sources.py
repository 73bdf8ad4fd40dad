"""Where each setting comes from, and what is wrong with it."""

from pathlib import Path

import pytest

from service.core.settings import Settings
from service.doctor.setting_sources import check_settings, setting_sources


@pytest.mark.slow
def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "viscpm.env").write_text("VISCPM_LOG_LEVEL=debug\nVISCPM_PORT=9000\nCUDA_MEMORY_CPMBEE_MAX=2g\n")
    monkeypatch.setenv("VISCPM_REDIS_URL", "redis://ann:secret@example.org:6380/2")
    monkeypatch.setenv("viscpm_api_key", "vk-secret")
    settings, findings = check_settings()
    assert settings is not None
    assert findings[-1].found.endswith("all others as by default; env file viscpm.env")
    sources = {one.name: (one.value, one.source) for one in setting_sources(settings, is_all=True)}
    assert len(sources) == len(Settings.model_fields)
    assert sources["VISCPM_LOG_LEVEL"] == ("debug", "env file")
    assert sources["VISCPM_PORT"] == ("0", "environment"), "it wins"
    assert sources["CUDA_MEMORY_CPMBEE_MAX"] == ("2g", "env file")
    assert sources["VISCPM_REDIS_URL"] == ("redis://example.org:6380", "environment")
    assert sources["VISCPM_API_KEY"] == ("…", "environment")
    assert sources["VISCPM_MODELS"] == ("chat,paint", "default")
    assert sources["VISCPM_STRICT_PICTURES"] == ("false", "default")
    assert "default" not in {one.source for one in setting_sources(settings, is_all=False)}


def test_an_env_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_ENV_FILE", "nowhere.env")
    settings, [told] = check_settings()
    assert settings is None
    assert told.found == "VISCPM_ENV_FILE=nowhere.env: there is no such file" and "viscpm setup" in told.fix


def test_what_is_wrong_or_misspelt_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "viscpm.env").write_text("VISCPM_LOG_LEVEL=loud\nVISCPM_MODLES=chat\n")
    settings, findings = check_settings()
    assert settings is None
    misspelt, wrong = findings
    assert misspelt.fix == "rename VISCPM_MODLES to VISCPM_MODELS"
    assert wrong.found.startswith("VISCPM_LOG_LEVEL=loud: ") and "(env file)" in wrong.cause


def test_settings_that_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_LEASE_S", "2")
    settings, [told] = check_settings()
    assert settings is None and "VISCPM_LEASE_RENEW_S=5 must be at most half" in told.found
