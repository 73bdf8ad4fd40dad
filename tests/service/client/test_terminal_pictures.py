"""What terminals show: told by the environment alone, and drawn so that the picture can be read back."""

import base64
import io
import re

import pytest
from PIL import Image

from service.client.terminal_pictures import protocol_of, show


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "mintty"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, None),
        ({}, None),
    ],
)
def test_a_terminal_is_known_by_its_environment(environment: dict[str, str], protocol: str | None) -> None:
    assert protocol_of(Terminal(), environment) == protocol
    assert protocol_of(io.StringIO(), environment) is None, "a pipe shows nothing"


def picture(width_px: int, height_px: int) -> tuple[Image.Image, bytes]:
    drawn = Image.linear_gradient("L").resize((width_px, height_px)).convert("RGB")
    drawn.paste((250, 10, 10), (0, 0, width_px // 2, height_px // 2))
    target = io.BytesIO()
    drawn.save(target, "PNG")
    return drawn, target.getvalue()


def test_kitty_gets_a_png_in_pieces() -> None:
    noise = Image.effect_noise((300, 300), 80).convert("RGB")
    target, stream = io.BytesIO(), Terminal()
    noise.save(target, "PNG")
    show(stream, "kitty", target.getvalue())
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", stream.getvalue())
    assert len(pieces) > 2 and all(len(data) <= 4096 for _, data in pieces)
    assert pieces[0][0] == "a=T,f=100,q=2,m=1" and {keys for keys, _ in pieces[1:-1]} == {"m=1"}
    assert pieces[-1][0] == "m=0"
    shown = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in pieces))))
    assert shown.tobytes() == noise.tobytes()


def test_iterm2_gets_a_file_that_is_small_enough() -> None:
    _, data = picture(1200, 600)
    stream = Terminal()
    show(stream, "iterm2", data)
    match = re.fullmatch(
        r"\x1b]1337;File=inline=1;size=(\d+);preserveAspectRatio=1:([^\x07]+)\x07\n", stream.getvalue()
    )
    assert match is not None
    shown = base64.b64decode(match[2])
    assert len(shown) == int(match[1]) and Image.open(io.BytesIO(shown)).size == (480, 240)


def test_sixels_can_be_read_back() -> None:
    drawn, data = picture(50, 32)  # 32 rows: the last band has two
    stream = Terminal()
    show(stream, "sixel", data)
    shown = _decoded(stream.getvalue())
    assert shown.size == drawn.size
    differences = [abs(one - other) for one, other in zip(shown.tobytes(), drawn.tobytes(), strict=True)]
    assert max(differences) <= 12, "128 colours, each part in per cent"


def _decoded(text: str) -> Image.Image:
    """A reader of sixels, enough of one for these."""
    match = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\\n', text, re.DOTALL)
    assert match is not None
    result = Image.new("RGB", (int(match[1]), int(match[2])), (0, 255, 0))
    colours: dict[int, tuple[int, int, int]] = {}
    colour = x = top = 0
    for number, rgb, count, bits, control in re.findall(
        r"#(\d+)(?:;2;(\d+;\d+;\d+))?|(?:!(\d+))?([?-~])|([$-])", match[3]
    ):
        if number and rgb:
            parts = [round(int(part) * 255 / 100) for part in rgb.split(";")]
            colours[int(number)] = (parts[0], parts[1], parts[2])
        elif number:
            colour = int(number)
        elif control:
            x, top = 0, top + 6 * (control == "-")
        else:
            for _ in range(int(count or 1)):
                for row in range(6):
                    if ord(bits) - 63 & 1 << row:
                        result.putpixel((x, top + row), colours[colour])
                x += 1
    return result
