"""Captioned pictures by the names that the command line knows: composed emoji, or a JSON file and a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.datasets.caption_file import CaptionFile
from models.datasets.examples import CaptionedPicture, PictureSource
from models.training.sources import EMOJI, NUM_EMOJI_EXAMPLES, VALIDATION_SEED

EMOJI_PAINT_STYLES: tuple[Literal["twemoji"], ...] = ("twemoji",)


@dataclass(frozen=True)
class PictureSources:
    """What is learnt from, and what is validated on."""

    training: PictureSource
    validation: PictureSource


@dataclass(frozen=True)
class PictureSubset:
    """Some examples of a source, as a source."""

    source: PictureSource
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int, epoch: int) -> CaptionedPicture:
        return self.source.picture(self.indices[index], epoch)


def picture_sources(
    data: str,
    images: Path | None,
    side_px: int,
    seed: int,
    num_validation: int,
    curriculum: tuple[float, float] | None = None,
) -> PictureSources:
    """The sources behind `--data`; of a file the last `num_validation` pictures are not learnt from.

    Raises:
        ValueError: the file cannot be used.
    """
    if data == EMOJI:
        return _emoji_sources(side_px, seed, curriculum)
    if images is None:
        raise ValueError("--data with a file needs --images, the folder of its pictures")
    source = CaptionFile.read(Path(data), images, side_px)
    num_training = len(source) - num_validation
    if num_training < 1:
        raise ValueError(f"{data}: {len(source)} pictures, of which {num_validation} are to be validated on")
    # With none held out the first are shown: they tell at least what was learnt by heart.
    held_out = range(num_training, len(source)) if num_validation else range(min(len(source), 16))
    return PictureSources(PictureSubset(source, range(num_training)), PictureSubset(source, held_out))


def _emoji_sources(side_px: int, seed: int, curriculum: tuple[float, float] | None) -> PictureSources:
    from models.emoji.names import bundled_names
    from models.emoji.sources import TRAINING_SEED, Curriculum, EmojiPictures

    def source(own_seed: int, harder: Curriculum | None) -> EmojiPictures:
        return EmojiPictures(bundled_names(), EMOJI_PAINT_STYLES, side_px, own_seed, NUM_EMOJI_EXAMPLES, harder)

    training = source(TRAINING_SEED + seed, Curriculum(*curriculum) if curriculum else None)
    return PictureSources(training, source(VALIDATION_SEED, None))
