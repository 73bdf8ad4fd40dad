"""Captioned pictures by the names that the command line knows: composed emoji, or a JSON file and a folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.datasets.examples import CaptionedPicture, PictureSource
from models.training.sources import EMOJI, NUM_EMOJI_EXAMPLES, VALIDATION_SEED

EMOJI_PAINT_STYLES: tuple[Literal["twemoji"], ...] = ("twemoji",)


@dataclass(frozen=True)
class PictureSources:
    """What is learnt from, and what is validated on."""

    training: PictureSource
    validation: PictureSource


@dataclass(frozen=True)
class CaptionFile:
    """Pictures of a folder with the captions of a JSON file: `[{"image": "name.png", "caption": "..."}, ...]`.

    A picture is cut to its middle square and resized to `side_px`, bicubic.
    """

    folder: Path
    rows: tuple[tuple[str, str], ...]  # (file name, caption)
    side_px: int

    @classmethod
    def read(cls, file: Path, folder: Path, side_px: int) -> Self:
        """Raises ValueError where the file is not such a list, or names a picture that is not there."""
        try:
            rows = tuple((str(row["image"]), str(row["caption"])) for row in json.loads(file.read_text("utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{file}: expected a list of {{"image", "caption"}}, got {error!r}') from error
        if not rows:
            raise ValueError(f"{file}: holds no pictures")
        absent = [name for name, _ in rows if not (folder / name).is_file()]
        if absent:
            raise ValueError(f"{folder}: {len(absent)} pictures of {file} are missing, such as {absent[0]}")
        return cls(folder, rows, side_px)

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, index: int, epoch: int) -> CaptionedPicture:
        """The same in every epoch. Raises ValueError for a file that is no picture."""
        name, caption = self.rows[index]
        try:
            with Image.open(self.folder / name) as opened:
                picture = opened.convert("RGB")
        except UnidentifiedImageError as error:
            raise ValueError(f"{self.folder / name}: not a picture") from error
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        return CaptionedPicture(
            np.asarray(picture.resize((self.side_px, self.side_px), Image.Resampling.BICUBIC, box)), caption
        )


@dataclass(frozen=True)
class Part:
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
    return PictureSources(Part(source, range(num_training)), Part(source, held_out))


def _emoji_sources(side_px: int, seed: int, curriculum: tuple[float, float] | None) -> PictureSources:
    from models.emoji.names import box_names
    from models.emoji.sources import TRAINING_SEED, Curriculum, EmojiPictures

    def source(own_seed: int, harder: Curriculum | None) -> EmojiPictures:
        return EmojiPictures(box_names(), EMOJI_PAINT_STYLES, side_px, own_seed, NUM_EMOJI_EXAMPLES, harder)

    training = source(TRAINING_SEED + seed, Curriculum(*curriculum) if curriculum else None)
    return PictureSources(training, source(VALIDATION_SEED, None))
