import numpy as np
import pytest

from models.emoji.contact_sheet import contact_sheet
from models.emoji.names import EmojiName


@pytest.mark.slow
def test_a_sheet_shows_scenes_with_words_below(names: tuple[EmojiName, ...]) -> None:
    sheet = contact_sheet(0, ["twemoji"])
    pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] == 1500 and sheet.mode == "P"
    below = pixels[8 + 96 + 4 : 8 + 96 + 60, :300]
    assert (below < 100).any(), "the first scene's questions are drawn"
