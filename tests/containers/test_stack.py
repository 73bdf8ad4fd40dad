"""The box profile run hardened, asked, broken, scaled and stopped, in this order: containers stay between tests."""

import json
import os
import re
import ssl
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.containers.conftest import Table
from tests.containers.deployment import Deployment, wait_for
from tests.containers.engine import run
from tests.containers.load import PICTURE, Load

FIRES_S = 40.0
DOWN_S = 45.0  # the drain's 30 s, and the others' leaving
WORKERS = ("worker-chat-box", "worker-paint-box", "worker-safety")


def test_everything_gets_healthy(box: Deployment, table: Table) -> None:
    table.add("up, until all is healthy", box.up(), "s")
    assert box.health("ready") == "healthy"


def test_every_container_is_hardened(box: Deployment) -> None:
    services = box.compose("ps", "--services").split()
    assert {"api", "proxy", "ready", "valkey", "prometheus", *WORKERS} == set(services)
    for service in services:
        [name] = box.containers(service)
        described = box.inspect(name)
        host = described["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"], name
        assert "no-new-privileges:true" in host["SecurityOpt"] and host["Memory"] > 0, name
        status = box.docker("exec", name, "cat", "/proc/1/status")
        assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE), f"{name} runs as root"
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), f"{name} has capabilities"


def test_what_the_readme_asks(box: Deployment, table: Table) -> None:
    with box.client() as client:
        form = {"question": "What is in the picture?"}
        first = client.post("/chat", files={"image": PICTURE.read_bytes()}, data=form)
        assert first.status_code == 200 and first.json()["answer"] == "A red apple on a blue background."
        turn = {"conversation_id": first.json()["conversation_id"], "question": "用中文怎么说？"}
        assert client.post("/chat", json=turn).json()["answer"] == "蓝色背景上的红苹果。"
        began_s = time.monotonic()
        painted = client.post("/paint", json={"prompt": "红苹果", "seed": 7}, headers={"Accept": "image/png"})
        table.add("a picture of the README", time.monotonic() - began_s, "s")
        assert painted.status_code == 200 and painted.content.startswith(b"\x89PNG")
        assert client.get("/health/ready").json()["status"] == "ready"


def test_workers_share_the_cores(box: Deployment) -> None:
    share = max(1, (os.cpu_count() or 1) // 2)
    for service in ("worker-chat-box", "worker-paint-box"):
        [name] = box.containers(service)
        assert f"computing with {share} threads" in box.docker("logs", name)
    code = "from service.core.cpu_quota import threads_beside; print(threads_beside(1))"
    image = ["--entrypoint", "python", "viscpm-api:check", "-c", code]
    assert box.docker("run", "--rm", "--cpus", "1", *image).strip() == "1"


def test_the_proxy_keeps_to_the_apis_limits_and_hands_cancellation_on(box: Deployment) -> None:
    with box.client() as client:
        large = client.post("/chat", content=b"x" * 21_000_000, headers={"Content-Type": "application/json"})
        assert large.status_code == 413 and large.json()["error"]["code"] == "content_too_large"
        assert client.get("/metrics").status_code == 404
        with client.stream("POST", "/chat", json={"question": "What is in the picture?", "stream": True}) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            assert "chunked" in events.headers.get("transfer-encoding", "")
        before = _jobs(box, "paint", "cancelled")
        with pytest.raises(httpx.ReadTimeout):
            client.post("/paint", json={"prompt": "红苹果", "num_inference_steps": 400}, timeout=2.0)
    wait_for(lambda: _jobs(box, "paint", "cancelled") == before + 1, 20, "the client left, and its job goes on")


def test_the_proxy_speaks_tls_where_it_has_a_certificate(box: Deployment) -> None:
    folder = box.folder / "docker/tls"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-addext",
        "subjectAltName=DNS:localhost", "-keyout", f"{folder}/key", "-out", f"{folder}/certificate")  # fmt: skip
    (folder / "site.pem").write_text((folder / "certificate").read_text() + (folder / "key").read_text())
    (folder / "site.pem").chmod(0o644)
    port = box.url.rpartition(":")[2]
    one_more = ["--env", "PROXY_TLS_CERTIFICATE=/tls/site.pem", "--publish", "127.0.0.1::8000", "proxy"]
    name = box.compose("run", "--detach", "--no-deps", *one_more).split()[-1]
    try:
        published = box.docker("port", name, "8000").strip().rpartition(":")[2]
        assert published != port
        trusted = ssl.create_default_context(cafile=folder / "certificate")
        with httpx.Client(base_url=f"https://localhost:{published}", verify=trusted, trust_env=False) as client:

            def serves() -> bool:
                try:
                    return client.get("/health/ready").status_code == 200
                except httpx.ConnectError:
                    return False

            wait_for(serves, 20, "TLS with the certificate")
            assert client.post("/chat", json={"question": "hello"}).status_code == 200
    finally:
        box.docker("rm", "--force", name)


