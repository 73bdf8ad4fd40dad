"""What shows where a picture is transparent: the ground that it is composed on.

Covered: alpha channels, a palette's transparent entries, the one transparent colour of a PNG or GIF in its own
samples (1 to 16 bits), and what a first frame leaves bare of its screen.
"""

import io

from PIL import Image, ImageChops

from service.image_input.formats import Frame

Colour = tuple[int, int, int]  # RGB of 8 bits

_GREY = ("1", "LA")


def parse_colour(text: str) -> Colour:
    """`#rrggbb` → RGB; ValueError for anything else."""
    digits = text.removeprefix("#")
    if len(text) != 7 or len(digits) != 6:
        raise ValueError(f"{text!r} is no colour: #rrggbb is allowed, such as #ffffff")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def composed(picture: Image.Image, frame: Frame, background: Colour) -> Image.Image:
    """The loaded picture on a ground of `background`; the picture itself where all of it is opaque."""
    colours, mask = _layers(picture, frame)
    if mask is None and frame.box_px is None:
        return picture
    ground = Image.new("RGB", picture.size, background)
    box_px = frame.box_px or (0, 0, *picture.size)
    if frame.box_px is not None:
        colours, mask = colours.crop(box_px), None if mask is None else mask.crop(box_px)
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


def _layers(picture: Image.Image, frame: Frame) -> tuple[Image.Image, Image.Image | None]:
    """Colours, and the mask that says how much of them shows; without one: all."""
    if frame.clear:
        return eight_bit(picture), _all_but(frame, picture)
    if picture.mode in ("RGBA", "LA"):
        if frame.format == "BMP" and picture.getchannel("A").getextrema() == (0, 0):
            return picture.convert("RGB"), None  # its writer left the fourth byte unused
        return picture, picture
    clear = picture.info.get("transparency")
    if clear is None:
        return eight_bit(picture), None
    if picture.mode == "L":  # a GIF of a grey palette
        return picture, picture.point([0 if value == clear else 255 for value in range(256)])
    whole = picture.convert("RGBA")
    return whole, whole


def _all_but(frame: Frame, picture: Image.Image) -> Image.Image:
    """Opaque wherever a PNG's samples are not those of its transparent colour."""
    if picture.mode.startswith("I"):
        wanted = [255] * 65536
        wanted[frame.clear[0]] = 0
        return picture.convert("I").point(wanted, "L")
    if len(frame.clear) == 1:
        return _unlike(picture.convert("L"), frame.clear[0] * 255 // ((1 << frame.sample_bits) - 1))
    if frame.sample_bits == 8:
        bands = list(zip(picture.split(), frame.clear, strict=True))
    else:
        bands = list(zip(picture.split(), [sample >> 8 for sample in frame.clear], strict=True))
        bands += zip(_low_bytes(frame).split(), [sample & 0xFF for sample in frame.clear], strict=True)
    mask = _unlike(*bands[0])
    for band, value in bands[1:]:
        mask = ImageChops.lighter(mask, _unlike(band, value))
    return mask


def _unlike(band: Image.Image, value: int) -> Image.Image:
    return band.point([0 if other == value else 255 for other in range(256)])


def _low_bytes(frame: Frame) -> Image.Image:
    """The lower halves of 16-bit colour, of which decoding keeps the upper ones."""
    with Image.open(io.BytesIO(frame.data), formats=(frame.format,)) as picture:
        assert hasattr(picture, "tile")
        picture.tile = [tile._replace(args="RGB;16L") for tile in picture.tile]
        picture.load()
        return picture.copy()
