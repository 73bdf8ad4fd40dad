import numpy as np
import pytest

from models.emoji.drawings import Style
from models.emoji.names import EmojiName, emoji_names
from models.emoji.scenes.renderer import Renderer


@pytest.fixture(scope="session")
def names() -> tuple[EmojiName, ...]:
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


@pytest.fixture(
    scope="session", params=[("twemoji",), pytest.param(("twemoji", "noto"), marks=pytest.mark.ops)], ids="+".join
)
def styles(names: tuple[EmojiName, ...], request: pytest.FixtureRequest) -> tuple[Style, ...]:
    """Those that pip brings, and with them what Debian brings."""
    chosen: tuple[Style, ...] = request.param
    if "noto" in chosen:
        request.getfixturevalue("noto")
    return chosen