def test_series_say_role_model_and_worker(box: Deployment) -> None:
    up = {(one["metric"]["role"], one["metric"].get("model", "")) for one in box.query("up == 1")}
    assert up == {("api", ""), ("worker", "chat"), ("worker", "paint"), ("worker", "safety")}
    joined = box.query("up * on (instance) group_left (worker) viscpm_worker_info")
    hosts = {one["metric"]["worker"].partition("-")[0] for one in joined}
    assert hosts == {box.inspect(box.containers(service)[0])["Config"]["Hostname"] for service in WORKERS}
    assert box.firing() == set()


def test_a_stopped_worker_is_an_alert_and_not_ready(box: Deployment, table: Table) -> None:
    [name] = box.containers("worker-chat-box")
    box.docker("stop", name)
    fired_s = wait_for(lambda: ("NoWorker", "chat") in box.firing(), FIRES_S, "NoWorker for chat")
    table.add("NoWorker fires, rules with seconds for minutes", fired_s, "s")
    assert not any(model in ("paint", "safety") for _, model in box.firing())
    wait_for(lambda: box.health("ready") == "unhealthy", 40, "`ready` is unhealthy")
    assert box.health("api") == "healthy", "alive is another question"
    with box.client() as client:
        assert client.post("/chat", json={"question": "hello"}).status_code == 503
        assert client.post("/paint", json={"prompt": "红苹果"}).status_code == 200, (
            "the proxy lets pass what can be served"
        )
    box.docker("start", name)
    wait_for(lambda: box.health("ready") == "healthy", 60, "`ready` is healthy again")
    wait_for(lambda: box.firing() == set(), FIRES_S, "the alert ends")


def test_an_api_is_replaced_under_load_and_no_request_is_lost(box: Deployment, table: Table) -> None:
    box.up("--scale", "api=2")
    wait_for(lambda: len(box.query('up{role="api"} == 1')) == 2, 30, "both APIs are scraped")
    time.sleep(10)  # as long as the rule wants to have seen both
    first, _ = sorted(box.containers("api"))
    load = Load(box.url)
    load.start()
    try:
        time.sleep(3)
        box.docker("stop", first)
        box.docker("rm", first)
        fired_s = wait_for(lambda: ("ApiAway", "") in box.firing(), FIRES_S, "ApiAway")
        box.up("--scale", "api=2", "--no-recreate")
        time.sleep(5)
    finally:
        load.stop()
    table.add("requests while one API of two was replaced", load.answered + len(load.lost), "")
    table.add("of them lost", len(load.lost), "")
    table.add("longest of them", load.longest_s, "s")
    table.add("ApiAway fires, rules with seconds for minutes", fired_s, "s")
    assert load.lost == [] and load.answered > 50
    wait_for(lambda: box.firing() == set(), FIRES_S, "the alert ends")


def test_without_any_api_the_proxy_says_so(box: Deployment) -> None:
    box.compose("stop", "api")
    with box.client() as client:
        wait_for(lambda: client.get("/health/live").status_code == 503, 10, "the proxy answers for none")
        answer = client.post("/chat", json={"question": "hello"})
        assert answer.json()["error"]["code"] == "service_unavailable" and answer.headers["retry-after"] == "1"
    wait_for(lambda: ("ApiDown", "") in box.firing(), FIRES_S, "ApiDown")
    box.up("--scale", "api=1")
    wait_for(lambda: ("ApiDown", "") not in box.firing(), FIRES_S, "the alert ends")


def test_a_stopped_server_is_503_and_an_alert(box: Deployment) -> None:
    [name] = box.containers("valkey")
    box.docker("stop", name)
    with box.client(timeout_s=20) as client:
        answer = client.post("/chat", json={"question": "hello"})
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
    wait_for(lambda: any(alert == "RedisAway" for alert, _ in box.firing()), FIRES_S, "RedisAway")
    box.docker("start", name)
    wait_for(box.is_ready, 60, "ready again")


