"""What stands at the other end in the field, with its default settings: Java's HTTP client, curl, nginx."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from service.core.settings import Settings
from tests.debian import absent
from tests.service.tree import WorkerProcess, eventually, quick_settings
from tests.service.web import Service, encoded, serving, sse_events

_JAVA = """
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.*;
import java.nio.charset.StandardCharsets;

public class Ask {
  public static void main(String[] arguments) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    byte[] body = arguments[1].getBytes(StandardCharsets.UTF_8);
    HttpRequest.BodyPublisher[] publishers = {
      HttpRequest.BodyPublishers.ofByteArray(body),
      HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)),  // chunked
      HttpRequest.BodyPublishers.ofByteArray(body),
    };
    for (HttpRequest.BodyPublisher publisher : publishers) {
      HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
          .header("Content-Type", "application/json").POST(publisher).build();
      System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
  }
}
"""

_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream api {{ server {api}; {keepalive} }}
  server {{
    listen 127.0.0.1:{port};
    location /viscpm/ {{ proxy_pass http://api{path}; {headers} proxy_buffering on; }}
  }}
}}
"""
_KEPT = 'proxy_http_version 1.1; proxy_set_header Connection "";'


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return quick_settings(redis_url, paint_engine="tests.service.painter:create_engine", root_path="/viscpm")


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[None]:
    started = [WorkerProcess(settings, tmp_path / "engine.log", kind, step_s=0.002) for kind in ("chat", "paint")]
    yield
    for worker in started:
        worker.kill()


@pytest.fixture
async def service(settings: Settings, workers: None) -> AsyncIterator[Service]:
    async with serving(settings) as served:
        await served.ready()
        yield served


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return told.decode()


async def test_java_with_its_default_settings(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if shutil.which("javac") is None:
        absent("a JDK: apt-get install default-jdk-headless")
    program = tmp_path / "Ask.java"
    program.write_text(_JAVA)
    body = json.dumps({"question": "echo 爪哇", "image": encoded()})
    told = await _output("java", "-Xmx64m", "-Dfile.encoding=UTF-8", str(program), f"{service.url}/chat", body)
    assert [json.loads(line)["answer"] for line in told.splitlines()] == ["爪哇"] * 3
    assert not [record for record in caplog.records if "upgrade" in record.getMessage().lower()]


async def test_curl_that_offers_http_2(service: Service) -> None:
    if shutil.which("curl") is None:
        absent("curl: apt-get install curl")
    told = await _output("curl", "-s", "--http2", "--noproxy", "*", "-F", "question=echo 卷曲", f"{service.url}/chat")
    assert json.loads(told)["answer"] == "卷曲"


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("takes_off", [False, True])
async def test_nginx_in_front(service: Service, tmp_path: Path, keeps: bool, takes_off: bool) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        absent("nginx: apt-get install nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = _NGINX.format(
        folder=tmp_path,
        api=service.url.removeprefix("http://"),
        keepalive="keepalive 32;" if keeps else "",
        port=port,
        path="/" if takes_off else "",
        headers=_KEPT if keeps else "",
    )
    (tmp_path / "nginx.conf").write_text(config)
    process = await asyncio.create_subprocess_exec(
        nginx, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:

            async def is_up() -> bool:
                try:
                    return (await client.get("/viscpm/health/live")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_up, 20.0)
            await _used(client)
    finally:
        process.terminate()
        await process.wait()


async def _used(client: httpx.AsyncClient) -> None:
    """Chat, stream, paint, and a job that is not waited for."""
    asked = await client.post("/viscpm/chat", json={"question": "echo x", "image": encoded()})
    assert (asked.status_code, asked.json()["answer"]) == (200, "x")
    events = sse_events((await client.post("/viscpm/chat/", json={"question": "stream 5", "stream": True})).text)
    assert events[-2][1]["answer"] == "w0 w1 w2 w3 w4 " and events[-1][1] == "[DONE]"
    painted = await client.post("/viscpm/paint", json={"prompt": "a"}, headers={"Accept": "image/png"})
    assert painted.content.startswith(b"\x89PNG")
    queued = await client.post("/viscpm/chat", json={"question": "echo y"}, headers={"Prefer": "respond-async"})
    assert queued.status_code == 202 and queued.headers["location"] == f"/viscpm/jobs/{queued.json()['id']}"

    async def is_done() -> bool:
        return bool((await client.get(queued.headers["location"])).json()["state"] == "done")

    await eventually(is_done, 20.0)
