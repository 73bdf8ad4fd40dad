"""Pictures in: base64, data URL, uploaded bytes or http(s) URL → the model's input pixels.

A picture is held in full only inside one decode, in a pool of `decode_threads`; what leaves is the model's size.
Base64 is RFC 4648 §4 to the letter: the standard alphabet, complete padding, no white space.
Covered: byte cap (the body's), formats by content, pixel cap before anything is rastered, first frame only, EXIF
rotation, metadata left behind, 16-bit scaled to 8, alpha dropped, CMYK and palettes converted (SPEC §5).
"""

import asyncio
import binascii
import hashlib
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

# The plugins register with Pillow on import; named here so that no other format's decoder is ever loaded.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.errors import ImageFetchDisabled, ImageTooLarge, InvalidBase64, InvalidImage, ServiceError
from service.fetch import fetch
from service.metrics import Metrics
from service.settings import Settings

_T = TypeVar("_T")

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_BASE64_PIECE_CHARS = 1 << 20  # a multiple of 4; between pieces the interpreter can run other threads
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Pixels(NamedTuple):
    """RGB uint8, row-major, `side_px` × `side_px` × 3 bytes, and their digest."""

    rgb: bytes
    side_px: int
    sha256: str


class ImageIntake:
    """Decodes pictures in a bounded pool; `decodes` counts the pictures whose decoding began."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="images")
        self.decodes = 0

    async def pixels(self, source: str | bytes, side_px: int) -> Pixels:
        """The model's input pixels of a picture.

        Args:
            source: base64, a data URL or an http(s) URL; or the bytes of an upload.
            side_px: of the square that the checkpoint wants.

        Raises:
            InvalidBase64, InvalidImage, ImageTooLarge: what is wrong with it.
            ImageFetchDisabled, BlockedUrl, ImageFetchFailed: a URL that is not, may not be or could not be fetched.
        """
        try:
            if isinstance(source, str) and source[:8].lower().startswith(("http://", "https://")):
                source = await self._fetch(source)
            return await self._run(self._decode, source, side_px)
        except ServiceError as error:
            if self._metrics is not None:
                self._metrics.count("image_fetch_rejected_total", reason=error.code)
            raise

    async def encode(self, png: bytes, output_format: str, quality: int) -> bytes:
        """A painted PNG in the format asked for, in the pool."""
        if output_format == "png":
            return png
        return await self._run(_encode, png, output_format, quality)

    async def _fetch(self, url: str) -> bytes:
        if not self._settings.fetch_images:
            raise ImageFetchDisabled(
                "fetching pictures from URLs is off here (VISCPM_FETCH_IMAGES); send base64 instead", param="image"
            )
        return await fetch(url, self._settings.max_body_bytes, self._settings.fetch_timeout_s)

    async def _run(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _decode(self, source: str | bytes, side_px: int) -> Pixels:
        self.decodes += 1
        data = decode_base64(source) if isinstance(source, str) else source
        rgb = to_pixels(data, side_px, self._settings.max_image_px)
        return Pixels(rgb, side_px, hashlib.sha256(rgb).hexdigest())

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def decode_base64(text: str) -> bytearray:
    """The bytes of base64 or of a base64 data URL.

    Raises:
        InvalidBase64: not RFC 4648 §4.
        InvalidImage: empty, or a data URL of something else than a picture.
    """
    start = 0
    if text[:5].lower() == "data:":
        match = _DATA_URL.match(text[:256])
        if match is None or not match[2].lower().endswith(";base64"):
            raise InvalidBase64("image: a data URL must begin with data:image/…;base64,", param="image")
        if match[1] and not match[1].lower().startswith("image/"):
            raise InvalidImage(f"image: a data URL of a picture was expected, got {match[1][:40]}", param="image")
        start = match.end()
    length = len(text) - start
    if length == 0:
        raise InvalidImage("image: is empty", param="image")
    if length % 4:
        raise InvalidBase64(
            f"image: base64 with its padding has a multiple of 4 characters, got {length}", param="image"
        )
    data = bytearray()
    for position in range(start, len(text), _BASE64_PIECE_CHARS):
        piece = text[position : position + _BASE64_PIECE_CHARS]
        is_last = position + _BASE64_PIECE_CHARS >= len(text)
        try:
            if not is_last and "=" in piece:
                raise binascii.Error("padding before the end")
            data += binascii.a2b_base64(piece, strict_mode=True)
        except ValueError:  # binascii.Error, or characters that are not ASCII
            raise InvalidBase64(
                "image: not base64: only A-Z a-z 0-9 + / and padding at the end are allowed, without white space",
                param="image",
            ) from None
    return data


def to_pixels(data: bytes | bytearray, side_px: int, max_image_px: int) -> bytes:
    """Encoded picture → RGB bytes of a square of `side_px`.

    Raises:
        InvalidImage: not one of FORMATS, or broken.
        ImageTooLarge: more than `max_image_px` pixels; found in the header, before anything is rastered.
    """
    Image.MAX_IMAGE_PIXELS = None  # the cap below is the one that counts; Pillow's own only warns at first
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > max_image_px:
                raise ImageTooLarge(
                    f"image: {width}×{height} is {width * height} pixels, at most {max_image_px} are allowed",
                    param="image",
                )
            picture.load()
            resized = _to_rgb(picture).resize((side_px, side_px), Image.Resampling.BICUBIC)
            return resized.tobytes()
    except ImageTooLarge:
        raise
    except UnidentifiedImageError:
        raise InvalidImage(
            f"image: not a picture of a known format; allowed: {', '.join(FORMATS)}", param="image"
        ) from None
    except Exception as error:  # the decoders raise nearly anything on hostile bytes
        raise InvalidImage(
            f"image: cannot be decoded, it is broken or cut off ({type(error).__name__})", param="image"
        ) from error


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Upright 8-bit RGB of the first frame."""
    turn = _TURNS.get(_orientation(picture))
    upright = picture if turn is None else picture.transpose(turn)
    if upright.mode.startswith("I"):
        # 16-bit grey: convert alone would clip at 255
        upright = upright.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    return upright.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where the metadata are broken, which does not break the picture."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _encode(png: bytes, output_format: str, quality: int) -> bytes:
    target = io.BytesIO()
    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        picture.convert("RGB").save(target, output_format.upper(), quality=max(1, quality))
    return target.getvalue()
