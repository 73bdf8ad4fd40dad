"""The small clients: what they ask a service for, and what they say of its answers."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.process import cli
from service.process.client import _is_near, _proxy_of, _without_password


class _Service(BaseHTTPRequestHandler):
    """Answers as the API does; keeps what it was asked."""

    asked: list[tuple[str, dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        status, answer = 200, self._answer(body)
        if "error" in answer:
            status = 400
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.path == "/paint":
            picture = {"b64_json": base64.b64encode(b"a picture").decode(), "seed": 7}
            return {"data": [picture], "untrained": True, "unknown_words": ["\u200b", "🍎"]}
        if body["question"] == "bad":
            return {"error": {"code": "invalid_request", "message": "no such question"}}
        return {"answer": f"you said {body['question']}", "conversation_id": "conv-1", "untrained": False}

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    _Service.asked.clear()
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_chat_asks_once(service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"pixels")
    assert cli.main(["chat", "hello", "--image", str(picture), "--num-beams", "1", "--url", service]) == 0
    assert capsys.readouterr().out == "you said hello\n"
    image = base64.b64encode(b"pixels").decode()
    assert _Service.asked == [("/chat", {"image": image, "question": "hello", "num_beams": 1})]


def test_chat_holds_a_conversation(service: str, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"pixels")
    command = [sys.executable, "-m", "service.process.cli", "chat", "--image", str(picture), "--url", service]
    talk = subprocess.run(command, input="first\nbad\n\nsecond\n", capture_output=True, text=True, timeout=30)
    assert talk.returncode == 0, talk.stderr
    assert talk.stdout.splitlines() == ["you said first", "you said second"]
    assert talk.stderr == "400 invalid_request: no such question\n"
    bodies = [body for _, body in _Service.asked]
    assert "image" in bodies[0] and "conversation_id" not in bodies[0]
    assert bodies[2] == {"question": "second", "conversation_id": "conv-1"}  # no picture again


def test_paint_writes_the_picture(service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.webp"
    assert cli.main(["paint", "a house", "-o", str(output), "--seed", "7", "--url", service]) == 0
    assert output.read_bytes() == b"a picture"
    assert _Service.asked == [("/paint", {"prompt": "a house", "output_format": "webp", "seed": 7})]
    said = capsys.readouterr()
    assert "seed 7" in said.out and "untrained" in said.err
    assert "(the model knows no '\\u200b', '🍎')" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paint", "x", "-o", "out.txt"], "must end in"),
        (["paint", "x", "-o", "out.png", "--url", "http://127.0.0.1:9"], "is `viscpm serve` running?"),
        (["chat", "x", "--image", "/does/not/exist"], "No such file"),
    ],
)
def test_a_client_says_what_failed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://[::1", "Invalid"),
        ("http://127.0.0.1:many", "Invalid port"),
        ("127.0.0.1:8000", "protocol"),
    ],
)
def test_a_url_that_is_none_is_one_line(url: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["chat", "x"], ["paint", "x", "-o", "out.png"]):
        assert cli.main([*arguments, "--url", url]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"detail":"Not Found"}', "not this service?"),
        (400, b'{"error":"no"}', "not this service?"),
        (200, b'"hello"', "not this service?"),
        (200, b"[1]", "not this service?"),
        (200, b'{"hello": 1}', "not this service?"),
        (502, b"<html>", "answered 502 with no JSON: not this service?"),
        (503, b'{"error":{"code":"draining","message":"ask again"}}', "503 draining: ask again"),
    ],
)
def test_another_services_answer_is_named_as_one(
    status: int, body: bytes, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Other(_Service):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            for arguments in (["chat", "x"], ["paint", "x", "-o", str(tmp_path / "out.png")]):
                assert cli.main([*arguments, "--url", url]) == 1
                error = capsys.readouterr().err
                assert message in error and error.count("\n") == 1
        finally:
            server.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_one_line(
    service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["paint", "x", "-o", str(tmp_path / "missing" / "out.png"), "--url", service]) == 1
    assert capsys.readouterr().err.endswith("out.png: No such file or directory\n")


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FAR = "http://192.88.99.7:8000"  # a global address, which nobody has


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "none-such://x"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_is_near_is_asked_directly(
    service: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], proxy: str, host: str
) -> None:
    for name in ("http_proxy", "all_proxy"):
        environment.setenv(name, proxy)
    assert cli.main(["chat", "hello", "--url", service.replace("127.0.0.1", host)]) == 0
    assert capsys.readouterr().out == "you said hello\n"


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://127.0.0.1:9", "the proxy of the environment cannot be used: Using SOCKS proxy"),
        ("none-such://x", "the proxy of the environment cannot be used: "),
        (
            "http://user:secret@127.0.0.1:9",
            "/chat: [Errno 111] Connection refused; asked through the proxy http://127.0.0.1:9",
        ),
    ],
)
def test_a_proxy_that_fails_is_one_line(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], proxy: str, message: str
) -> None:
    environment.setenv("all_proxy", proxy)
    assert cli.main(["chat", "hello", "--url", FAR]) == 1
    error = capsys.readouterr().err
    assert message in error and "NO_PROXY" in error and error.count("\n") == 1 and "secret" not in error


def test_a_proxy_that_refuses_is_one_line(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    """The service as a proxy: it is asked for the whole address, and answers as itself."""
    environment.setenv("http_proxy", service)
    assert cli.main(["chat", "hello", "--url", FAR]) == 0
    assert _Service.asked[-1][0] == f"{FAR}/chat", "what is far is asked through it"
    environment.setenv("no_proxy", "192.88.99.7")
    assert _proxy_of(httpx.URL(FAR)) == ""


@pytest.mark.parametrize(
    ("host", "is_near"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("10.1.2.3", True),
        ("192.168.0.9", True),
        ("fd00::1", True),
        ("192.88.99.7", False),
        ("no-such-host.invalid", False),
        ("a" * 70 + ".x", False),
    ],
)
def test_near_is_what_no_proxy_reaches(host: str, is_near: bool) -> None:
    assert _is_near(host) is is_near


def test_an_address_is_told_as_it_was_asked(
    capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch
) -> None:
    assert cli.main(["chat", "x", "--url", "http://127.0.0.1:9"]) == 1
    assert "http://127.0.0.1:9/chat: " in capsys.readouterr().err
    assert _without_password("http://user:secret@host:1") == "http://host:1"
