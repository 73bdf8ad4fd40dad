"""Conversations in LLaVA's JSON layout, all of their rounds (SPEC §9; §11.15 and §11.17 fixed).

```
[{"id": "1", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat is this?"},
                                                 {"from": "gpt", "value": "A cat."}, ...]}, ...]
```
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageOps

from models.datasets.augment import augment
from models.datasets.examples import Conversation, PixelArray, Round

logger = logging.getLogger(__name__)

IMAGE_MARK = "<image>"
MIN_SIDE_PX = 128  # of the release; smaller pictures are left out


@dataclass(frozen=True)
class LlavaConversation:
    """One conversation as it stands in the file."""

    image: str  # file name; empty without a picture
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class LlavaConversations:
    """Conversations of a JSON file about the pictures of a folder (a ConversationSource).

    Pictures that are too small, or cannot be read, give conversations without rounds.
    """

    conversations: Sequence[LlavaConversation]
    images: Path | None
    side_px: int
    seed: int
    is_augmented: bool = True
    min_side_px: int = MIN_SIDE_PX

    @classmethod
    def read(
        cls, file: Path, images: Path | None, side_px: int, seed: int, is_augmented: bool, min_side_px: int
    ) -> Self:
        """Raises ValueError for a file in another layout, or one that names pictures the folder lacks."""
        conversations = tuple(read_conversations(file))
        named = {conversation.image for conversation in conversations if conversation.image}
        if named and images is None:
            raise ValueError(f"{file} names {len(named)} pictures, but no folder of them is given (--images)")
        absent = sorted(named - _files(images)) if images is not None else []
        if absent:
            raise ValueError(f"{images}: lacks {len(absent)} pictures that {file} names, such as {absent[0]}")
        return cls(conversations, images, side_px, seed, is_augmented, min_side_px)

    def __len__(self) -> int:
        return len(self.conversations)

    def unchanged(self) -> Self:
        """The same, with pictures as they are."""
        return replace(self, is_augmented=False)

    def conversation(self, index: int, epoch: int) -> Conversation:
        conversation = self.conversations[index]
        if not conversation.image:
            return Conversation(None, conversation.rounds)
        pixels = self._pixels(conversation.image, np.random.default_rng([self.seed, index, epoch]))
        return Conversation(pixels, conversation.rounds if pixels is not None else ())

    def _pixels(self, name: str, rng: np.random.Generator) -> PixelArray | None:
        assert self.images is not None
        file = self.images / name
        try:
            with Image.open(file) as opened:
                if min(opened.size) < self.min_side_px:
                    return None
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            logger.warning("%s: not a readable picture (%s), left out", file, error)
            return None
        if self.is_augmented:
            return augment(picture, self.side_px, rng)
        return np.array(picture.resize((self.side_px, self.side_px), Image.Resampling.BICUBIC))


def read_conversations(file: Path) -> Iterator[LlavaConversation]:
    """The conversations of a file. Raises ValueError that names the first one in another layout."""
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: not a readable JSON file ({error})") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"{file}: expected a list of conversations, got {type(records).__name__} of no records")
    for number, record in enumerate(records):
        try:
            yield LlavaConversation(str(record.get("image") or ""), tuple(rounds_of(record["conversations"])))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: record {number} is no conversation in LLaVA's layout: {error!r}") from error


def rounds_of(turns: Sequence[Mapping[str, Any]]) -> Iterator[Round]:
    """Questions with their answers; `kind` and `language` beside a question are kept. Raises ValueError."""
    if not turns or len(turns) % 2:
        raise ValueError(f"{len(turns)} turns, expected pairs of human and gpt")
    for number, (asked, answered) in enumerate(zip(turns[::2], turns[1::2], strict=True)):
        if (asked["from"], answered["from"]) != ("human", "gpt"):
            raise ValueError(f"turns from {asked['from']} and {answered['from']}, expected human and gpt")
        question = str(asked["value"])
        if number == 0:
            question = question.replace(IMAGE_MARK, "")
        yield Round(question.strip(), str(answered["value"]), str(asked.get("kind", "")), asked.get("language", ""))


def _files(folder: Path) -> set[str]:
    """All files below a folder, by their paths in it."""
    try:
        paths = [Path(root, name).relative_to(folder) for root, _, names in os.walk(folder) for name in names]
    except OSError as error:
        raise ValueError(f"{folder}: not a readable folder ({error})") from error
    return {path.as_posix() for path in paths}
