"""Sources of examples to learn from: conversations about emoji scenes, and captioned pictures of emoji.

Every example is a function of (seed, epoch, index) alone; each emoji leads as many of them as any other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.datasets.examples import CaptionedPicture, Conversation, PixelArray, Round
from models.emoji.drawings import Style
from models.emoji.names import EmojiName
from models.emoji.scenes.composition import draw_scene, paint_scene
from models.emoji.scenes.renderer import Renderer
from models.emoji.scenes.scene import Layout, Scene
from models.emoji.texts.captions import Subject, caption, draw_subject
from models.emoji.texts.conversation import QUESTIONS_ABOUT_NAMES, QUESTIONS_OF_ALL_KINDS, Questions, draw_rounds

# Compositions of one seed are not those of another: what is learnt from and what is judged on.
TRAINING_SEED = 1
EVALUATION_SEED = 1_000_003

_FIRST_NAMES, _GROWING_SHARE = 8, 0.8  # of the lesson on where things are, in which names come in
_CONVERSATIONS, _PICTURES = 0, 1  # keep the two kinds of sources of one seed apart


@dataclass(frozen=True)
class Curriculum:
    """Few names first, in easy pictures: random weights learn nothing from hundreds of names at once.

    Args:
        doubling_epochs: after so many epochs there are twice the names, until there are all.
        mixing_epochs: after so many more the share of easy pictures has gone down to `easy`.
        first_names: names to begin with.
        easy: share of easy pictures at last, whose captions say the name alone.

    Raises:
        ValueError: a number out of range.
    """

    doubling_epochs: float
    mixing_epochs: float
    first_names: int = 16
    easy: float = 0.1

    def __post_init__(self) -> None:
        if min(self.doubling_epochs, self.mixing_epochs) <= 0 or self.first_names < 2 or not 0 <= self.easy <= 1:
            raise ValueError(f"a curriculum needs epochs, two names and a share of 0 to 1, got {self}")

    def growing_epochs(self, num_names: int) -> float:
        """Epochs until all of `num_names` are there."""
        return self.doubling_epochs * math.log2(max(1.0, num_names / self.first_names))

    def names_at(self, epoch: int, num_names: int) -> int:
        return min(num_names, int(self.first_names * 2 ** min(epoch / self.doubling_epochs, 32)))

    def easy_at(self, epoch: int, num_names: int) -> float:
        mixed = (epoch - self.growing_epochs(num_names)) / self.mixing_epochs
        return 1 - (1 - self.easy) * min(1.0, max(0.0, mixed))


@dataclass(frozen=True)
class Lessons:
    """What conversations begin with: names first, which are most of what there is to learn, then those of one round.

    Args:
        singles_epochs: in the first so many epochs conversations ask what a single thing is and nothing else.
        names_epochs: in the first so many epochs conversations ask for names, of whatever there is to see.
        brief_epochs: in the first so many epochs conversations end after one round.
        where_epochs: in the first so many epochs conversations ask where one of two things is, and nothing else; names
            come in little by little, since comparing one in the question with those seen is not learnt from all at
            once.

    After each of these the other conversations come in over as many epochs more.

    Raises:
        ValueError: epochs below 0.
    """

    singles_epochs: float = 0.0
    names_epochs: float = 0.0
    brief_epochs: float = 0.0
    where_epochs: float = 0.0

    def __post_init__(self) -> None:
        if min(self.singles_epochs, self.names_epochs, self.brief_epochs, self.where_epochs) < 0:
            raise ValueError(f"a lesson takes 0 epochs or more, got {self}")

    def draw(self, rng: np.random.Generator, epoch: int, num_names: int) -> "Lesson":
        """The lesson of an example."""
        if rng.random() < _share_left(self.where_epochs, epoch):
            doublings = epoch / (self.where_epochs * _GROWING_SHARE) * math.log2(max(1.0, num_names / _FIRST_NAMES))
            names = min(num_names, int(_FIRST_NAMES * 2 ** min(doublings, 32)))
            return Lesson({"pair": 1.0}, {"pair": (("where", 1.0),)}, is_brief=True, num_names=names)
        if rng.random() < _share_left(self.singles_epochs, epoch):
            return Lesson({"single": 1.0}, {"single": (("name", 1.0),)}, is_brief=True)
        if rng.random() < _share_left(self.names_epochs, epoch):
            return Lesson({"single": 0.3, "pair": 0.5, "count": 0.2}, QUESTIONS_ABOUT_NAMES, is_brief=True)
        is_brief = rng.random() < _share_left(self.brief_epochs, epoch)
        return Lesson({"single": 0.6, "pair": 0.28, "count": 0.12}, QUESTIONS_OF_ALL_KINDS, is_brief)


@dataclass(frozen=True)
class Lesson:
    """What scenes an example may have, what is asked about them first, whether that is all, of how many names."""

    layouts: Mapping[Layout, float]  # and how often
    questions: Questions
    is_brief: bool
    num_names: int | None = None  # None: all

    def draw_layout(self, rng: np.random.Generator) -> Layout:
        layouts = tuple(self.layouts)
        return layouts[int(rng.choice(len(layouts), p=tuple(self.layouts.values())))]


def _share_left(epochs: float, epoch: int) -> float:
    """1 in a lesson's epochs, falling to 0 in as many more."""
    return min(1.0, max(0.0, 2 - epoch / epochs)) if epochs else 0.0


