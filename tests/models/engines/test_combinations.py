"""Settings that exclude each other, named before anything is loaded."""

from typing import Any

import pytest

from models.engines.combinations import refuse_unsupported
from models.jobs import DeviceTurns, EngineConfig

CHOICES: dict[str, tuple[dict[str, Any], str]] = {
    "devices": ({"devices": ("cpu", "cpu")}, "VISCPM_CHAT_DEVICES"),
    "turns": ({"turns": DeviceTurns()}, "VISCPM_DEVICE_SHARING=turns"),
    "streamed": ({"offload": "streamed"}, "VISCPM_OFFLOAD=streamed"),
    "int8": ({"quantization": "int8"}, "VISCPM_CHAT_QUANTIZATION=int8"),
}


@pytest.mark.parametrize(
    "names", [("devices", "turns"), ("devices", "streamed"), ("devices", "int8"), ("turns", "streamed")]
)
def test_two_that_exclude_each_other_are_named(names: tuple[str, str]) -> None:
    fields = {name: value for one in names for name, value in CHOICES[one][0].items()}
    with pytest.raises(ValueError, match="do not go together") as refused:
        refuse_unsupported(EngineConfig(kind="chat", checkpoint="", **fields))
    assert all(CHOICES[one][1] in str(refused.value) for one in names) and "\n" not in str(refused.value)


@pytest.mark.parametrize("names", [(), ("devices",), ("turns",), ("streamed",), ("int8",), ("turns", "int8")])
def test_others_pass(names: tuple[str, ...]) -> None:
    fields = {name: value for one in names for name, value in CHOICES[one][0].items()}
    refuse_unsupported(EngineConfig(kind="chat", checkpoint="", **fields))
