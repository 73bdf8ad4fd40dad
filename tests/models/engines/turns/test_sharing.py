"""How models come onto a device, and what the log says about what fits there."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models.engines.device import DeviceUnusable
from models.engines.turns.device_queue import Place, QueueUnusable
from models.engines.turns.sharing import OwnDevice, SharedDevice, open_device, told_alone, told_in_turns
from models.jobs import DeviceTurns, EngineConfig
from tests.models.engines.turns.sides import Side

CPU = torch.device("cpu")
GB = 10**9


def test_a_device_of_its_own_is_loaded_onto_at_once() -> None:
    place = open_device(EngineConfig(kind="chat", checkpoint=""), lambda name, value: None)
    assert isinstance(place, OwnDevice) and place.load_device == place.device == CPU


def test_a_device_that_is_not_there_is_refused() -> None:
    turns = DeviceTurns()
    for config in (EngineConfig(kind="chat", checkpoint="", device="tpu", turns=one) for one in (None, turns)):
        with pytest.raises(DeviceUnusable, match="'tpu' is unknown"):
            open_device(config, lambda name, value: None)


def test_a_folder_that_cannot_be_used_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = EngineConfig(kind="chat", checkpoint="", turns=DeviceTurns(lock_dir=str(tmp_path / "file")))
    with pytest.raises(QueueUnusable, match="of device locks cannot be used"):
        open_device(config, lambda name, value: None)


def test_a_model_waits_in_host_memory_until_it_is_its_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observed: list[tuple[str, float]] = []
    config = EngineConfig(kind="paint", checkpoint="", turns=DeviceTurns(lock_dir=str(tmp_path)))
    first = open_device(config, lambda name, value: None)
    second = open_device(config, lambda name, value: observed.append((name, value)))
    assert isinstance(first, SharedDevice) and isinstance(second, SharedDevice)
    assert second.load_device == CPU
    model, other = nn.Linear(8, 8), nn.Linear(8, 8)
    first.begin(other)
    where = model.weight.data_ptr()
    with caplog.at_level(logging.INFO):
        waiting = threading.Thread(target=second.begin, args=[model], daemon=True)
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive() and model.weight.data_ptr() == where
        assert observed == [("device_held", 0), ("device_waiting", 0), ("device_waiting", 1)]
        first._turn.release()
        waiting.join(5)
    assert not waiting.is_alive() and model.weight.data_ptr() != where, "it lies in memory that can be freed"
    (waited_s,) = [value for name, value in observed if name == "device_wait_s"]
    assert 0.29 < waited_s < 5 and ("device_held", 1) in observed
    assert "beside paint of 0.00 GB" in caplog.text and "s for cpu" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_the_log_says_what_fits(
    kind: str, make_side: Callable[..., Side], checkpoints: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        Side(kind, checkpoints, None)  # type: ignore[arg-type]
        make_side(kind)
    alone, shared = [message for message in caplog.messages if "weights of" in message]
    assert alone.startswith(f"{kind} keeps cpu: weights of 0.00 GB of ")
    assert shared.startswith(f"{kind} takes turns on cpu: weights of 0.00 GB of ")


@pytest.mark.parametrize(("total", "said"), [(24, "does not fit beside it"), (48, "fits beside it")])
def test_whether_another_one_of_its_size_fits(total: int, said: str) -> None:
    line = told_alone("chat", CPU, 21 * GB, total * GB)
    assert line.startswith(f"chat keeps cpu: weights of 21.00 GB of {total}.00 GB, {total - 21}.00 GB left")
    assert said in line and "\n" not in line
    assert ("VISCPM_DEVICE_SHARING=turns" in line) == (total == 24)


@pytest.mark.parametrize(
    ("others", "total", "said"),
    [
        ([], 24, "beside no other worker yet; whether turns are needed shows when the next one comes"),
        ([Place("chat", 21 * GB)], 24, "beside chat of 21.00 GB; together they do not fit: turns are needed"),
        ([Place("chat", 21 * GB)], 80, "together 44.00 GB: the weights fit at once, and VISCPM_DEVICE_SHARING=off"),
    ],
)
def test_whether_turns_are_needed(others: list[Place], total: int, said: str) -> None:
    line = told_in_turns("paint", CPU, 23 * GB, others, total * GB)
    assert line.startswith(f"paint takes turns on cpu: weights of 23.00 GB of {total}.00 GB")
    assert said in line and "\n" not in line
