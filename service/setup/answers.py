"""What is asked at set-up: which models, which card, which source. Each answer is checked where it is given."""

import re
from dataclasses import dataclass

from models.jobs import Model

CHAT = ("chat-balance", "chat-v1.1", "chat-zhplus")
PAINT = ("paint-balance", "paint-zhplus")
SMALL = "small"  # the bundled checkpoint of a model that no other name is given for
SMALL_ONES = (SMALL, "small-chat", "small-paint")
SOURCES = ("huggingface", "modelscope", "none")

_GIB = 2**30
_SIZE = re.compile(r"(\d+(?:\.\d+)?)g(?:b|ib)?", re.IGNORECASE)


class WrongAnswer(ValueError):
    """The message is one line: what was got, what is allowed."""


@dataclass(frozen=True)
class Answers:
    """Args:
    checkpoints: what each model runs; `small` is the bundled one.
    cards: memory of each GPU in bytes; none: the processor.
    source: `huggingface`, `modelscope`, the URL of a mirror, or `none`: the files are brought in another way.
    """

    checkpoints: dict[Model, str]
    cards: tuple[int, ...] = ()
    source: str = "huggingface"

    @property
    def published(self) -> list[str]:
        """Names of the checkpoints that have to be fetched."""
        return [name for name in self.checkpoints.values() if name != SMALL]


def read_models(text: str) -> dict[Model, str]:
    """`small`, or names separated by commas, at most one of each model. Raises WrongAnswer."""
    chosen: dict[Model, str] = {}
    for name in filter(None, (part.strip() for part in text.split(","))):
        for kind, checkpoint in _kinds(name):
            if kind in chosen:
                raise WrongAnswer(f"{text}: two checkpoints for {kind}, which runs one")
            chosen[kind] = checkpoint
    if not chosen:
        raise WrongAnswer(f"no model is named; {_allowed()}")
    return chosen


def _kinds(name: str) -> list[tuple[Model, str]]:
    if name in SMALL_ONES:
        kind = name.removeprefix(f"{SMALL}-")
        return (
            [("chat", SMALL)]
            if kind == "chat"
            else [("paint", SMALL)]
            if kind == "paint"
            else [
                ("chat", SMALL),
                ("paint", SMALL),
            ]
        )
    if name in CHAT:
        return [("chat", name)]
    if name in PAINT:
        return [("paint", name)]
    raise WrongAnswer(f"no model is called {name}; {_allowed()}")


def _allowed() -> str:
    return (
        f"allowed: {', '.join((*SMALL_ONES, *CHAT, *PAINT))}, and one of chat with one of paint: chat-v1.1,small-paint"
    )


def read_cards(text: str, found: tuple[int, ...]) -> tuple[int, ...]:
    """`cpu`, `gpu` (those of this machine, `found`), or memory of each, as `24g` or `24g,24g`. Raises WrongAnswer."""
    if text == "cpu":
        return ()
    if text == "gpu":
        if not found:
            raise WrongAnswer("no GPU was found on this machine: say its memory, such as 24g, or cpu")
        return found
    sizes = [_SIZE.fullmatch(part.strip()) for part in text.split(",")]
    if not all(size and float(size[1]) for size in sizes):
        raise WrongAnswer(f"{text} is no card: cpu, gpu, or its memory such as 24g (of two: 24g,24g)")
    return tuple(int(float(size[1]) * _GIB) for size in sizes if size)


def read_source(text: str) -> str:
    """Raises WrongAnswer."""
    if text in SOURCES or text.startswith(("http://", "https://")):
        return text
    raise WrongAnswer(f"{text} is no source: {', '.join(SOURCES)} or the URL of a mirror are allowed")
