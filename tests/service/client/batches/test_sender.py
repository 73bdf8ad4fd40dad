"""Which answers end a line, which are asked for again, and which end the batch."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client.batches import sender as module
from service.client.batches.journal import Journal
from service.client.batches.lines import read_requests
from service.client.batches.sender import Sender
from service.client.exit_codes import CommandError, ExitCode

ANSWER = (200, {"id": "chat-1", "answer": "yes"})


def error(status: int, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": code, "message": "told", "type": "x", "param": None}}


class Service(httpx.AsyncBaseTransport):
    """Answers in turn; keeps the keys that it was asked with."""

    def __init__(self, *answers: Any) -> None:
        self.keys: list[str] = []
        self._answers = list(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["idempotency-key"])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return httpx.Response(status, content=body if isinstance(body, bytes) else json.dumps(body).encode())


async def sent(folder: Path, service: Service, retry_s: float = 60.0, num_lines: int = 1) -> list[int]:
    """The statuses that were kept."""
    file = folder / "requests.jsonl"
    file.write_text('{"question": "a"}\n' * num_lines)
    statuses: list[int] = []
    requests = read_requests(file)
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", transport=service) as client:
        with Journal(requests, folder / "out.jsonl") as journal:
            sender = Sender(
                client, requests, journal, retry_s, lambda _, result: statuses.append(result["response"]["status_code"])
            )
            await sender.send_all(2)
    return statuses


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAIT_S", 0.002)


@pytest.mark.parametrize(
    ("before", "status", "asked"),
    [
        ([], 200, 1),
        ([error(429, "queue_full"), error(503, "draining"), error(409, "idempotency_key_in_use")], 200, 4),
        ([httpx.ConnectError("refused"), httpx.ReadError("reset"), (502, b"<html>")], 200, 4),
        ([error(500, "job_failed"), error(504, "deadline_exceeded")], 200, 3),
        ([error(409, "conversation_busy")], 200, 2),
    ],
)
async def test_what_passes_is_asked_again(tmp_path: Path, before: list[Any], status: int, asked: int) -> None:
    service = Service(*before, ANSWER)
    assert await sent(tmp_path, service) == [status]
    assert len(service.keys) == asked and len(set(service.keys)) == 1, "with the same key each time"


@pytest.mark.parametrize(
    ("answer", "asked"),
    [(error(400, "content_policy_violation"), 1), (error(404, "model_not_found"), 1), (error(500, "job_failed"), 3)],
)
async def test_a_lines_own_error_is_its_result(tmp_path: Path, answer: tuple[int, Any], asked: int) -> None:
    service = Service(answer)
    assert await sent(tmp_path, service) == [answer[0]]
    assert len(service.keys) == asked


@pytest.mark.parametrize(
    ("answer", "exit_code", "message"),
    [
        (error(401, "invalid_api_key"), ExitCode.NOT_ALLOWED, "401 invalid_api_key"),
        ((404, {"detail": "Not Found"}), ExitCode.FAILED, "not this service"),
        ((200, b"hello"), ExitCode.FAILED, "not this service"),
    ],
)
async def test_what_befalls_every_line_ends_the_batch(
    tmp_path: Path, answer: tuple[int, Any], exit_code: ExitCode, message: str
) -> None:
    with pytest.raises(CommandError, match=message) as raised:
        await sent(tmp_path, Service(answer), num_lines=1)
    assert raised.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [(httpx.ConnectError("refused"), ExitCode.UNREACHABLE), (error(503, "no_worker"), ExitCode.BUSY)],
)
async def test_a_service_that_stays_away_ends_the_batch(tmp_path: Path, answer: Any, exit_code: ExitCode) -> None:
    service = Service(answer)
    with pytest.raises(CommandError) as raised:
        await sent(tmp_path, service, retry_s=0.3)
    assert raised.value.exit_code == exit_code and len(service.keys) >= 2
