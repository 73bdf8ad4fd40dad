"""A sheet of sample scenes with their conversations, and of pictures with their captions, for people.

python -m models.emoji.contact_sheet OUT.png [--seed N]
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from models.datasets.examples import PixelArray, Round
from models.emoji.drawings import Style
from models.emoji.names import bundled_names
from models.emoji.sources import EmojiConversations, EmojiPictures

_SIDE_PX = 96
_COLUMNS, _CONVERSATION_ROWS, _PICTURE_ROWS = 5, 4, 2
_CELL_PX = (300, 214)
_MARGIN_PX = 8
_LINE_PX = 17
_FONT_SIZE = 12
_CHINESE_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf")
_COLOURS = 256  # of the file's palette


def contact_sheet(seed: int, styles: Sequence[Style] = ("twemoji", "noto")) -> Image.Image:
    """Conversations about scenes above, captioned pictures below; Chinese needs a font that has it (or shows as boxes).

    Raises:
        DrawingError: a style is not installed.
    """
    names = bundled_names()
    conversations = EmojiConversations(names, styles, _SIDE_PX, seed, _COLUMNS * _CONVERSATION_ROWS)
    pictures = EmojiPictures(names, styles[:1], _SIDE_PX, seed, _COLUMNS * _PICTURE_ROWS)
    rows = _CONVERSATION_ROWS + _PICTURE_ROWS
    sheet = Image.new("RGB", (_COLUMNS * _CELL_PX[0], rows * _CELL_PX[1]), "white")
    font = _font()
    for cell in range(len(conversations)):
        conversation = conversations.conversation(cell, 0)
        assert conversation.pixels is not None, "conversations are about pictures"
        _draw_cell(sheet, font, cell, conversation.pixels, _lines_of(conversation.rounds))
    for cell in range(len(pictures)):
        picture = pictures.picture(cell, 0)
        _draw_cell(sheet, font, len(conversations) + cell, picture.pixels, [picture.caption])
    return sheet.quantize(_COLOURS)


def _lines_of(rounds: Iterable[Round]) -> list[str]:
    return [line for round_ in rounds for line in (round_.question, f"    {round_.answer}")]


def _draw_cell(
    sheet: Image.Image,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    cell: int,
    pixels: PixelArray,
    lines: list[str],
) -> None:
    left = cell % _COLUMNS * _CELL_PX[0] + _MARGIN_PX
    top = cell // _COLUMNS * _CELL_PX[1] + _MARGIN_PX
    sheet.paste(Image.fromarray(pixels), (left, top))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left - 1, top - 1, left + _SIDE_PX, top + _SIDE_PX), outline="lightgrey")
    for number, line in enumerate(lines):
        draw.text((left, top + _SIDE_PX + 4 + number * _LINE_PX), line, fill="black", font=font)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, _FONT_SIZE)
        except OSError:
            continue
    return ImageFont.load_default(_FONT_SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a sheet of sample emoji scenes with their conversations.")
    parser.add_argument("output", type=Path, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    contact_sheet(arguments.seed).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