def test_down_answers_what_is_in_hand_and_keeps_what_is_queued(box: Deployment, table: Table) -> None:
    own_settings = box.folder / "docker/viscpm.env"
    own_settings.write_text("VISCPM_PAINT_MAX_JOBS=1\n")  # eight would all be in hand, and none queued
    box.up()
    order = {"prompt": "红苹果", "seed": 7, "num_inference_steps": 200}
    answers: list[httpx.Response] = []
    with box.client() as client, box.logs_of("proxy", "api", "worker-paint-box", "worker-safety") as logs:
        waiting = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{box.url}/paint", json=order, timeout=60))
        )
        waiting.start()
        time.sleep(1)
        ids = [client.post("/paint", json=order, headers={"Prefer": "respond-async"}).json()["id"] for _ in range(8)]
        began_s = time.monotonic()
        said = box.compose("down")
        took_s = time.monotonic() - began_s
        waiting.join()
    table.add("down, with a picture in hand and eight queued", took_s, "s")
    told = [answer.text[:300] for answer in answers]
    assert [answer.status_code for answer in answers] == [200], f"the picture in hand: {told}\n{logs.read_text()}"
    stopped = re.findall(r"Container viscpm-check-([\w-]+)-\d+\s+Stopped", said)
    ordered = [name for name in stopped if name != "prometheus"]
    assert ordered.index("proxy") < ordered.index("api") < ordered.index("worker-paint-box")
    assert ordered.index("worker-paint-box") < ordered.index("worker-safety") < ordered.index("valkey")
    assert took_s < DOWN_S
    own_settings.unlink()
    box.up()
    with box.client() as client:

        def states() -> list[str]:
            return [client.get(f"/jobs/{one}").json()["state"] for one in ids]

        took_s = wait_for(lambda: states() == ["done"] * len(ids), 300, "what was queued is done")
        table.add("what was queued is done, after the next up", took_s, "s")


def test_a_fetched_checkpoint_is_the_one_that_a_worker_loads(box: Deployment, tmp_path: Path) -> None:
    """From a folder instead of the hub; by this user, into a folder of this user's."""
    for folder in ("mirror", "models"):
        (tmp_path / folder).mkdir()
        os.chown(tmp_path / folder, 12345, 12345)
    code = (
        "import shutil, torch; from safetensors.torch import load_file; "
        "from models.checkpoints.bundled import bundled_checkpoint; folder = bundled_checkpoint('chat'); "
        "tensors = {k: v for file in folder.glob('*.safetensors') for k, v in load_file(file).items()}; "
        "torch.save(tensors, '/mirror/viscpm_chat_balance_checkpoint.pt'); shutil.copy(folder / 'vocab.txt', '/mirror')"
    )
    user, mirror = ["--user", "12345:12345"], ["--volume", f"{tmp_path}/mirror:/mirror"]
    box.docker("run", "--rm", *user, *mirror, "--entrypoint", "python", "viscpm-worker-cpu:check", "-c", code)
    box.docker("tag", "viscpm-worker-cpu:check", "viscpm-worker:check")  # the one with CUDA is not built here
    box.environment["VISCPM_MODELS_DIR"] = str(tmp_path / "models")
    fetch = ["fetch", "chat-balance", "--mirror", "/mirror", "--to", "/models/chat"]
    box.compose("run", "--rm", *user, *mirror, *fetch)
    assert {file.stat().st_uid for file in (tmp_path / "models").rglob("*")} == {12345}
    models = ["--volume", f"{tmp_path}/models:/models:ro", "--env", "VISCPM_CHAT_CHECKPOINT=/models/chat"]
    name = box.compose("run", "--detach", *models, "worker-chat-box").split()[-1]
    wait_for(lambda: "loaded chat on cpu" in box.docker("logs", name), 60, "the worker has loaded it")
    box.docker("rm", "--force", name)


def test_a_full_disk_of_the_server_is_an_alert_and_503_until_there_is_room(box: Deployment) -> None:
    box.compose("down", "--volumes")
    tmpfs = {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=24m,uid=999,gid=1000"}}
    override = box.folder / "docker-compose.override.yml"
    override.write_text(json.dumps({"volumes": {"valkey-data": tmpfs}}))  # JSON is YAML
    box.up()
    [name] = box.containers("valkey")
    box.docker("exec", name, "sh", "-c", "dd if=/dev/zero of=/data/filling bs=1M count=64 2>/dev/null || true")
    faults = {"RedisAway", "RedisRefusesWrites"}  # by what of it the server still lets be read
    wait_for(lambda: bool(faults & {alert for alert, _ in box.firing()}), FIRES_S, "an alert of Redis")
    with box.client(timeout_s=30) as client:
        answer = client.post("/chat", json={"question": "hello"})
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        box.docker("exec", name, "rm", "/data/filling")
        wait_for(lambda: client.post("/chat", json={"question": "hello"}).status_code == 200, 40, "answers again")
    wait_for(lambda: not faults & {alert for alert, _ in box.firing()}, FIRES_S, "the alert ends")


def _jobs(box: Deployment, model: str, state: str) -> float:
    found = box.query(f'max(viscpm_jobs{{model="{model}",state="{state}"}})')
    return float(found[0]["value"][1]) if found else 0.0
