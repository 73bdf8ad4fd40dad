"""A network that is cut between one process and Redis, without a word, and heals (FAULTS 37)."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.process.parent_death import dies_with_parent
from service.redis.primary import CALL_LIMIT_S
from tests.redis_servers import RedisProcess, free_port, until
from tests.service.tree import ApiSide, StartWorker, api_side, eventually, log_lines, quick_settings

pytestmark = pytest.mark.own_process

_CABLE = """
import asyncio, sys
async def main(port, server):
    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()
    async def serve(reader, writer):
        try:
            inner = await asyncio.open_connection("127.0.0.1", server)
        except OSError:
            return writer.close()
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))
    await (await asyncio.start_server(serve, "127.0.0.1", port)).serve_forever()
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


class Cable:
    """A way to a server: while it is cut, nothing passes and nobody is told."""

    def __init__(self, server: RedisProcess) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        command = [sys.executable, "-c", _CABLE, str(self.port), str(server.port)]
        self._process = subprocess.Popen(dies_with_parent(command))
        until(self._is_there, 10.0, "the cable")

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
            return True
        return False

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    running = RedisProcess(tmp_path)
    yield running
    running.kill()


@pytest.fixture
def cable(server: RedisProcess) -> Iterator[Cable]:
    between = Cable(server)
    yield between
    between.remove()


@pytest.fixture
def settings(server: RedisProcess) -> Settings:
    return quick_settings(server.url)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[ApiSide]:
    async with api_side(settings) as side:
        yield side


async def test_a_cut_workers_jobs_go_elsewhere_and_what_it_says_late_is_ignored(
    cable: Cable, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    away = start_worker(quick_settings(cable.url, stall_s=60.0), step_s=0.1)
    await api.ready(away)
    request = asyncio.create_task(api.request("stream 20"))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 3)
    with cable.cut():
        await api.ready(start_worker(step_s=0.01))
        outcome = await request
        assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(20))
        await asyncio.sleep(2.0)  # by now it is through with the job, alone
        assert away.process.poll() is None, "no process ends for a network"
    await eventually(lambda: has_workers(api, 2), 10)
    record = await api.producer.record(outcome.job_id)
    assert record is not None and record.deliveries == 2 and record.state == "done"
    answers = await asyncio.gather(*(api.request(f"echo {number}") for number in range(8)))
    assert [one.answer for one in answers] == [str(number) for number in range(8)]
    await api.check_accounting(accepted=9, done=9)


async def has_workers(api: ApiSide, count: int) -> bool:
    return [one.info.state for one in await api.workers()] == ["ready"] * count


async def test_a_cut_api_answers_within_its_limit_and_its_clients_get_their_answers_when_it_heals(
    cable: Cable, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    await api.ready(start_worker(step_s=0.05))
    async with api_side(quick_settings(cable.url)) as away:
        assert (await away.request("echo before")).answer == "before"
        waiting = asyncio.create_task(away.request("stream 10"))
        await eventually(lambda: len(log_lines(engine_log, "step")) >= 3)
        with cable.cut():
            longest_s = 0.0
            for _ in range(4):
                began_s = time.monotonic()
                with pytest.raises(BusUnavailable):
                    await away.producer.depth("chat")
                longest_s = max(longest_s, time.monotonic() - began_s)
            assert longest_s < CALL_LIMIT_S + 0.5, f"{longest_s:.2f} s"
            assert not waiting.done()
        outcome = await asyncio.wait_for(waiting, 15)
        assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(10))
    await api.check_accounting(accepted=2, done=2)
