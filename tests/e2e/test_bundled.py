"""What the bundled checkpoint is for: a first user without a GPU, weights or a network sees it see and paint."""

import base64
import io

import pytest
from PIL import Image

from tests.e2e.tree import Tree

pytestmark = pytest.mark.timeout(180)

NAMES = {"en": "red apple", "zh": "红苹果"}
GROUND = {"en": "blue", "zh": "蓝色"}


@pytest.fixture(scope="module")
def red_apple() -> str:
    """A red apple on a blue ground, 256 pixels wide, as base64."""
    from models.emoji.names import emoji_names
    from models.emoji.scenes.composition import paint_scene
    from models.emoji.scenes.grounds import COLOURS
    from models.emoji.scenes.renderer import Renderer

    renderer = Renderer(("twemoji",))
    (name,) = [name for name in emoji_names() if name.en == NAMES["en"]]
    (blue,) = [colour for colour in COLOURS if colour.en == GROUND["en"]]
    png = io.BytesIO()
    Image.fromarray(renderer.render(paint_scene(renderer, name, blue, "centre"), 256)).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


def test_readiness_names_it(boxed: Tree) -> None:
    with boxed.client() as client:
        ready = client.get("/health/ready").json()
    assert ready["untrained"] is False
    assert {model["name"] for model in ready["models"].values()} == {"viscpm-emoji-chat", "viscpm-emoji-paint"}
    assert "the bundled checkpoint" in boxed.log


@pytest.mark.parametrize(
    ("language", "question", "follow_up"),
    [("en", "What is in the picture?", "Say it in Chinese."), ("zh", "图里有什么？", "用英语怎么说？")],
)
def test_a_red_apple_on_blue_in_one_language_and_then_in_the_other(
    boxed: Tree, red_apple: str, language: str, question: str, follow_up: str
) -> None:
    other = {"en": "zh", "zh": "en"}[language]
    with boxed.client() as client:
        first = client.post("/chat", json={"image": red_apple, "question": question}).json()
        assert NAMES[language] in first["answer"] and GROUND[language] in first["answer"], first
        asked = {"conversation_id": first["conversation_id"], "question": follow_up}
        second = client.post("/chat", json=asked).json()
        assert NAMES[other] in second["answer"] and GROUND[other] in second["answer"], second


@pytest.mark.parametrize("prompt", [NAMES["zh"], NAMES["en"]])
def test_what_it_paints_it_recognises(boxed: Tree, prompt: str) -> None:
    with boxed.client(60) as client:
        painted = client.post("/paint", json={"prompt": prompt, "seed": 1})
        assert painted.status_code == 200, painted.text
        image = painted.json()["data"][0]["b64_json"]
        answer = client.post("/chat", json={"image": image, "question": "What is this?"}).json()["answer"]
    assert NAMES["en"] in answer.lower(), answer
