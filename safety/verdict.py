"""What a screen says, and what screens look like to the gate.

Covered here: the data alone. Which texts and pictures are screened is the gate's; how, the screens'.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Stage = Literal["input_image", "question", "prompt", "negative_prompt", "answer", "preview", "candidate"]
Decision = Literal["pass", "flag", "block"]


class Picture(NamedTuple):
    """A picture to be screened. `rgb` is uint8, row-major, height × width × 3; `png` is the file."""

    data: bytes
    encoding: Literal["rgb", "png"]
    width_px: int = 0
    height_px: int = 0


@dataclass(frozen=True)
class Verdict:
    """One screen's decision on one content. `scores` holds only categories that the screen can judge, 0 to 1."""

    stage: Stage
    decision: Decision
    scores: dict[str, float] = field(default_factory=dict)
    model: str = ""
    message: str = ""

    @property
    def is_blocked(self) -> bool:
        return self.decision == "block"

    def moderation(self) -> dict[str, object]:
        """OpenAI's moderation result, with the stage added."""
        applied = "image" if self.stage in ("input_image", "preview", "candidate") else "text"
        return {
            "type": "moderation_result",
            "model": self.model,
            "stage": self.stage,
            "flagged": self.decision != "pass",
            "categories": {name: self.decision != "pass" for name in self.scores},
            "category_scores": self.scores,
            "category_applied_input_types": {name: [applied] for name in self.scores},
        }


class Screens(Protocol):
    """Judges content. Raises when it cannot: the gate then lets nothing pass."""

    @property
    def are_open(self) -> bool:
        """True where nothing is judged at all; told in readiness and in the log."""

    async def text(self, stage: Stage, text: str) -> Verdict: ...

    async def image(self, stage: Stage, picture: Picture) -> Verdict: ...


class OpenScreens:
    """Lets everything pass: for a service without screens, which says so."""

    are_open = True

    async def text(self, stage: Stage, text: str) -> Verdict:
        return Verdict(stage, "pass")

    async def image(self, stage: Stage, picture: Picture) -> Verdict:
        return Verdict(stage, "pass")
