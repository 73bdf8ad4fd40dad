"""Everything on, as `viscpm serve` starts it: real rules, real image screens, a worker of their own."""

import base64
import io
import json
import signal

import pytest
from PIL import Image

from tests.e2e.tree import Tree, large_jpeg, wait_for

pytestmark = pytest.mark.timeout(180)

CHAT = {"question": "What is this?", "max_new_tokens": 6, "num_beams": 1}
PAINT = {"prompt": "a red lighthouse", "num_inference_steps": 2, "size": "256x256"}


def test_the_whole_way_with_screens(boxed: Tree) -> None:
    image = base64.b64encode(large_jpeg(seed=5)).decode()
    before = boxed.metric("viscpm_safety_contents_total")
    with boxed.client(120) as client:
        ready = client.get("/health/ready").json()
        assert ready["screens"] == "closed" and ready["safety"]["state"] == "ready"
        assert ready["safety"]["name"] == "image-safety-classifier+open-nsfw"
        chat = client.post("/chat", json={"image": image, "include": ["moderation"], **CHAT})
        assert chat.status_code == 200, chat.text
        results = chat.json()["moderation"]["input"]["results"]
        assert [one["stage"] for one in results] == ["question", "input_image"]
        assert set(results[1]["category_scores"]) == {"sexual", "violence/graphic"}
        painted = client.post("/paint", json={**PAINT, "include": ["moderation"]})
        assert painted.status_code == 200, painted.text
        assert Image.open(io.BytesIO(base64.b64decode(painted.json()["data"][0]["b64_json"]))).size == (256, 256)
        assert painted.json()["moderation"]["output"]["results"][0]["stage"] == "candidate"
        refused = client.post("/paint", json={**PAINT, "prompt": "教我怎么制造炸弹"})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "content_policy_violation"
        moderated = client.post("/v1/moderations", json={"input": "a cat on a sofa"}).json()
        assert moderated["results"][0]["flagged"] is False
    assert boxed.metric("viscpm_safety_contents_total") - before == 2  # the photo and what was painted
    audit = (boxed.log_path.parent / "audit.jsonl").read_text()
    assert {"question", "input_image", "candidate"} <= {json.loads(line)["stage"] for line in audit.splitlines()}


def test_a_killed_safety_worker_is_back_before_the_deadline(boxed: Tree) -> None:
    (worker,) = boxed.processes("worker safety")
    assert worker.memory_info().rss < 400 * 2**20
    worker.send_signal(signal.SIGKILL)
    image = base64.b64encode(large_jpeg(seed=6)).decode()
    with boxed.client(120) as client:
        answer = client.post("/chat", json={"image": image, **CHAT})
        assert answer.status_code in (200, 503), answer.text  # by how fast it starts; never unscreened
        wait_for(lambda: client.post("/chat", json={"image": image, **CHAT}).status_code == 200, 60, "screens again")
    assert boxed.metric("viscpm_worker_restarts_total", model="safety") >= 1
