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

import pytest

from service.process import cli


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
            return {"data": [{"b64_json": base64.b64encode(b"a picture").decode(), "seed": 7}], "untrained": True}
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
