"""What the bundled checkpoint is for: a first user without a GPU, weights or a network sees it see and paint."""

import base64
import hashlib
import io
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
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


def test_questions_asked_at_once_are_answered_in_one_batch(boxed: Tree, red_apple: str) -> None:
    questions = ["What is in the picture?", "图里有什么？", "What colour is the ground?", "背景是什么颜色？"] * 3
    with boxed.client(60) as client:

        def ask(question: str) -> tuple[str, int]:
            told = client.post("/chat", json={"image": red_apple, "question": question}).json()
            return told["answer"], told["usage"]["completion_tokens"]

        alone = {question: ask(question)[0] for question in set(questions)}
        steps = decode_steps(client)
        with ThreadPoolExecutor(len(questions)) as pool:
            answers = list(pool.map(ask, questions))
        assert [answer for answer, _ in answers] == [alone[question] for question in questions]
        assert decode_steps(client) - steps < sum(tokens for _, tokens in answers), "each had a forward of its own"
        page = client.get("/metrics?scope=all").text
        assert re.search(r"viscpm_kv_cache_usage_ratio{[^}]*} 0\.0", page), "the pool is free again"
        (worker,) = client.get("/health/ready").json()["models"]["chat"]["workers"]
        assert worker["capacity"] > 8


def decode_steps(client: httpx.Client) -> float:
    page = client.get("/metrics?scope=all").text
    (line,) = re.findall(r"viscpm_inter_token_latency_seconds_count{[^}]*} (\S+)", page)
    return float(line)


def test_what_a_transparent_picture_hides_is_not_seen(boxed: Tree) -> None:
    """Green under an alpha of zero: its ground is what there is to see, unless the reference's way is asked for."""
    png = io.BytesIO()
    Image.new("RGBA", (256, 256), (0, 255, 0, 0)).save(png, "PNG")
    asked = {"image": base64.b64encode(png.getvalue()).decode(), "question": "What colour is the background?"}
    with boxed.client() as client:
        assert "white" in client.post("/chat", json=asked).json()["answer"].lower()
        assert "white" not in client.post("/chat", json={**asked, "raw": True}).json()["answer"].lower()


@pytest.mark.parametrize("prompt", [NAMES["zh"], NAMES["en"]])
def test_what_it_paints_it_recognises(boxed: Tree, prompt: str) -> None:
    with boxed.client(60) as client:
        painted = client.post("/paint", json={"prompt": prompt, "seed": 1})
        assert painted.status_code == 200, painted.text
        image = painted.json()["data"][0]["b64_json"]
        answer = client.post("/chat", json={"image": image, "question": "What is this?"}).json()["answer"]
    assert NAMES["en"] in answer.lower(), answer


@pytest.mark.parametrize(
    ("prompts", "name"),
    [
        (("red apple", "Red Apple", "RED APPLE"), NAMES["en"]),
        (("红苹果", "紅蘋果"), NAMES["en"]),
        (("Christmas tree", "CHRISTMAS TREE", "christmas tree"), "christmas tree"),
    ],
)
def test_neither_case_nor_traditional_characters_change_what_it_paints(
    boxed: Tree, prompts: tuple[str, ...], name: str
) -> None:
    digests = set()
    with boxed.client(60) as client:
        for prompt in prompts:
            painted = client.post("/paint", json={"prompt": prompt, "seed": 1})
            assert painted.status_code == 200, painted.text
            assert painted.json()["unknown_words"] == []
            image = painted.json()["data"][0]["b64_json"]
            pixels = Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB").tobytes()
            digests.add(hashlib.sha256(pixels).hexdigest())
        answer = client.post("/chat", json={"image": image, "question": "WHAT IS THIS"}).json()["answer"]
    assert len(digests) == 1
    assert name in answer.lower(), answer


def test_what_it_does_not_know_is_refused_or_told(boxed: Tree) -> None:
    with boxed.client(60) as client:
        for prompt in ("🍎", "\u200b", " 🍎 "):
            refused = client.post("/paint", json={"prompt": prompt})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_words"), refused.text
            assert repr(prompt) in refused.json()["error"]["message"]
        painted = client.post("/paint", json={"prompt": "Red Apple 🍎", "num_inference_steps": 4}).json()
        assert painted["unknown_words"] == ["🍎"]
        long = client.post("/paint", json={"prompt": "red apple", "num_inference_steps": 401})
        assert "at most 1638400 are allowed (VISCPM_MAX_PIXEL_STEPS)" in long.json()["error"]["message"]
