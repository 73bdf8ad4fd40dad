"""How the texts were spelled that a checkpoint learnt from: `training_text` in its configuration, where it has any."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

LetterCase = Literal["mixed", "lower", "sentence"]


@dataclass(frozen=True)
class TrainingText:
    """What a text has to look like to be one that the checkpoint knows; by default as it comes.

    `lower` has small letters but in names, `sentence` also a capital first one.
    """

    letter_case: LetterCase = "mixed"
    simplified_chinese: bool = False  # it has seen no traditional characters

    @classmethod
    def from_published(cls, fields: Mapping[str, Any]) -> Self:
        """From the configuration's `training_text`. Raises ValueError for what is none."""
        letter_case, simplified = fields.get("letter_case", "mixed"), fields.get("simplified_chinese", False)
        if letter_case not in get_args(LetterCase):
            raise ValueError(f"letter_case is {letter_case!r}; one of {', '.join(get_args(LetterCase))} is allowed")
        if not isinstance(simplified, bool):
            raise ValueError(f"simplified_chinese is {simplified!r}; true or false is allowed")
        return cls(letter_case, simplified)

    def to_published(self) -> dict[str, Any]:
        return {"letter_case": self.letter_case, "simplified_chinese": self.simplified_chinese}
