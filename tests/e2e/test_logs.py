"""What all processes of a tree write: lines of one form, the same id for a request everywhere, and nothing said.

Requests carry a marker wherever a client can put one. No line of any process may hold it, at no level.
"""

import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, PngImagePlugin

from tests.e2e.tree import FAST_LEASES, Tree, wait_for

pytestmark = pytest.mark.timeout(180)

MARKER = "zqMarkerqz"
URLS = (
    f"http://127.0.0.1:1/{MARKER}.png?token={MARKER}",
    f"http://user:{MARKER}@127.0.0.1/x.png",
    f"http://{MARKER}.invalid/x.png",
)
TEXT_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +(serve|api|worker (chat|paint|safety)): \S.*|  .*"
)
KINDS = {
    "VISCPM_CHAT_ENGINE": "tests.service.engines:create_engine",
    "VISCPM_PAINT_ENGINE": "tests.service.painter:create_engine",
    "VISCPM_SAFETY_ENGINE": "tests.service.image_input.colours:create_engine",
}


@pytest.fixture(scope="module", params=["json", "text"])
def talked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A stopped tree that was asked everything; its log is whole."""
    folder: Path = tmp_path_factory.mktemp(f"logs-{request.param}")
    variables = {
        "VISCPM_LOG_FORMAT": request.param,
        "VISCPM_LOG_LEVEL": "debug",
        "VISCPM_SAFETY": "on",
        "VISCPM_FETCH_IMAGES": "true",
        "VISCPM_API_PROCESSES": "2",
        "VISCPM_TEST_LOG": str(folder / "engines.log"),
        "VISCPM_TEST_STEP_S": "0.005",
    }
    tree = Tree(folder / "data", **variables, **KINDS, **FAST_LEASES)
    try:
        tree.wait_ready()
        with tree.client() as client:
            say_everything(client)
        leave(tree)
        client_left = r"client_gone"
        wait_for(lambda: len(re.findall(client_left, tree.log)) >= 2, what="the lines of who left")
        dead = tree.processes("worker chat")[0]
        dead.kill()  # what the supervisor and the next worker say
        wait_for(lambda: re.search(r"left \d+ jobs behind", tree.log), what="the next worker's line")
        assert tree.stop() == 0
        yield tree
    finally:
        tree.stop()


def picture(colour: tuple[int, int, int] = (9, 99, 9)) -> str:
    told = PngImagePlugin.PngInfo()
    told.add_text("Comment", MARKER)
    target = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(target, "PNG", pnginfo=told)
    return base64.b64encode(target.getvalue()).decode()


def say_everything(client: httpx.Client) -> None:
    def chat(question: str, **fields: Any) -> httpx.Response:
        return client.post("/chat", json={"question": question, **fields})

    first = client.post(
        "/chat",
        json={"question": f"echo {MARKER}", "image": picture()},
        headers={"x-request-id": "follow-me", "authorization": f"Bearer {MARKER}", "cookie": MARKER},
    )
    assert first.json()["answer"] == MARKER
    told = first.json()
    assert MARKER in chat(f"echo {MARKER}. And {MARKER}.", stream=True).text
    assert MARKER in chat(f"echo {MARKER}", conversation_id=told["conversation_id"]).text
    assert MARKER in client.get(f"/conversations/{told['conversation_id']}").text
    assert chat(f"stream {MARKER}").status_code == 500  # ValueError: invalid literal for int(): 'zqMarkerqz'
    assert chat("raise", strict_length=True).status_code == 500
    assert chat("reject").status_code == 400
    assert chat("red", image=picture((255, 0, 0))).status_code == 400
    for url in URLS:
        assert chat(MARKER, image=url).status_code in (400, 422)
    assert chat(MARKER, image=MARKER * 9).status_code == 400
    assert chat(MARKER, **{MARKER: MARKER}).status_code == 400
    assert chat(MARKER, seed=MARKER).status_code == 400
    assert client.post("/chat", content=f'{{"question": "{MARKER}'.encode(), headers=JSON).status_code == 400
    form = {"image": (f"{MARKER}.png", base64.b64decode(picture()), f"image/{MARKER}")}
    assert client.post("/chat", data={"question": f"echo {MARKER}"}, files=form).status_code == 200
    broken = f"multipart/form-data; boundary={MARKER}"
    client.post("/chat", content=f"--{MARKER}\r\nA: {MARKER}\n\n".encode(), headers={"content-type": broken})
    paint = {"prompt": f"paint 3 {MARKER}", "negative_prompt": MARKER}
    client.post("/paint", json=paint)  # the engine cannot read this number
    paint["prompt"] = MARKER
    assert client.post("/paint", json={**paint, "stream": True, "partial_images": 1}).status_code == 200
    assert client.post("/paint", json=paint, headers={"accept": "image/png"}).status_code == 200
    later = client.post("/paint", json=paint, headers={"prefer": "respond-async"})
    assert client.get(later.headers["location"]).status_code == 200
    assert client.get(f"{later.headers['location']}/events").status_code == 200
    assert client.delete(later.headers["location"]).status_code == 200
    moderated = {"input": [{"type": "text", "text": MARKER}, {"type": "image_url", "image_url": {"url": picture()}}]}
    assert client.post("/v1/moderations", json=moderated).status_code in (200, 400)
    for path in (f"/jobs/{MARKER}", f"/conversations/{MARKER}", f"/{MARKER}?key={MARKER}", f"/v2/models/{MARKER}"):
        assert client.get(path, headers={"last-event-id": MARKER}).status_code == 404
    assert client.request(MARKER.upper(), "/chat").status_code in (400, 405)
    client.get("/jobs/x%0A2026-01-01 INFO api: forged", headers={"x-request-id": "a b"})
    for path in ("/health/live", "/health/ready", "/metrics", "/v2/health/ready"):
        client.get(path)


JSON = {"content-type": "application/json"}


def leave(tree: Tree) -> None:
    for is_stream in (False, True):
        with tree.client(timeout_s=0.3) as client, contextlib.suppress(httpx.TimeoutException):
            asked = {"question": "stream 100000", "stream": is_stream}
            with client.stream("POST", "/chat", json=asked) as answer:
                for _ in answer.iter_raw():
                    break


def test_nothing_that_was_said_is_in_any_line(talked: Tree) -> None:
    log = talked.log
    forms = [MARKER, MARKER.upper(), MARKER.encode().hex(), picture()[:40], "forged"]
    forms += [base64.b64encode(b"x" * shift + MARKER.encode())[4:-4].decode() for shift in (1, 2, 3)]
    assert [form for form in forms if form.lower() in log.lower()] == []
    # the processes that could have told
    for role in ("serve", "api", "worker chat", "worker paint", "worker safety"):
        assert f" {role}: " in log or f'"role": "{role}"' in log
    assert "ValueError: (its message is withheld" in log and "ValueError: as told" not in log


def test_every_line_has_the_form(talked: Tree) -> None:
    lines = talked.log.splitlines()
    assert len(lines) > 60
    if is_json(talked):
        for line in lines:
            told = json.loads(line)
            assert list(told)[:4] == ["ts", "level", "role", "message"], line
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["ts"])
    else:
        assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == []


def test_one_id_leads_through_all_processes(talked: Tree) -> None:
    lines = [line for line in talked.log.splitlines() if "follow-me" in line]
    if not is_json(talked):
        assert all("request_id=follow-me" in line for line in lines)
        assert {re.search(r"(api|worker \w+):", line)[1] for line in lines} == {  # type: ignore[index]
            "api",
            "worker chat",
            "worker safety",
        }
        return
    told = {line["role"]: line for line in map(json.loads, lines)}
    api, chat, safety = told["api"], told["worker chat"], told["worker safety"]
    assert len(lines) == 3
    assert (api["message"], api["route"], api["status"], api["outcome"]) == ("request", "/chat", 200, "ok")
    assert (chat["message"], chat["model"], chat["delivery"], chat["outcome"]) == ("job", "chat", 1, "generated")
    assert api["job_id"] == chat["job_id"] != safety["job_id"]
    assert api["tokens"] == chat["tokens"] == 0  # of an echo
    assert api["duration_ms"] > chat["duration_ms"] > 0


def test_probes_are_told_for_debugging_alone(talked: Tree) -> None:
    if is_json(talked):
        told = [json.loads(line) for line in talked.log.splitlines()]
        requests = [(line["route"], line["level"]) for line in told if line["message"] == "request"]
        assert {level for route, level in requests if route.startswith(("/health", "/metrics", "/v2"))} == {"debug"}
        assert {level for route, level in requests if not route.startswith(("/health", "/metrics", "/v2"))} == {"info"}


def is_json(tree: Tree) -> bool:
    return tree.log.startswith("{")