class EmojiConversations:
    """Conversations about scenes (a ConversationSource).

    Args:
        styles: drawing styles, mixed at random.
        side_px: side of the pictures.
        num_examples: length of an epoch; epochs go on where the last one ended.
        lessons: what the first epochs are about; None for all kinds of conversations from the start.

    Raises:
        ValueError: no names or styles.
        DrawingError: a style is not installed.
    """

    def __init__(
        self,
        names: Sequence[EmojiName],
        styles: Sequence[Style],
        side_px: int,
        seed: int,
        num_examples: int,
        lessons: Lessons | None = None,
    ) -> None:
        if len(names) < 2 or not styles:
            raise ValueError(
                f"conversations need two names and one style, got {len(names)} names and {len(styles)} styles"
            )
        self.names = tuple(names)
        self._renderer = Renderer(styles)
        self._side_px, self._seed, self._num_examples = side_px, seed, num_examples
        self._lessons = lessons or Lessons()
        self._learnt_order = _learnt_order(self.names, seed)

    def __len__(self) -> int:
        return self._num_examples

    def conversation(self, index: int, epoch: int) -> Conversation:
        """The example `index` of an epoch; pixels are (side_px, side_px, 3) uint8."""
        scene, rounds = self.scene_and_rounds(index, epoch)
        return Conversation(self.draw(scene), rounds)

    def draw(self, scene: Scene) -> PixelArray:
        """(side_px, side_px, 3) uint8."""
        return self._renderer.render(scene, self._side_px)

    def scene_and_rounds(self, index: int, epoch: int) -> tuple[Scene, tuple[Round, ...]]:
        """The example before it is drawn."""
        rng = np.random.default_rng((self._seed, _CONVERSATIONS, epoch, index))
        lesson = self._lessons.draw(rng, epoch, len(self.names))
        names = self.names if lesson.num_names is None else self._learnt_order[: lesson.num_names]
        first = names[leading_name(self._seed, index + epoch * self._num_examples, len(names))]
        scene = draw_scene(rng, self._renderer, names, first, lesson.draw_layout(rng))
        rounds = draw_rounds(rng, scene, lesson.questions)
        return scene, rounds[:1] if lesson.is_brief else rounds


class EmojiPictures:
    """Captioned pictures for painting (a PictureSource): one emoji, upright on a flat ground.

    Args and Raises: as EmojiConversations; the first style that has an emoji draws it.
        curriculum: how examples grow harder by epochs; None for all kinds of captions from the start.
    """

    def __init__(
        self,
        names: Sequence[EmojiName],
        styles: Sequence[Style],
        side_px: int,
        seed: int,
        num_examples: int,
        curriculum: Curriculum | None = None,
    ) -> None:
        if not names or not styles:
            raise ValueError(f"pictures need a name and a style, got {len(names)} names and {len(styles)} styles")
        self.names = tuple(names)
        self._renderer = Renderer(styles)
        self._side_px, self._seed, self._num_examples = side_px, seed, num_examples
        self._curriculum = curriculum
        self._learnt_order = _learnt_order(self.names, seed) if curriculum else self.names

    def __len__(self) -> int:
        return self._num_examples

    def picture(self, index: int, epoch: int) -> CaptionedPicture:
        """The example `index` of an epoch; pixels are (side_px, side_px, 3) uint8."""
        rng = np.random.default_rng((self._seed, _PICTURES, epoch, index))
        names, curriculum = self._learnt_order, self._curriculum
        if curriculum is not None:
            names = names[: curriculum.names_at(epoch, len(self.names))]
        name = names[leading_name(self._seed, index + epoch * self._num_examples, len(names))]
        style = self._renderer.styles_of(name)[0]
        if curriculum is not None and rng.random() < curriculum.easy_at(epoch, len(self.names)):
            subject = Subject(name, None, "centre")
        else:
            subject = draw_subject(rng, name, self._renderer.visible_colours(style, name))
        scene = paint_scene(self._renderer, name, subject.colour, subject.place)
        words = caption(rng, subject, "en" if rng.random() < 0.5 else "zh")
        return CaptionedPicture(self._renderer.render(scene, self._side_px), words)


def leading_name(seed: int, position: int, num_names: int) -> int:
    """The name that leads the example at a position: all names once in every `num_names`, in changing order."""
    return int(_order(seed, position // num_names, num_names)[position % num_names])


def _learnt_order(names: Sequence[EmojiName], seed: int) -> tuple[EmojiName, ...]:
    """Groups come to a curriculum mixed."""
    return tuple(names[i] for i in _order(seed, -1, len(names)))


@lru_cache(maxsize=8)
def _order(seed: int, cycle: int, num_names: int) -> np.ndarray:
    return np.random.default_rng((seed, cycle + 1)).permutation(num_names)
