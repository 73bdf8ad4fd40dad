"""Models in order, and several on one device; what is broken is in test_cli.py."""

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.jobs import Model
from service.core.settings import Settings
from service.doctor import checkpoints
from service.doctor.checkpoints import check_checkpoints


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CHAT", "PAINT"):
        monkeypatch.delenv(f"VISCPM_{kind}_WORKERS")


@pytest.mark.slow
def test_bundled_models_are_told_with_fingerprint_and_what_fits() -> None:
    found = check_checkpoints(Settings())
    assert [(one.check, one.level) for one in found] == [
        *[("chat", "ok")] * 2,
        *[("paint", "ok")] * 2,
        ("memory", "ok"),
    ]
    recorded = (bundled_checkpoint("chat") / "fingerprint").read_text().strip()
    assert f"Chat, 2.9 MiB, fingerprint {recorded[:16]}" in found[0].found
    assert found[1].found.startswith("fits cpu: ") and "float32: 3 layers 2.6 MiB + embedding" in found[1].found


def test_a_budget_that_is_too_small() -> None:
    found = check_checkpoints(Settings(models=("chat",), vram_budget=2**20))
    [told] = [one for one in found if one.level == "problem"]
    assert told.found.startswith("1.0 MiB are too little for chat; the least that works is ")
    assert told.fix.startswith("VISCPM_VRAM_BUDGET=") and " loads it as float32" in told.fix


def test_what_is_not_on_this_machine_is_not_examined() -> None:
    chat, paint = check_checkpoints(Settings(chat_workers=0, paint_engine="mine:create"))
    assert chat.found == "no worker on this machine (VISCPM_CHAT_WORKERS=0)"
    assert paint.level == "note" and "mine:create" in paint.found


def test_models_that_do_not_fit_together() -> None:
    surveys: dict[Model, dict[str, object]] = {
        kind: {"plan": "fits", "weights_bytes": 20 * 2**30, "device_bytes": 24 * 2**30}
        for kind in ("chat", "paint")  # type: ignore[misc]
    }
    settings = Settings(chat_device="cuda", paint_device="cuda")
    [told] = checkpoints._together(surveys, settings)
    assert told.found == "all weights on cuda are 40.00 GiB of 24.00 GiB"
    assert told.cause == "chat and paint fit there alone, not together" and "VISCPM_DEVICE_SHARING=turns" in told.fix
    assert checkpoints._together(surveys, settings.model_copy(update={"device_sharing": "turns"})) == []
    apart = checkpoints._together(surveys, settings.model_copy(update={"paint_device": "cuda:1"}))
    assert [one.level for one in apart] == ["ok", "ok"]


def test_without_torch() -> None:
    error = ModuleNotFoundError("No module named 'torch'", name="torch")
    told = checkpoints._no_torch(Settings(), error)
    assert told.level == "problem" and "torch" in told.found and "viscpm-service[serve]" in told.fix
    assert checkpoints._no_torch(Settings(redis_url="redis://h"), error).level == "note"
