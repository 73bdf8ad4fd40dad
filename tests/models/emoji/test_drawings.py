from pathlib import Path

import numpy as np
import pytest

from models.emoji.drawings import (
    NOTO_FONT_VARIABLE,
    DrawingError,
    Drawings,
    installed_styles,
    shared_drawings,
    twemoji_path,
)
from models.emoji.names import EmojiName

RED_APPLE = "1f34e"


@pytest.mark.slow
def test_twemoji_draws_every_name_cut_to_its_visible_box(names: tuple[EmojiName, ...]) -> None:
    drawings = Drawings("twemoji")
    for name in names:
        image = drawings.drawing(name.code)
        alpha = np.asarray(image)[..., 3]
        assert image.mode == "RGBA" and max(image.size) <= 72
        for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert edge.max() >= 24, name
    assert drawings.drawing(RED_APPLE) is drawings.drawing(RED_APPLE)


@pytest.mark.slow
def test_every_name_has_a_picture_of_its_own(names: tuple[EmojiName, ...]) -> None:
    drawings = shared_drawings("twemoji")
    assert len({drawings.drawing(name.code).tobytes() for name in names}) == len(names)


def test_a_joined_sequence_is_not_taken_for_its_first_part(names: tuple[EmojiName, ...]) -> None:
    assert twemoji_path("1f415-200d-1f9ba") != twemoji_path("1f415")
    assert twemoji_path("1f415-200d-1f347") is None
    assert twemoji_path("2744-fe0f") == twemoji_path("2744")


def test_an_emoji_without_picture_is_named(names: tuple[EmojiName, ...]) -> None:
    drawings = Drawings("twemoji")
    assert not drawings.draws("41")
    with pytest.raises(DrawingError, match="style 'twemoji' has no picture of emoji '41'"):
        drawings.drawing("41")


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(DrawingError, match="unknown style 'crayon'; there are twemoji, noto, openmoji"):
        Drawings("crayon")  # type: ignore[arg-type]


@pytest.mark.ops
def test_noto_draws_colours_and_knows_what_it_lacks(names: tuple[EmojiName, ...], noto: Drawings) -> None:
    drawings = noto
    red, green, _, alpha = (band.astype(float) for band in np.moveaxis(np.asarray(drawings.drawing(RED_APPLE)), -1, 0))
    assert red[alpha > 200].mean() > green[alpha > 200].mean() + 60
    assert sum(drawings.draws(name.code) for name in names[::20]) >= len(names[::20]) - 2
    assert not drawings.draws("1f415-200d-1f347"), "a sequence that the font does not know is two glyphs"
    assert not drawings.draws("10fffd")


def test_a_missing_font_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTO_FONT_VARIABLE, str(tmp_path / "none.ttf"))
    with pytest.raises(DrawingError, match=r"none.ttf; install Debian's fonts-noto-color-emoji or set VISCPM_NOTO"):
        Drawings("noto")


@pytest.mark.usefixtures("without_noto")
def test_what_is_not_installed_is_told_once_and_left_out(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert installed_styles(("twemoji", "noto")) == ("twemoji",)
    (line,) = caplog.messages
    assert line.startswith(f"drawn as twemoji alone: no NotoColorEmoji.ttf in {tmp_path}/share/fonts, ")
    assert "install Debian's fonts-noto-color-emoji" in line and "\n" not in line
    assert installed_styles(("twemoji",)) == ("twemoji",) and len(caplog.messages) == 1
    with pytest.raises(DrawingError, match="install Debian's fonts-noto-color-emoji"):
        installed_styles(("noto",))
    with pytest.raises(DrawingError, match="install Debian's fonts-noto-color-emoji"):
        Drawings("noto")

    installed_styles.cache_clear()
    monkeypatch.setenv(NOTO_FONT_VARIABLE, str(tmp_path / "none.ttf"))  # what somebody asks for is not left out
    with pytest.raises(DrawingError, match="none.ttf"):
        installed_styles(("twemoji", "noto"))


@pytest.mark.usefixtures("without_noto")
def test_fonts_are_found_where_desktops_have_them(tmp_path: Path) -> None:
    for file in (tmp_path / "share" / "fonts" / "truetype" / "NotoColorEmoji.ttf", tmp_path / ".fonts" / "any.ttf"):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"no font")
    with pytest.raises((OSError, DrawingError)) as caught:  # found, and read as far as this machine's FriBiDi goes
        Drawings("noto")
    assert "NotoColorEmoji.ttf" not in str(caught.value)


def test_openmoji_draws_from_svg(names: tuple[EmojiName, ...]) -> None:
    drawings = Drawings("openmoji")
    apple = np.asarray(drawings.drawing(RED_APPLE)).astype(float)
    assert max(apple.shape) > 80
    assert apple[apple[..., 3] > 200][:, 0].mean() > apple[apple[..., 3] > 200][:, 2].mean() + 60
    assert all(drawings.draws(name.code) for name in names[::60])
