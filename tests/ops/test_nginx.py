"""Debian's nginx before `viscpm api`: as it comes, with connections that it keeps, below a prefix, with TLS."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.debian import absent
from tests.e2e.tree import large_jpeg, wait_for
from tests.service.api_process import ApiProcess, api_process
from tests.service.web import encoded, sse_events

PREFIX = "/viscpm"
STEP_S = 0.05  # of the scripted engine: a stream of twenty words takes a second

_CONFIGURATION = """
daemon off; {user} pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream api {{ server {api}; {keepalive} }}
  server {{
    listen 127.0.0.1:{port} {tls};
    location {location} {{ proxy_pass http://api{path}; {headers} }}
  }}
}}
"""
# nginx speaks HTTP/1.0 to what it stands before and closes after each answer, unless it is told otherwise
_KEPT = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering on;'


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    variables = {"VISCPM_ROOT_PATH": PREFIX, "VISCPM_TEST_STEP_S": str(STEP_S)}
    with api_process(tmp_path_factory.mktemp("behind-nginx"), **variables) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed, with its key in the same file."""
    openssl = shutil.which("openssl") or absent("openssl: apt-get install openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([*command, *names], check=True, capture_output=True)
    with path.open("a") as both:
        both.write(path.with_suffix(".crt").read_text())
    return path


@contextmanager
def nginx(
    folder: Path, api: ApiProcess, certificate: Path | None, keeps: bool, takes_off: bool
) -> Iterator[httpx.Client]:
    """A client of it. `takes_off`: the API is asked without the prefix."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or absent("nginx: apt-get install nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls = "" if certificate is None else f"ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}"
    configuration = _CONFIGURATION.format(
        folder=folder,
        user="user root;" if os.getuid() == 0 else "",  # it writes large uploads to the test's folder
        api=api.url.removeprefix("http://"),
        keepalive="keepalive 32;" if keeps else "",
        port=port,
        tls=tls,
        location=f"{PREFIX}/",
        path="/" if takes_off else "",
        headers=_KEPT if keeps else "",
    )
    (folder / "nginx.conf").write_text(configuration)
    running = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    scheme = "http" if certificate is None else "https"
    trusted = ssl.create_default_context(cafile=None if certificate is None else str(certificate))
    transport = httpx.HTTPTransport(verify=trusted)
    try:
        with httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", timeout=30, transport=transport) as client:
            wait_for(lambda: _is_up(client), what="nginx")
            yield client
    finally:
        running.terminate()
        running.wait(15)


def _is_up(client: httpx.Client) -> bool:
    try:
        return client.get(f"{PREFIX}/health/live").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("has_tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("keeps", [False, True], ids=["as it comes", "keepalive 32"])
@pytest.mark.parametrize("takes_off", [False, True], ids=["prefix kept", "prefix taken off"])
def test_nginx_in_front(
    api: ApiProcess, certificate: Path, tmp_path: Path, has_tls: bool, keeps: bool, takes_off: bool
) -> None:
    with nginx(tmp_path, api, certificate if has_tls else None, keeps, takes_off) as client:
        for _ in range(3):  # over connections that were used before
            _chat_paint_and_wait(client)
        _stream(client)
    assert "upstream" not in (tmp_path / "error.log").read_text()


def _chat_paint_and_wait(client: httpx.Client) -> None:
    asked = client.post(f"{PREFIX}/chat", json={"question": "echo 你好", "image": encoded()})
    assert (asked.status_code, asked.json()["answer"], asked.json()["image"]) == (200, "你好", True)
    large = {"image": ("photo.jpg", large_jpeg(), "image/jpeg")}
    upload = client.post(f"{PREFIX}/chat/", data={"question": "echo x"}, files=large)
    assert (upload.status_code, upload.json()["image"]) == (200, True)
    painted = client.post(f"{PREFIX}/paint", json={"prompt": "a", "seed": 7}, headers={"Accept": "image/png"})
    assert painted.content.startswith(b"\x89PNG") and painted.headers["x-seed"] == "7"
    wrong = client.post(f"{PREFIX}/chat", json={"question": 1})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "question")
    queued = client.post(f"{PREFIX}/chat", json={"question": "echo y"}, headers={"Prefer": "respond-async"})
    assert (queued.status_code, queued.headers["location"]) == (202, f"{PREFIX}/jobs/{queued.json()['id']}")
    wait_for(lambda: client.get(queued.headers["location"]).json()["state"] == "done", what="the job's end")
    assert client.get(queued.headers["location"]).json()["answer"]["answer"] == "y"


def _stream(client: httpx.Client) -> None:
    """Piece by piece, although nginx buffers what it is not asked to pass on."""
    arrived_s: list[float] = []
    text = ""
    with client.stream("POST", f"{PREFIX}/chat", json={"question": "stream 20", "stream": True}) as response:
        for piece in response.iter_text():
            arrived_s.append(time.monotonic())
            text += piece
    events = sse_events(text)
    assert events[-2][1]["answer"] == "".join(f"w{i} " for i in range(20)) and events[-1][1] == "[DONE]"
    assert arrived_s[-1] - arrived_s[0] > 5 * STEP_S, "all of it came at the end"
