"""Pictures on a terminal: which terminals show them, and the escape sequences that they take.

What a terminal can is told by its environment alone: to ask it would mean to wait for an answer that may never come.
"""

import base64
import io
import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = Literal["kitty", "iterm2", "sixel"]

_KITTY_PROGRAMS = ("ghostty",)
_ITERM2_PROGRAMS = ("iTerm.app", "WezTerm", "vscode", "rio", "Tabby")
_SIXEL_PROGRAMS = ("mlterm", "mintty")
_SIXEL_TERMS = ("foot", "foot-extra", "foot-direct", "mlterm", "contour", "yaft-256color", "xterm-sixel")
_KITTY_CHUNK = 4096
_MAX_SIDE_PX = 480
_SIXEL_COLOURS = 128


def protocol_of(stream: IO[str], environment: Mapping[str, str] = os.environ) -> Protocol | None:
    """What the terminal behind a stream takes; None: no terminal, or one that shows no pictures.

    `tmux` and `screen` pass none of it on, whatever they run in.
    """
    term, program = environment.get("TERM", "dumb"), environment.get("TERM_PROGRAM", "")
    if not stream.isatty() or term == "dumb" or environment.get("TMUX") or environment.get("STY"):
        return None
    if environment.get("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty") or program in _KITTY_PROGRAMS:
        return "kitty"
    if program in _ITERM2_PROGRAMS or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return "sixel" if term in _SIXEL_TERMS or program in _SIXEL_PROGRAMS else None


def show(stream: IO[str], protocol: Protocol, picture: bytes) -> None:
    """Draw a PNG, JPEG or WebP where the cursor is; it is then on a line of its own below."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as opened:
        pixels = opened.convert("RGB")
    pixels.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    drawn = _sixel(pixels) if protocol == "sixel" else _as_png(pixels, protocol)
    stream.write(f"{drawn}\n")
    stream.flush()


def _as_png(pixels: "Image", protocol: Protocol) -> str:
    target = io.BytesIO()
    pixels.save(target, "PNG")
    text = base64.b64encode(target.getvalue()).decode()
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(target.getvalue())};preserveAspectRatio=1:{text}\x07"
    chunks = [text[at : at + _KITTY_CHUNK] for at in range(0, len(text), _KITTY_CHUNK)]
    head = "a=T,f=100,q=2,"  # transmit and show, PNG, no answer
    return "".join(
        f"\x1b_G{head if number == 0 else ''}m={int(number + 1 < len(chunks))};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )


def _sixel(pixels: "Image") -> str:
    indexed = pixels.quantize(_SIXEL_COLOURS)
    width, height = indexed.size
    palette, data = indexed.getpalette() or [], indexed.tobytes()
    used = sorted(set(data))
    colours = "".join(
        f"#{one};2;" + ";".join(str(round(part * 100 / 255)) for part in palette[3 * one : 3 * one + 3]) for one in used
    )
    bands = "-".join(_band(data, width, top, min(6, height - top)) for top in range(0, height, 6))
    return f'\x1bPq"1;1;{width};{height}{colours}{bands}\x1b\\'


def _band(data: bytes, width: int, top: int, num_rows: int) -> str:
    """Six rows of pixels: for each colour the columns' bits, one character each."""
    columns: dict[int, bytearray] = {}
    for row in range(num_rows):
        for x, colour in enumerate(data[(top + row) * width : (top + row + 1) * width]):
            columns.setdefault(colour, bytearray(width))[x] |= 1 << row
    return "$".join(f"#{colour}{_run_lengths(bits)}" for colour, bits in columns.items())


def _run_lengths(bits: bytearray) -> str:
    drawn, at = [], 0
    while at < len(bits):
        end = at
        while end < len(bits) and bits[end] == bits[at]:
            end += 1
        character = chr(63 + bits[at])
        drawn.append(f"!{end - at}{character}" if end - at > 3 else character * (end - at))
        at = end
    return "".join(drawn)
