"""Listening, and a drain that loses nothing and ends with exit code 0."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from service.process.api_server import BindError, address_of, bind, bound_to, url_of
from tests.service.tree import ROOT

# An app with a slow route, served as `viscpm api` serves its own; argv: drain_s, whether its lifespan fails,
# drain_notice_s, keep_alive_s
_SERVER = """
import asyncio, sys, time
from contextlib import asynccontextmanager
from fastapi import FastAPI
from service.core.settings import Settings
from service.process.api_server import bind, run_api, url_of

class Tasks:
    failed = None

class State:
    is_draining = False
    tasks = Tasks()
    def begin_drain(self):
        self.is_draining = True

@asynccontextmanager
async def lifespan(app):
    if sys.argv[2] == "fails":
        raise RuntimeError("no start")
    app.state.api = State()
    yield
    print("closed", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/slow")
async def slow(seconds: float) -> str:
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    return "done"

@app.get("/stall")
async def stall(seconds: float) -> str:
    print("begun", flush=True)
    time.sleep(seconds)
    return "done"

@app.post("/echo")
async def echo(body: dict[str, str]) -> dict[str, str]:
    return body

@app.get("/break")
async def broken() -> None:
    app.state.api.tasks.failed = "inbox"

@app.get("/draining")
async def draining() -> bool:
    return app.state.api.is_draining

listener = bind("127.0.0.1", 0)
print(url_of(listener), flush=True)
drain_s, notice_s, keep_alive_s = (float(sys.argv[i]) for i in (1, 3, 4))
sys.exit(run_api(app, Settings(drain_s=drain_s, drain_notice_s=notice_s, keep_alive_s=keep_alive_s), listener))
"""


class Server:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.url = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask_slowly(self, seconds: float) -> tuple[threading.Thread, list[httpx.Response | httpx.HTTPError]]:
        """A request in flight; its answer is there when the thread has ended."""
        answers: list[httpx.Response | httpx.HTTPError] = []

        def ask() -> None:
            try:
                answers.append(httpx.get(f"{self.url}/slow?seconds={seconds}", trust_env=False, timeout=20))
            except httpx.HTTPError as error:
                answers.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert self.line() == "begun"
        return thread, answers


@contextmanager
def running(
    drain_s: float = 10.0, lifespan: str = "works", notice_s: float = 0.0, keep_alive_s: float = 75.0
) -> Iterator[Server]:
    command = [sys.executable, "-c", _SERVER, str(drain_s), lifespan, str(notice_s), str(keep_alive_s)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "message"), [("no-such-host.invalid", "cannot listen on no-such-host.invalid:0"), ("192.0.2.1", "--host")]
)
def test_an_address_that_is_not_ours_is_one_line(host: str, message: str) -> None:
    with pytest.raises(BindError, match=message) as error:
        bind(host, 0)
    assert "\n" not in str(error.value)


def test_a_taken_port_is_named_and_nothing_stays_open() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BindError, match=f"^cannot listen on 127.0.0.1:{port}: .*choose another --host or --port$"):
            bind("127.0.0.1", port)
    with bind("127.0.0.1", port) as again:
        assert again.getsockname()[1] == port


def test_the_address_told_is_one_to_connect_to() -> None:
    with bind("0.0.0.0", 0) as listener:
        host, port = address_of(listener)
        assert host == "127.0.0.1" and url_of(listener) == f"http://127.0.0.1:{port}"
        socket.create_connection((host, port), 2).close()
        assert bound_to(listener) == f"0.0.0.0:{port}, from this machine http://127.0.0.1:{port}"


def test_an_address_of_its_own_is_told_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert bound_to(listener) == url_of(listener)


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6: not in this Python")
def test_an_ipv6_address_stands_in_brackets() -> None:
    try:
        listener = bind("::", 0)
    except BindError:
        pytest.skip("IPv6: none on this machine")
    with listener:
        host, port = address_of(listener)
        assert host == "::1" and url_of(listener) == f"http://[::1]:{port}"
        assert bound_to(listener) == f"[::]:{port}, from this machine http://[::1]:{port}"


@pytest.mark.own_process
def test_while_draining_it_listens_answers_and_ends_cleanly() -> None:
    with running() as server:
        thread, answers = server.ask_slowly(2.5)
        server.process.send_signal(signal.SIGTERM)
        assert httpx.get(f"{server.url}/draining", trust_env=False).json() is True, "new connections are heard"
        thread.join()
        assert isinstance(answers[0], httpx.Response) and answers[0].json() == "done"
        assert server.process.wait(10) == 0
        assert server.line() == "closed"


@pytest.mark.own_process
def test_it_stays_for_its_notice_with_nothing_in_hand() -> None:
    with running(notice_s=2.0) as server:
        assert httpx.get(f"{server.url}/draining", trust_env=False).json() is False
        began_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while time.monotonic() < began_s + 1.5:
            assert httpx.get(f"{server.url}/draining", trust_env=False).status_code == 200
        assert server.process.wait(10) == 0
        assert 2.0 <= time.monotonic() - began_s < 5.0


@pytest.mark.own_process
def test_a_second_signal_does_not_wait() -> None:
    with running(drain_s=60.0) as server:
        thread, answers = server.ask_slowly(30.0)
        server.process.send_signal(signal.SIGTERM)
        httpx.get(f"{server.url}/draining", trust_env=False)  # the first one has been heard
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0
        thread.join()
        assert not (isinstance(answers[0], httpx.Response) and answers[0].status_code == 200)


@pytest.mark.own_process
def test_the_drain_ends_with_its_time() -> None:
    with running(drain_s=0.3) as server:
        thread, _ = server.ask_slowly(30.0)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(6) == 0
        thread.join()


@pytest.mark.own_process
def test_a_process_whose_task_is_gone_for_good_ends_and_says_so() -> None:
    with running(drain_s=60.0) as server:
        thread, _ = server.ask_slowly(30.0)
        httpx.get(f"{server.url}/break", trust_env=False)
        assert server.process.wait(6) == 1, "for its supervisor to start another"
        thread.join()
        assert server.line() == "closed"


@pytest.mark.own_process
def test_an_app_that_does_not_start_is_exit_code_1() -> None:
    with running(lifespan="fails") as server:
        assert server.process.wait(10) == 1


def echo(text: str) -> bytes:
    body = b'{"text":"%b"}' % text.encode()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def idle_connection(server: Server) -> socket.socket:
    """One that has had its first answer."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 10)
    connection.sendall(echo("first"))
    assert b"first" in connection.recv(4096)
    return connection


@pytest.mark.own_process
def test_idle_connections_are_used_again_until_their_time_is_over() -> None:
    with running(keep_alive_s=2.0) as server:
        connections = [idle_connection(server) for _ in range(40)]
        time.sleep(2.0)  # the whole of it
        for connection in connections:
            connection.sendall(echo("second"))
        assert all(b"second" in connection.recv(4096) for connection in connections)
        began_s = time.monotonic()
        assert all(connection.recv(4096) == b"" for connection in connections), "closed in the end"
        assert 1.0 < time.monotonic() - began_s < 5.0
        for connection in connections:
            connection.close()


@pytest.mark.own_process
def test_what_has_come_in_when_the_time_is_over_is_answered() -> None:
    """The loop is busy over the limit: it finds the timer due and the requests waiting, and must not drop these."""
    with running(keep_alive_s=0.5) as server:
        connections = [idle_connection(server) for _ in range(40)]
        with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
            stalled = threading.Thread(target=client.get, args=("/stall?seconds=2.5",))
            stalled.start()
            assert server.line() == "begun"
            for connection in connections:
                connection.sendall(echo("late"))
            answers = [connection.recv(4096) for connection in connections]
            stalled.join()
        assert sum(b"late" in answer for answer in answers) == 40
        for connection in connections:
            connection.close()


@pytest.mark.own_process
def test_a_connection_that_never_asked_is_closed_without_a_word() -> None:
    with running() as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as connection:
            assert connection.recv(4096) == b""


@pytest.mark.own_process
def test_a_request_begun_before_the_limit_and_ended_after_it_is_answered() -> None:
    with running(keep_alive_s=0.5) as server:
        connections = [idle_connection(server) for _ in range(40)]
        for connection in connections:
            connection.sendall(echo("late")[:30])
        time.sleep(2.5)
        for connection in connections:
            connection.sendall(echo("late")[30:])
        assert sum(b"late" in connection.recv(4096) for connection in connections) == 40
        for connection in connections:
            connection.close()
