"""Files that are not one of the five formats: what they are, by content, so that a refusal can say it.

HEIC, AVIF and TIFF are decoded where the extra `formats` is installed: their decoders are large and stand open to
whoever may send a picture, so they are not there unasked. The rest is for people.

The extra is pi-heif, which decodes alone (libheif and libde265, LGPL). pillow-heif is taken as well where it is there:
the same code with an encoder, whose library (x265) is under the GPL.
"""

import importlib
import importlib.util
import re
from typing import Literal

from PIL import features

Extra = Literal["AVIF", "HEIC", "TIFF"]
EXTRA: tuple[Extra, ...] = ("AVIF", "HEIC", "TIFF")

_HEIF_PACKAGES = ("pi_heif", "pillow_heif")
_PLUGINS = {"AVIF": "PIL.AvifImagePlugin", "TIFF": "PIL.TiffImagePlugin"}  # Pillow's own
PILLOW_NAMES = {"AVIF": "AVIF", "HEIC": "HEIF", "TIFF": "TIFF"}

_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
_HEIF_BRANDS = (b"mif1", b"msf1", b"mif2")  # of any codec
_MAX_BRANDS = 16
_LOOKED_AT_BYTES = 4096

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STARTS = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\2\0", "a cursor (CUR)"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"qoif", "a QOI picture"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\x03\x04", "a ZIP archive, or an Office document"),
    (b"\xd0\xcf\x11\xe0", "an Office document"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
    (b"RIFF", "a sound or a video (RIFF)"),
    (b"OggS", "a sound or a video (Ogg)"),
    (b"ID3", "a sound (MP3)"),
)
_TEXTS = (
    (re.compile(rb"(?:<\?xml.*?\?>|<!--.*?-->|<!doctype svg.*?>|\s)*<svg[\s>/]", re.I | re.S), "an SVG drawing"),
    (re.compile(rb"(?:<!--.*?-->|\s)*<(?:!doctype html|html|head|body)", re.I | re.S), "an HTML page"),
    (re.compile(rb"\s*<\?xml", re.I), "an XML document"),
    (re.compile(rb"P[1-7]\s"), "a PNM picture"),
    (re.compile(rb"\s*[{\[][\s\"\]}]"), "JSON"),
    (re.compile(rb"data:[a-z/;,]", re.I), "a data URL, encoded once more"),
    (re.compile(rb"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)"), "a picture in base64, encoded once more"),
    (re.compile(rb"https?://", re.I), "a web address"),
)


def installed() -> tuple[Extra, ...]:
    """What is decoded beside the five formats; nothing without the extra `formats`."""
    if not _heif_package():
        return ()
    return tuple(name for name in EXTRA if name != "AVIF" or features.check("avif"))


def _heif_package() -> str:
    """The first that is installed; empty: none."""
    return next((name for name in _HEIF_PACKAGES if importlib.util.find_spec(name) is not None), "")


def load_decoder(name: Extra) -> None:
    """Registers a format with Pillow: not before a first picture of it comes.

    Decoders that would take a thread for each core get one: `decode_threads` says how much of the machine is theirs.
    """
    if name == "HEIC":
        heif = importlib.import_module(_heif_package())
        heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    else:
        plugin = importlib.import_module(_PLUGINS[name])
        if name == "AVIF":
            plugin.DEFAULT_MAX_THREADS = 1  # type: ignore[attr-defined]


def extra_format(data: bytes | bytearray) -> Extra | None:
    """The format that the extra `formats` is for, by content."""
    if data[:4] in _TIFF:
        return "TIFF"
    brands = _brands(data)
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    if any(brand in _HEIC_BRANDS for brand in brands) or brands[:1] in ([brand] for brand in _HEIF_BRANDS):
        return "HEIC"
    return None


def name_of(data: bytes | bytearray) -> str:
    """What a file is, with its article; empty: nothing that is known."""
    extra = extra_format(data)
    if extra is not None:
        return f"{'an' if extra == 'AVIF' else 'a'} {extra} picture"
    start = bytes(data[:_LOOKED_AT_BYTES])
    if _brands(data):
        return "a video (MP4 or QuickTime)"
    for signature, name in _STARTS:
        if start.startswith(signature):
            return name
    text = start.removeprefix(b"\xef\xbb\xbf")
    return next((name for pattern, name in _TEXTS if pattern.match(text)), "")


def _brands(data: bytes | bytearray) -> list[bytes]:
    """Of an ISO base media file: the major one, then those that it is compatible with."""
    if data[4:8] != b"ftyp":
        return []
    length = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS, len(data))
    return [bytes(data[8:12]), *(bytes(data[start : start + 4]) for start in range(16, length - 3, 4))]
