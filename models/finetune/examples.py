"""What is learnt from, and where it comes from: conversations about pictures, and captioned pictures.

Sources are indexed and deterministic: an example depends on its index and epoch alone, so that a resumed run and a
run of several processes see what one undisturbed process would have seen.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Language = Literal["en", "zh", ""]
Pixels = NDArray[np.uint8]  # (S, S, 3), RGB


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

    pixels: Pixels | None  # at the model's side; None for a talk without a picture
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class CaptionedPicture:
    """What is to be painted, and the words for it."""

    pixels: Pixels
    caption: str


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
