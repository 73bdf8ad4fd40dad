"""Captioned pictures of a JSON file and a folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, ImageOps

from models.datasets.examples import CaptionedPicture


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
        """The same in every epoch, and upright. Raises ValueError for a file that is no picture."""
        name, caption = self.rows[index]
        try:
            with Image.open(self.folder / name) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.folder / name}: not a readable picture ({error})") from error
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        return CaptionedPicture(
            np.asarray(picture.resize((self.side_px, self.side_px), Image.Resampling.BICUBIC, box)), caption
        )
