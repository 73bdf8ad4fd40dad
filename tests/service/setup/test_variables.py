"""Settings for cards of all sizes; each set is one that settings allow."""

from pathlib import Path

import pytest

from service.core.settings import read_settings
from service.setup.answers import Answers, WrongAnswer
from service.setup.variables import fetch_commands, variables_of

FOLDER = Path("checkpoints")
GIB = 2**30


def variables(models: dict[str, str], *cards_gib: float) -> dict[str, str]:
    answers = Answers(models, tuple(int(size * GIB) for size in cards_gib))  # type: ignore[arg-type]
    return {name.removeprefix("VISCPM_"): value for name, value in variables_of(answers, FOLDER).items()}


CHAT = {"chat": "chat-balance"}
PAINT = {"paint": "paint-balance"}
BOTH = CHAT | PAINT
CHAT_ON = {"CHAT_CHECKPOINT": "checkpoints/chat-balance", "CHAT_DEVICE": "cuda"}
PAINT_ON = {"PAINT_CHECKPOINT": "checkpoints/paint-balance", "PAINT_DEVICE": "cuda"}


@pytest.mark.parametrize(
    ("models", "cards", "expected"),
    [
        ({"chat": "small", "paint": "small"}, [], {"MODELS": "chat,paint"}),
        ({"chat": "small"}, [2], {"MODELS": "chat", "CHAT_DEVICE": "cuda"}),
        (CHAT, [], {"MODELS": "chat", "CHAT_CHECKPOINT": "checkpoints/chat-balance"}),
        (CHAT, [24], {"MODELS": "chat", **CHAT_ON}),
        (CHAT, [8], {"MODELS": "chat", **CHAT_ON, "VRAM_BUDGET": "7782m"}),
        (BOTH, [24], {"MODELS": "chat,paint", **CHAT_ON, **PAINT_ON, "DEVICE_SHARING": "turns"}),
        (BOTH, [12], {"MODELS": "chat,paint", **CHAT_ON, **PAINT_ON, "VRAM_BUDGET": "5836m"}),
        (BOTH, [80], {"MODELS": "chat,paint", **CHAT_ON, **PAINT_ON, "VRAM_BUDGET": "38912m"}),
        (
            BOTH,
            [24, 24],
            {"MODELS": "chat,paint", **CHAT_ON, **PAINT_ON, "CHAT_DEVICE": "cuda:0", "PAINT_DEVICE": "cuda:1"},
        ),
    ],
)
def test_what_fits(
    models: dict[str, str], cards: list[float], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = variables(models, *cards)
    assert found == expected
    for name, value in found.items():
        monkeypatch.setenv(f"VISCPM_{name}", value)
    assert ",".join(read_settings().models) == expected["MODELS"]


@pytest.mark.parametrize(("models", "card"), [(CHAT, 4), (BOTH, 8), (PAINT, 3.5)])
def test_cards_that_are_too_small(models: dict[str, str], card: float) -> None:
    with pytest.raises(WrongAnswer, match=r"^(chat|paint) needs 4\.\d GiB of a card, and there are \d\.\d for it"):
        variables(models, card)


def test_commands() -> None:
    def commands(source: str) -> list[str]:
        return fetch_commands(Answers({"chat": "chat-v1.1", "paint": "small"}, (), source), FOLDER)

    assert commands("huggingface") == ["viscpm checkpoint fetch chat-v1.1 --to checkpoints/chat-v1.1"]
    assert commands("modelscope") == ["viscpm checkpoint fetch chat-v1.1 --hub modelscope --to checkpoints/chat-v1.1"]
    assert commands("https://m.org") == [
        "viscpm checkpoint fetch chat-v1.1 --hub https://m.org --to checkpoints/chat-v1.1"
    ]
