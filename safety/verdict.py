"""What a screen says, and what screens look like to the gate.

Covered here: the data alone. Which texts and pictures are screened is the gate's; how, the screens'.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Stage = Literal["input_image", "question", "prompt", "negative_prompt", "answer", "preview", "candidate"]
Decision = Literal["pass", "flag", "block"]


TEXT_STAGES: tuple[Stage, ...] = ("question", "prompt", "negative_prompt", "answer")
IMAGE_STAGES: tuple[Stage, ...] = ("input_image", "preview", "candidate")


class Finding(NamedTuple):
    """What one screen scored, 0 to 1, in each category that it judges; of a classifier with labels of its own, in each
    of those. `version` is of the screen: its weights or rules, and what it asks them."""

    screen: str
    scores: dict[str, float]
    version: str = ""


class Picture(NamedTuple):
    """A picture to be screened. `rgb` is uint8, row-major, height × width × 3; `png` is the file."""

    data: bytes
    encoding: Literal["rgb", "png"]
    width_px: int = 0
    height_px: int = 0


@dataclass(frozen=True)
class Verdict:
    """The decision on one content.

    Attributes:
        scores: 0 to 1, only of categories that a screen judged.
        model: the screens that ran, joined by `+`.
        message: what the user is told of a blocked content.
        found: the categories whose score is above their threshold; None: those of `scores` unless it passes.
        language: of a text, as the screens were chosen by it; empty for pictures.
        policy: version of the policy that decided.
        sha256: of the content, which a log may keep where the content may not be kept.
        versions: of the screens that ran, by their names.
    """

    stage: Stage
    decision: Decision
    scores: dict[str, float] = field(default_factory=dict)
    model: str = ""
    message: str = ""
    found: tuple[str, ...] | None = None
    language: str = ""
    policy: str = ""
    sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_blocked(self) -> bool:
        return self.decision == "block"

    def moderation(self) -> dict[str, object]:
        """OpenAI's moderation result, with the stage, and the screens' versions, language and policy where known."""
        applied = "image" if self.stage in IMAGE_STAGES else "text"
        is_flagged = self.decision != "pass"
        found = self.found if self.found is not None else tuple(self.scores) if is_flagged else ()
        known = {"versions": self.versions, "language": self.language, "policy": self.policy}
        return {
            "type": "moderation_result",
            "model": self.model,
            "stage": self.stage,
            "flagged": is_flagged,
            "categories": {name: name in found for name in self.scores},
            "category_scores": self.scores,
            "category_applied_input_types": {name: [applied] for name in self.scores},
            **{name: value for name, value in known.items() if value},
        }


class ScreenOffline(Exception):
    """A screen cannot be asked just now; asking again may help."""


class Screens(Protocol):
    """Judges content. Raises when it cannot, ScreenOffline where that is for now: the gate then lets nothing pass."""

    @property
    def are_open(self) -> bool:
        """True where nothing is judged at all; told in readiness and in the log."""

    async def text(self, stage: Stage, text: str) -> Verdict: ...

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        """`language`: that the user is spoken to in."""


class OpenScreens:
    """Lets everything pass: for a service without screens, which says so."""

    are_open = True

    async def text(self, stage: Stage, text: str) -> Verdict:
        return Verdict(stage, "pass")

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        return Verdict(stage, "pass")
