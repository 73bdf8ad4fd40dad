"""Chat and paint on one device that holds either: both get on, never both on it, and a kill costs no answer."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from models.engines.turns.device_queue import Place, places
from tests.e2e.tree import FAST_LEASES, Tree, metric, wait_for

pytestmark = pytest.mark.timeout(300)

TURN_S, IDLE_S = 0.5, 1.0
KV_BYTES = 4 << 20
DEVICE_BYTES = 46_500_000  # as much as paint takes, whose packed weights are there twice, and less than both
ROUNDS = 6
QUESTIONS = ("What is in the picture?", "图里有什么？", "What colour is the ground?")
PROMPTS = ("red apple", "黄色的星星", "a blue fish")


class Shared:
    """A tree whose workers take turns, and what they had on the device, looked at all the time."""

    def __init__(self, folder: Path) -> None:
        self.locks = folder / "locks"
        settings = {
            "VISCPM_DEVICE_SHARING": "turns",
            "VISCPM_DEVICE_LOCK_DIR": str(self.locks),
            "VISCPM_DEVICE_TURN_S": str(TURN_S),
            "VISCPM_DEVICE_BYTES": str(DEVICE_BYTES),
            "VISCPM_IDLE_UNLOAD_S": str(IDLE_S),
            "VISCPM_CHAT_KV_BYTES": str(KV_BYTES),
        }
        self.tree = Tree(folder / "data", **settings, **FAST_LEASES)
        self.seen: list[list[Place]] = []
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def places(self) -> list[Place]:
        return places(self.locks, "cpu")

    def held(self) -> dict[str, int]:
        """Bytes on the device by kind."""
        return {place.kind: place.held_bytes for place in self.places()}

    def stop(self) -> None:
        self._is_over.set()
        self._watch.join()
        self.tree.stop()

    def _look(self) -> None:
        while not self._is_over.wait(0.005):
            self.seen.append(self.places())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    running = Shared(tmp_path_factory.mktemp("turns"))
    try:
        running.tree.wait_ready()
        yield running
    finally:
        running.stop()


def ask(client: httpx.Client, question: str) -> str:
    image = (Path(__file__).parents[2] / "docs/images/red_apple_on_blue.png").read_bytes()
    body = {"image": base64.b64encode(image).decode(), "question": question}
    answer = client.post("/chat", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["answer"])


def paint(client: httpx.Client, prompt: str) -> np.ndarray[Any, Any]:
    painted = client.post("/paint", json={"prompt": prompt, "seed": 5, "num_inference_steps": 8, "n": 2})
    assert painted.status_code == 200, painted.text
    pngs = [base64.b64decode(one["b64_json"]) for one in painted.json()["data"]]
    return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in pngs])


def load_with_both(tree: Tree) -> tuple[list[dict[str, str]], list[dict[str, np.ndarray[Any, Any]]]]:
    """Clients of either kind that ask without a pause, until each has had all its answers."""
    with tree.client(120) as client, ThreadPoolExecutor(4) as pool:
        chats = [pool.submit(lambda: {one: ask(client, one) for one in QUESTIONS * ROUNDS}) for _ in range(2)]
        paints = [pool.submit(lambda: {one: paint(client, one) for one in PROMPTS * (ROUNDS // 2)}) for _ in range(2)]
        return [one.result() for one in chats], [one.result() for one in paints]


def test_both_get_on_and_answer_as_with_a_device_of_their_own(shared: Shared, boxed: Tree) -> None:
    with boxed.client(60) as client:
        answers = {question: ask(client, question) for question in QUESTIONS}
        pictures = {prompt: paint(client, prompt) for prompt in PROMPTS}
    began_s = time.monotonic()
    chats, paintings = load_with_both(shared.tree)
    taken_s = time.monotonic() - began_s
    assert all(chat == answers for chat in chats)
    for painting in paintings:
        for prompt, expected in pictures.items():
            assert np.abs(painting[prompt] - expected).max() <= 1

    sizes = {place.kind: place.weights_bytes for place in shared.places()}
    assert sum(sizes.values()) > DEVICE_BYTES > max(sizes.values()), "both would not fit"
    held = [{place.kind: place.held_bytes for place in seen if place.held_bytes} for seen in shared.seen]
    assert all(len(one) <= 1 and sum(one.values()) <= DEVICE_BYTES for one in held)
    assert {"chat", "paint"} == {kind for one in held for kind in one}
    assert "do not fit" not in shared.tree.log.replace("together they do not fit: turns are needed", "")
    assert "takes turns on cpu: weights of" in shared.tree.log

    page = worker_page(shared.tree)
    for kind in ("chat", "paint"):
        turns = metric(page, "viscpm_device_turns_total", model=kind)
        assert 3 <= turns < 2 * (taken_s / TURN_S + 10), f"{turns} turns in {taken_s:.1f} s"
        waits = metric(page, "viscpm_device_wait_seconds_count", model=kind)
        # A turn, the step that ends it, and both ways of what it has; on a machine that runs other work
        assert metric(page, "viscpm_device_wait_seconds_bucket", model=kind, le="10.0") == waits == turns
        assert metric(page, "viscpm_device_transfer_seconds_count", model=kind) == turns - 1
    print(f"{taken_s:.1f} s", {kind: metric(page, "viscpm_device_turns_total", model=kind) for kind in sizes})


def test_a_killed_holder_costs_no_answer_and_lets_the_other_one_go_on(shared: Shared) -> None:
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(load_with_both, shared.tree)
        victim = wait_for(lambda: holder(shared), what="a paint worker with the device")
        victim.kill()
        killed_s = time.monotonic()
        wait_for(lambda: shared.held().get("chat"), what="the other one with the device")
        assert time.monotonic() - killed_s < 5
        chats, paintings = load.result(200)
    assert all(len(chat) == len(QUESTIONS) for chat in chats)
    assert all(len(painting) == len(PROMPTS) for painting in paintings)
    assert "was killed by SIGKILL; starting it again" in shared.tree.log


def holder(shared: Shared) -> psutil.Process | None:
    """The paint worker, while it has the device and jobs."""
    (paint_worker,) = shared.tree.processes("worker paint")
    with shared.tree.client() as client:
        (worker,) = client.get("/health/ready").json()["models"]["paint"]["workers"]
    is_held = worker["device_turn"] == "held" and worker["jobs"] and shared.held().get("paint")
    return paint_worker if is_held else None


def test_an_idle_device_is_free_after_a_while(shared: Shared) -> None:
    with shared.tree.client() as client:
        wait_for(lambda: shared.held() == {"chat": 0, "paint": 0}, 60, "a free device")
        began_s = time.monotonic()
        ask(client, QUESTIONS[0])
        assert shared.held()["chat"] > 0, "kept for a while"
        wait_for(lambda: shared.held() == {"chat": 0, "paint": 0}, what="a free device")
        assert time.monotonic() - began_s > IDLE_S

        def turns() -> set[str]:
            models = client.get("/health/ready").json()["models"]
            return {worker["device_turn"] for model in models.values() for worker in model["workers"]}

        wait_for(lambda: turns() == {"away"}, what="its word")


def worker_page(tree: Tree) -> str:
    with tree.client() as client:
        return client.get("/metrics?scope=all").text
