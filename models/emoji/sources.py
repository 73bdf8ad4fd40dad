"""Sources of examples to learn from: talks about emoji scenes, and captioned pictures of emoji.

Every example is a function of (seed, epoch, index) alone; each emoji leads as many of them as any other.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from models.emoji.captions import caption, draw_subject
from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.emoji.rendering import render
from models.emoji.scene import Layout, Scene, draw_easy_scene, draw_scene, paint_scene
from models.emoji.studio import Studio
from models.emoji.talk import name_talk, talk
from models.finetune.examples import CaptionedPicture, Conversation, Round

# Compositions of one seed are not those of another: what is learnt from and what is judged on.
TRAINING_SEED = 1
EVALUATION_SEED = 1_000_003

_TALKS, _PICTURES = 0, 1  # keep the two kinds of sources of one seed apart
_LAYOUTS: tuple[tuple[Layout, float], ...] = (("single", 0.62), ("pair", 0.22), ("count", 0.16))


class EmojiTalks:
    """Conversations about scenes (a ConversationSource).

    Args:
        styles: drawing styles, mixed at random.
        side_px: side of the pictures.
        num_examples: length of an epoch; epochs go on where the last one ended.
        easy: share of examples with one large emoji on a plain ground and one question, what it is.

    Raises:
        ValueError: no names or styles, or `easy` outside 0..1.
        DrawingError: a style is not installed.
    """

    def __init__(
        self,
        names: Sequence[EmojiName],
        styles: Sequence[Style],
        side_px: int,
        seed: int,
        num_examples: int,
        easy: float = 0.0,
    ) -> None:
        if len(names) < 2 or not styles:
            raise ValueError(f"talks need two names and one style, got {len(names)} names and {len(styles)} styles")
        if not 0 <= easy <= 1:
            raise ValueError(f"easy is a share of examples, 0 to 1; got {easy}")
        self.names = tuple(names)
        self._studio = Studio(styles)
        self._side_px, self._seed, self._num_examples, self._easy = side_px, seed, num_examples, easy

    def __len__(self) -> int:
        return self._num_examples

    def conversation(self, index: int, epoch: int) -> Conversation:
        """The example `index` of an epoch; pixels are (side_px, side_px, 3) uint8."""
        scene, rounds = self.scene_and_rounds(index, epoch)
        return Conversation(render(self._studio, scene, self._side_px), rounds)

    def scene_and_rounds(self, index: int, epoch: int) -> tuple[Scene, tuple[Round, ...]]:
        """The example before it is drawn."""
        rng = np.random.default_rng((self._seed, _TALKS, epoch, index))
        first = self.names[leading_name(self._seed, index + epoch * self._num_examples, len(self.names))]
        if rng.random() < self._easy:
            scene = draw_easy_scene(rng, self._studio, first)
            return scene, name_talk(rng, scene)
        scene = draw_scene(rng, self._studio, self.names, first, _layout(rng))
        return scene, talk(rng, scene)


class EmojiPictures:
    """Captioned pictures for painting (a PictureSource): one emoji, upright on a flat ground.

    Args and Raises: as EmojiTalks; the first style that has an emoji draws it.
    """

    def __init__(
        self, names: Sequence[EmojiName], styles: Sequence[Style], side_px: int, seed: int, num_examples: int
    ) -> None:
        if not names or not styles:
            raise ValueError(f"pictures need a name and a style, got {len(names)} names and {len(styles)} styles")
        self.names = tuple(names)
        self._studio = Studio(styles)
        self._side_px, self._seed, self._num_examples = side_px, seed, num_examples

    def __len__(self) -> int:
        return self._num_examples

    def picture(self, index: int, epoch: int) -> CaptionedPicture:
        """The example `index` of an epoch; pixels are (side_px, side_px, 3) uint8."""
        rng = np.random.default_rng((self._seed, _PICTURES, epoch, index))
        name = self.names[leading_name(self._seed, index + epoch * self._num_examples, len(self.names))]
        style = self._studio.styles_of(name)[0]
        subject = draw_subject(rng, name, self._studio.visible_colours(style, name))
        scene = paint_scene(self._studio, name, subject.colour, subject.place)
        words = caption(rng, subject, "en" if rng.random() < 0.5 else "zh")
        return CaptionedPicture(render(self._studio, scene, self._side_px), words)


def leading_name(seed: int, position: int, num_names: int) -> int:
    """The name that leads the example at a position: all names once in every `num_names`, in changing order."""
    return int(_order(seed, position // num_names, num_names)[position % num_names])


@lru_cache(maxsize=8)
def _order(seed: int, cycle: int, num_names: int) -> np.ndarray:
    return np.random.default_rng((seed, cycle)).permutation(num_names)


def _layout(rng: np.random.Generator) -> Layout:
    at = rng.random()
    for layout, share in _LAYOUTS:
        if at < share:
            return layout
        at -= share
    return _LAYOUTS[-1][0]
