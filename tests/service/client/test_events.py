"""Jobs as they are followed: streams that break are taken up again, and end once."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from service.client import events
from service.client.answers import follow_answer
from service.client.connection import Service
from service.client.events import begin, cancel, cancelled_with_us, events_of, follow, lines_of, wait_for_turn
from service.client.exit_codes import CommandError, ExitCode
from tests.service.client.conftest import Running


@pytest.fixture
def service(running: Running) -> Iterator[Service]:
    with Service(running.api.url, running.key) as asked:
        yield asked


def test_events_are_read_line_by_line() -> None:
    text = 'id: 3\ndata: {"delta":"a\u2028b"}\n\n: comment\n\nevent: x\ndata: {"step":1}\n\ndata: [DONE]\n\n'
    for size in (1, 3, 1000):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        first, second, last = list(events_of(lines_of(pieces)))
        assert first is not None and second is not None and last is None
        assert (first.name, first.id, first.data) == ("", "3", {"delta": "a\u2028b"})
        assert (second.name, second.id, second.data) == ("x", "", {"step": 1})


def test_an_event_that_is_an_error_is_raised() -> None:
    text = 'data: {"error":{"code":"content_policy_violation","message":"no"}}\n\n'
    with pytest.raises(CommandError, match="content_policy_violation: no") as raised:
        list(events_of(lines_of([text])))
    assert raised.value.exit_code == ExitCode.REFUSED


def test_a_job_is_followed_to_its_end(service: Service) -> None:
    job_id = begin(service, "/chat", {"question": "stream 5"})
    pieces = [event.data.get("delta", "") for event in follow(service, job_id)]
    assert "".join(pieces) == "w0 w1 w2 w3 w4 " and len([piece for piece in pieces if piece]) == 5
    assert list(wait_for_turn(service, job_id)) == [], "it has had its turn"


def test_an_interrupt_ends_ones_own_job(service: Service) -> None:
    job_id = begin(service, "/chat", {"question": "stream 2000"})
    with pytest.raises(KeyboardInterrupt), cancelled_with_us(service, job_id):
        next(follow(service, job_id))
        raise KeyboardInterrupt
    assert service.get(f"/jobs/{job_id}", "state")["state"] == "cancelled"
    with pytest.raises(CommandError, match="cancelled"):
        list(follow(service, job_id))


def test_what_is_no_job_is_named(service: Service) -> None:
    for ask in (cancel, lambda *asked: list(follow(*asked))):
        with pytest.raises(CommandError, match="job_not_found") as raised:
            ask(service, "chat-none")
        assert raised.value.status == 404


def test_a_stream_that_breaks_is_taken_up_again(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through a way that drops each connection after a while; every word is told once."""
    monkeypatch.setattr(events, "_WAITS_S", (0.01,) * 6)
    with breaking_way(running.api.url, after_bytes=4000) as (url, dropped), Service(url, running.key) as service:
        job_id = begin(service, "/chat", {"question": "stream 60"})
        answer = follow_answer(service, job_id)
    assert answer["answer"].split() == [f"w{number}" for number in range(60)]
    assert capsys.readouterr().out == answer["answer"] + "\n"
    assert len(dropped) >= 2


def test_a_service_that_goes_away_is_unreachable(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_WAITS_S", (0.01, 0.01))
    with breaking_way(running.api.url, after_bytes=2500) as (url, _), Service(url, running.key) as service:
        job_id = begin(service, "/chat", {"question": "stream 100"})
        stream = follow(service, job_id)
        next(stream)
        monkeypatch.setattr(service.client, "_base_url", service.client.base_url.copy_with(port=9))
        with pytest.raises(CommandError) as raised:
            list(stream)
    assert raised.value.exit_code == ExitCode.UNREACHABLE
    with Service(running.api.url, running.key) as direct:
        cancel(direct, job_id)


@contextmanager
def breaking_way(url: str, after_bytes: int) -> Iterator[tuple[str, list[int]]]:
    """A TCP way to a service whose connections break once so many bytes came back, and the list of those that did."""
    to = urlsplit(url)
    dropped: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket, limit: int) -> None:
        passed = 0
        with suppress(OSError):
            while passed < limit and (data := source.recv(1024)):
                target.sendall(data)
                passed += len(data)
            if passed >= limit:
                dropped.append(passed)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((to.hostname, to.port))
                sockets.extend((client, server))
                for ends in ((client, server, 2**40), (server, client, after_bytes)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    sockets: list[socket.socket] = []
    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", dropped
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        time.sleep(0.05)
        for one in sockets:
            one.close()
