"""What a first user does: a talk about a picture, a painted picture, and the mistakes."""

import base64
import io

import httpx
import pytest
from PIL import Image

from tests.e2e.tree import Tree, large_jpeg, wait_for

pytestmark = pytest.mark.timeout(180)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_readiness_says_that_the_weights_are_untrained(tree: Tree) -> None:
    with tree.client() as client:
        ready = client.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["untrained"] is True


def test_two_turns_run_the_vision_tower_once(tree: Tree) -> None:
    with tree.client() as client:
        body = {"image": _base64(large_jpeg(seed=1)), "question": "这张图里有什么？", "max_new_tokens": 12}
        first = client.post("/chat", json=body)
        assert first.status_code == 200, first.text
        assert first.json()["untrained"] is True
        towers = tree.metric("viscpm_vision_tower_runs_total")
        hits = tree.metric("viscpm_vision_cache_hits_total")
        assert towers >= 1

        second = client.post(
            "/chat",
            json={
                "conversation_id": first.json()["conversation_id"],
                "question": "它是什么颜色？",
                "max_new_tokens": 12,
            },
        )
        assert second.status_code == 200, second.text
        assert second.json()["vision_cached"] is True
        assert second.json()["usage"]["prompt_tokens"] > first.json()["usage"]["prompt_tokens"]
        assert tree.metric("viscpm_vision_tower_runs_total") == towers
        assert tree.metric("viscpm_vision_cache_hits_total") == hits + 1
        talk = client.get(f"/conversations/{first.json()['conversation_id']}").json()
        assert [turn["question"] for turn in talk["turns"]] == ["这张图里有什么？", "它是什么颜色？"]


def test_the_public_demo_body_alone_works(tree: Tree) -> None:
    with tree.client(120) as client:
        answer = client.post("/chat", json={"image": _base64(large_jpeg(seed=2)), "question": "What is this?"})
        assert answer.status_code == 200, answer.text
        assert {"id", "conversation_id", "answer", "finish_reason", "usage"} <= answer.json().keys()


def test_paint_gives_a_png_twice_the_same(tree: Tree) -> None:
    body = {"prompt": "a red lighthouse at dusk", "num_inference_steps": 3, "seed": 7, "size": "256x256"}
    with tree.client() as client:
        answer = client.post("/paint", json=body)
        assert answer.status_code == 200, answer.text
        png = base64.b64decode(answer.json()["data"][0]["b64_json"])
        assert Image.open(io.BytesIO(png)).size == (256, 256)
        direct = client.post("/paint", json=body, headers={"Accept": "image/png"})
        assert direct.headers["content-type"] == "image/png"
        # Each carries a label with its own request and time; what is painted is the same.
        assert Image.open(io.BytesIO(direct.content)).tobytes() == Image.open(io.BytesIO(png)).tobytes()


MISTAKES: list[tuple[str, dict[str, object], int, str]] = [
    ("bad base64", {"image": "not base64!", "question": "?"}, 400, "image"),
    ("not an image", {"image": _base64(b"plain text, no picture"), "question": "?"}, 400, "image"),
    ("unknown conversation", {"conversation_id": "conv-none", "question": "?"}, 404, "conversation_id"),
    ("unknown field", {"image": "", "question": "?", "colour": 1}, 400, "colour"),
    ("field value", {"image": _base64(large_jpeg()), "question": "?", "num_beams": 99}, 400, "num_beams"),
]


@pytest.mark.parametrize(("body", "status", "param"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_mistakes_are_answered_in_one_form(tree: Tree, body: dict[str, object], status: int, param: str) -> None:
    with tree.client() as client:
        _assert_error(client.post("/chat", json=body), status, param)


def test_a_body_over_the_limit_is_413(tree: Tree) -> None:
    with tree.client() as client:
        answer = client.post("/chat", json={"image": "A" * (21 * 2**20), "question": "?"})
        assert _assert_error(answer, 413)["code"] == "content_too_large"


def _assert_error(answer: httpx.Response, status: int, param: str | None = None) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    error: dict[str, object] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert isinstance(error["message"], str) and error["message"]
    assert param is None or error["param"] == param
    return error


def test_memory_of_the_api_stays_small(tree: Tree) -> None:
    (api,) = tree.processes(" api ")
    with tree.client() as client:
        for seed in range(12):
            picture = large_jpeg(seed)
            answer = client.post("/chat", json={"image": _base64(picture), "question": "?", "max_new_tokens": 2})
            assert answer.status_code == 200, answer.text
        rss = api.memory_info().rss
        assert rss < 200 * 2**20, f"{rss / 2**20:.0f} MiB after 12 chats with a 2560 x 1704 picture"


def test_every_accepted_job_has_one_ending(tree: Tree) -> None:
    wait_for(lambda: tree.metric("viscpm_queue_depth") == 0, what="an empty queue")
    endings = sum(tree.metric("viscpm_jobs", state=state) for state in ("done", "refused", "failed", "cancelled"))
    assert tree.metric("viscpm_jobs", state="accepted") == endings > 0
