"""From the bytes of a picture to the model's input pixels, within bounds of memory and of CPU time.

Runs in threads: the decoders let go of the interpreter while they work, so that requests go on meanwhile (the longest
pause is the copy of a WebP's pixels, which has a lower cap for that). A thread cannot be stopped from outside, so it
stops itself: size and structure are known before a decoder starts, and it is out of time when it asks for more bytes.
Pixels: 8 bits a channel (16-bit grey rounded, 16-bit colour cut), transparent ones on a ground (transparency.py) or,
as in the reference, without their alpha; palettes and CMYK converted; colour profiles are not applied (SPEC §5).
"""

import io
import struct
import time

# The plugins register with Pillow on import; named here so that no other format's decoder is ever loaded.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from service.core.errors import ImageTooLarge, InvalidImage, ServiceError
from service.image_input.exif import orientation
from service.image_input.formats import Frame, first_frame
from service.image_input.heif.avif import coded_sizes
from service.image_input.heif.boxes import UnreadHeif
from service.image_input.heif.heic import told_sizes
from service.image_input.jpeg_ends import CONTINUATIONS, END, digest
from service.image_input.other_formats import Extra
from service.image_input.transparency import Colour, composed, eight_bit

MAX_SIDE_PX = 65_535  # the resize has a table of 32 bytes for each pixel of a side
# WebP's decoder holds four copies of the pixels, and copies one of them without letting go. AVIF and HEIC were measured
# to need less (docs/guides/intake.md) and keep to the same.
MAX_WEBP_PX = 25_000_000

_HEVC_BLOCK_PX = 64  # HEVC codes whole blocks, and a HEIC says how much of them is cut off
_PARTS = {"AVIF": coded_sizes, "HEIF": told_sizes}
_MAX_PASSES = 4  # over the largest picture: its tiles beside the grid that they make, its alpha, layers, gain map

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.MAX_IMAGE_PIXELS = None  # the caps below are the ones that count; Pillow's own only warns at first


def to_pixels(
    data: bytes | bytearray,
    side_px: int,
    max_image_px: int,
    limit_s: float = 20.0,
    background: Colour | None = None,
    extra: tuple[Extra, ...] = (),
) -> bytes:
    """Encoded picture → RGB bytes of a square of `side_px`.

    Args:
        limit_s: CPU time of this thread.
        background: what transparent pixels show; absent: their own colours, as if they were opaque.
        extra: formats that are read beside the five (other_formats.py).

    Raises:
        InvalidImage: not one of FORMATS, broken, or out of time.
        ImageTooLarge: more pixels than allowed; found in the header, before anything is rastered.
    """
    frame = first_frame(data, extra)
    _check_size(frame, max_image_px)
    if frame.format in _PARTS:
        _check_parts(frame, max_image_px)
    ends_s = time.thread_time() + limit_s
    try:
        if frame.lacks_end:
            _require_every_pixel(frame, limit_s, ends_s)
        with Image.open(_TimedBytes(frame.data, limit_s, ends_s), formats=(frame.format,)) as picture:
            if not frame.width_px:
                frame = _measured(frame, picture)
                _check_size(frame, max_image_px)
            if picture.size != (frame.width_px, frame.height_px):
                told = f"{frame.width_px}×{frame.height_px} and {picture.width}×{picture.height} pixels"
                raise InvalidImage(
                    f"image: cannot be decoded, this {frame.format} tells two sizes: {told}", param="image"
                )
            picture.load()
            if picture.size != (frame.width_px, frame.height_px):
                raise InvalidImage(
                    "image: cannot be decoded, its data have another size than its header", param="image"
                )
            straight = picture.convert("RGBA") if picture.mode == "RGBa" else picture  # a HEIC's, multiplied by alpha
            shown = straight if background is None else composed(straight, frame, background)
            upright = _upright(shown, frame.orientation)
            return upright.resize((side_px, side_px), Image.Resampling.BICUBIC).convert("RGB").tobytes()
    except ServiceError:
        raise
    except Exception as error:  # the decoders raise nearly anything on hostile bytes
        what = "is cut off" if "truncated" in str(error) else "has broken data"
        raise InvalidImage(
            f"image: cannot be decoded, this {frame.format} of {frame.width_px}×{frame.height_px} pixels {what}",
            param="image",
        ) from error


class _TimedBytes(io.BytesIO):
    """A file that ends the decoding which reads it once the thread has used its time."""

    def __init__(self, data: bytes | bytearray, limit_s: float, ends_s: float) -> None:
        super().__init__(data)
        self._limit_s = limit_s
        self._ends_s = ends_s

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._ends_s:
            raise InvalidImage(f"image: decoding takes more than the {self._limit_s:g} s allowed", param="image")
        return super().read(size)


def _check_size(frame: Frame, max_image_px: int) -> None:
    width_px, height_px = frame.width_px, frame.height_px
    if frame.format in ("WEBP", "AVIF", "HEIF"):
        max_image_px = min(max_image_px, MAX_WEBP_PX)
    if width_px * height_px > max_image_px:
        raise ImageTooLarge(
            f"image: {width_px}×{height_px} is {width_px * height_px} pixels, at most {max_image_px} are allowed",
            param="image",
        )
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise ImageTooLarge(
            f"image: {width_px}×{height_px} has a side of more than {MAX_SIDE_PX} pixels", param="image"
        )


def _check_parts(frame: Frame, max_image_px: int) -> None:
    """An AVIF or HEIC may have more to decode than its picture's size tells."""
    try:
        sizes = _PARTS[frame.format](frame.data)
    except UnreadHeif as why:
        raise InvalidImage(f"image: cannot be decoded, it is {why}", param="image") from None
    except (struct.error, IndexError):
        raise InvalidImage("image: cannot be decoded, it is cut off", param="image") from None
    slack_px = _HEVC_BLOCK_PX - 1 if frame.format == "HEIF" else 0
    width_px, height_px = max(1, sizes.width_px - slack_px), max(1, sizes.height_px - slack_px)
    _check_size(frame._replace(width_px=width_px, height_px=height_px), max_image_px)
    limit_px = _MAX_PASSES * min(max_image_px, MAX_WEBP_PX)
    if sizes.sum_px > limit_px:
        raise ImageTooLarge(
            f"image: its parts have {sizes.sum_px} pixels together, at most {limit_px} are allowed", param="image"
        )


def _measured(frame: Frame, picture: Image.Image) -> Frame:
    """With the size and the turn that an AVIF's or a HEIC's decoder tells; nothing of it is decoded yet."""
    width_px, height_px = picture.size
    turn = orientation(picture.info.get("exif") or b"")
    return frame._replace(width_px=width_px, height_px=height_px, orientation=turn)


def _require_every_pixel(frame: Frame, limit_s: float, ends_s: float) -> None:
    """Raises InvalidImage: a JPEG without its end marker has pixels that are not in the file."""
    found: set[bytes] = set()
    for continuation in CONTINUATIONS:
        continued = frame.data[: -len(END)] + continuation + END
        with Image.open(_TimedBytes(continued, limit_s, ends_s), formats=(frame.format,)) as picture:
            picture.load()
            found.add(digest(picture))
        if len(found) > 1:
            size = f"{frame.width_px}×{frame.height_px} pixels"
            raise InvalidImage(f"image: cannot be decoded, this {frame.format} of {size} is cut off", param="image")


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    """8-bit grey or RGB, turned as the camera was held."""
    turn = _TURNS.get(orientation)
    upright = picture if turn is None else picture.transpose(turn)
    return eight_bit(upright)
