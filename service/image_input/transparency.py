"""What shows where a picture is transparent: the ground that it is composed on.

Covered: alpha channels, a palette's transparent entries, the one transparent colour of a PNG or GIF in its own
samples (1 to 16 bits), and what a first frame leaves bare of its screen.
"""

import io

from PIL import Image, ImageChops

from service.image_input.formats import Frame

Colour = tuple[int, int, int]  # RGB of 8 bits

_GREY = ("1", "LA")
_BAND_PX = 1 << 20


def parse_colour(text: str) -> Colour:
    """`#rrggbb` → RGB; ValueError for anything else."""
    digits = text.removeprefix("#")
    if len(text) != 7 or len(digits) != 6:
        raise ValueError(f"{text!r} is no colour: #rrggbb is allowed, such as #ffffff")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def composed(picture: Image.Image, frame: Frame, background: Colour) -> Image.Image:
    """The loaded picture on a ground of `background`; the picture itself where all of it is opaque.

    Some rows at a time: comparing colours holds the interpreter, and takes several copies of what it looks at.
    """
    if frame.box_px is None and not _has_clear_parts(picture, frame):
        return picture
    ground = Image.new("RGB", picture.size, background)
    left_px, top_px, right_px, bottom_px = frame.box_px or (0, 0, *picture.size)
    low = _low_bytes(frame) if len(frame.clear) == 3 and frame.sample_bits == 16 else None
    rows = max(1, _BAND_PX // max(1, right_px - left_px))
    for start_px in range(top_px, bottom_px, rows):
        box_px = (left_px, start_px, right_px, min(bottom_px, start_px + rows))
        colours, mask = _layers(picture.crop(box_px), frame, None if low is None else low.crop(box_px))
        ground.paste(colours, box_px, mask)
    return ground


def eight_bit(picture: Image.Image) -> Image.Image:
    """Grey or RGB of 8 bits, alpha dropped."""
    if picture.mode in ("RGB", "L"):  # a conversion would copy it
        return picture
    if picture.mode.startswith("I"):
        # 16-bit grey: convert alone would clip at 255
        return picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    picture.info.pop("transparency", None)  # Pillow warns of what it leaves out
    return picture.convert("L" if picture.mode in _GREY else "RGB")


def _has_clear_parts(picture: Image.Image, frame: Frame) -> bool:
    if picture.mode in ("RGBA", "LA"):
        is_unwritten = frame.format == "BMP" and picture.getchannel("A").getextrema() == (0, 0)
        return not is_unwritten  # its writer left the fourth byte unused
    return bool(frame.clear) or "transparency" in picture.info


def _layers(band: Image.Image, frame: Frame, low: Image.Image | None) -> tuple[Image.Image, Image.Image | None]:
    """Colours, and the mask that says how much of them shows; without one: all.

    Args:
        low: the lower bytes of 16-bit colour that has a transparent one.
    """
    if frame.clear:
        return eight_bit(band), _all_but(frame, band, low)
    if band.mode in ("RGBA", "LA"):
        return band, band
    clear = band.info.get("transparency")
    if clear is None:
        return eight_bit(band), None
    if band.mode == "L":  # a GIF of a grey palette
        return band, band.point([0 if value == clear else 255 for value in range(256)])
    whole = band.convert("RGBA")
    return whole, whole


def _all_but(frame: Frame, band: Image.Image, low: Image.Image | None) -> Image.Image:
    """Opaque wherever a PNG's samples are not those of its transparent colour."""
    if band.mode.startswith("I"):
        wanted = [255] * 65536
        wanted[frame.clear[0]] = 0
        return band.convert("I").point(wanted, "L")
    if len(frame.clear) == 1:
        return _unlike(band.convert("L"), frame.clear[0] * 255 // ((1 << frame.sample_bits) - 1))
    samples = list(zip(band.split(), frame.clear, strict=True))
    if low is not None:
        samples = list(zip(band.split(), [sample >> 8 for sample in frame.clear], strict=True))
        samples += zip(low.split(), [sample & 0xFF for sample in frame.clear], strict=True)
    mask = _unlike(*samples[0])
    for channel, value in samples[1:]:
        mask = ImageChops.lighter(mask, _unlike(channel, value))
    return mask


def _unlike(band: Image.Image, value: int) -> Image.Image:
    return band.point([0 if other == value else 255 for other in range(256)])


def _low_bytes(frame: Frame) -> Image.Image:
    """The lower halves of 16-bit colour, of which decoding keeps the upper ones."""
    with Image.open(io.BytesIO(frame.data), formats=(frame.format,)) as picture:
        assert hasattr(picture, "tile")
        picture.tile = [tile._replace(args="RGB;16L") for tile in picture.tile]
        picture.load()
        return picture
