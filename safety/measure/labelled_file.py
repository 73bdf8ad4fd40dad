"""A file of labelled texts, one JSON object a line, and long harmless texts made of its lines."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from safety.verdict import Stage

Kind = Literal["request", "picture"]

# Where a service judges texts of that kind
STAGES: dict[Kind, Stage] = {"request": "question", "picture": "prompt"}
JOINED_TEXTS = 200  # for each language, kind and length

_Words = Annotated[str, msgspec.Meta(min_length=1)]


class MalformedLine(ValueError):
    """A file is no set of labelled texts; the message names the line, what is wrong and what is allowed."""


class LabelledText(msgspec.Struct, frozen=True):
    """One line. Fields that are not named here are passed over: public sets say where theirs come from.

    Attributes:
        truth: `unsafe` or true, `safe` or false.
        kind: `request` to a chat model, or `picture`, a prompt for one that is to be painted.
    """

    lang: _Words
    truth: Literal["unsafe", "safe"] | bool
    category: str
    text: _Words
    kind: Kind = "request"

    @property
    def is_unsafe(self) -> bool:
        return self.truth in ("unsafe", True)


def read_labelled_file(path: Path) -> list[LabelledText]:
    """The file's texts; empty lines are passed over.

    Raises:
        MalformedLine: for the first line that is wrong, and for a file without any.
        OSError: it cannot be read.
    """
    texts = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            texts.append(msgspec.json.decode(line, type=LabelledText))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedLine(
                f"{path}, line {number}: {error}; a line is a JSON object with lang, truth (safe or unsafe), category, "
                "text and perhaps kind (request or picture)"
            ) from error
    if not texts:
        raise MalformedLine(f"{path}: no line in it")
    return texts


def joined(texts: Sequence[LabelledText], length_chars: int, seed: int) -> Iterator[LabelledText]:
    """Harmless lines of one language and kind, put together with spaces to at least `length_chars` characters each.

    The category is `joined to N`. Lines are drawn without putting back until all were used, then anew.
    """
    harmless: dict[tuple[str, Kind], list[str]] = {}
    for one in texts:
        if not one.is_unsafe:
            harmless.setdefault((one.lang, one.kind), []).append(one.text)
    draw = random.Random(seed)
    for (lang, kind), lines in sorted(harmless.items()):
        left: list[str] = []
        for _ in range(JOINED_TEXTS):
            parts: list[str] = []
            length = 0
            while length <= length_chars:  # with the space behind the last one
                if not left:
                    left = draw.sample(lines, len(lines))
                parts.append(left.pop())
                length += len(parts[-1]) + 1
            yield LabelledText(lang, "safe", f"joined to {length_chars}", " ".join(parts)[:length_chars], kind)
