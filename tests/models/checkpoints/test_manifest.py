"""The full-size models: SPEC §12's counts, and the reference's lists where they are at hand."""

import json
from math import prod
from pathlib import Path

import pytest

from models.checkpoints.manifest import KINDS, manifest
from models.checkpoints.published_names import UNUSED_IN_CHAT

REFERENCE = Path(__file__).parents[4] / "shared" / "manifests"


def count(entries: dict[str, tuple[list[int], str]], prefix: str = "") -> int:
    return sum(prod(shape) for name, (shape, _) in entries.items() if name.startswith(prefix))


@pytest.mark.slow
def test_the_chat_models_counts() -> None:
    entries = manifest("chat-v1.1")
    assert len(entries) == 1413
    assert count(entries) == 10_318_225_408
    used = count({name: entry for name, entry in entries.items() if name not in UNUSED_IN_CHAT})
    assert used == 10_244_282_368 - 1024  # SPEC counts the mask token in
    assert count(entries, "llm.") == 9_616_080_896
    assert count(entries, "llm.encoder.layers.") == 9_261_416_448
    assert count(entries, "query") == 65_536
    assert {dtype for _, dtype in entries.values()} == {"float16"}


@pytest.mark.slow
def test_the_paint_models_counts() -> None:
    entries = manifest("paint-balance")
    assert len(entries) == 1124
    assert count(entries, "unet.") == 865_910_724
    assert count(entries, "trans_block.") == 4_196_352
    assert count(entries, "llm.") == 9_616_080_896
    halves = {name for name, (_, dtype) in entries.items() if dtype == "float16"}
    assert halves == {name for name in entries if name.startswith("llm.")}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_all_published_checkpoints_of_a_kind_have_one_layout(name: str) -> None:
    assert manifest(name) == manifest("chat-v1.1" if KINDS[name] == "chat" else "paint-balance")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [("chat-v1.1", "chat_full.json"), ("paint-balance", "paint_full.json")])
def test_the_reference_lists_the_same(name: str, file: str) -> None:
    if not (REFERENCE / file).is_file():
        pytest.skip(f"reference data: no {REFERENCE / file}")
    expected = json.loads((REFERENCE / file).read_text())
    assert {key: list(entry) for key, entry in manifest(name).items()} == expected
