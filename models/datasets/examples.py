"""What is learnt from, and where it comes from: conversations about pictures, and captioned pictures.

Sources are indexed and deterministic: an example depends on its index and epoch alone, so that a resumed run and a
run of several processes see what one undisturbed process would have seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Language = Literal["en", "zh", ""]
PixelArray = NDArray[np.uint8]  # (S, S, 3), RGB


@dataclass(frozen=True)
class Round:
    """One question and its answer, as users see them (not escaped)."""

    question: str
    answer: str
    kind: str = ""  # what is asked for, where the source knows
    language: Language = ""


@dataclass(frozen=True)
class Conversation:
    """Rounds in their order; every one is learnt, with the earlier ones as its context."""

    pixels: PixelArray | None  # at the model's side; None for a conversation without a picture
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class CaptionedPicture:
    """What is to be painted, and the words for it."""

    pixels: PixelArray
    caption: str


UNLABELLED = -1  # the label of what a picture does not show


@dataclass(frozen=True)
class LabelledPicture:
    """A picture, and for each kind of thing to see which of its classes it is."""

    pixels: PixelArray
    labels: tuple[int, ...]  # places in the source's classes, or UNLABELLED


class ConversationSource(Protocol):
    def __len__(self) -> int: ...

    def conversation(self, index: int, epoch: int) -> Conversation:
        """The example `index` (0 <= index < len) as epoch `epoch` sees it."""
        ...


class PictureSource(Protocol):
    def __len__(self) -> int: ...

    def picture(self, index: int, epoch: int) -> CaptionedPicture:
        """The example `index` (0 <= index < len) as epoch `epoch` sees it."""
        ...


class LabelledPictureSource(Protocol):
    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """By the name of each kind of thing to see, in the order of a picture's labels."""
        ...

    def __len__(self) -> int: ...

    def labelled_picture(self, index: int, epoch: int) -> LabelledPicture:
        """The example `index` (0 <= index < len) as epoch `epoch` sees it."""
        ...
