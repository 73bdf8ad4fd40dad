"""What all tests share: what they may be skipped for, Debian's programs, a real server of the Redis protocol."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from xdist.remote import Producer

from service.core.process_memory import importing, settle
from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from service.redis.connection import RedisServers, open_redis
from tests.debian import absent
from tests.side_by_side import InTurn

# Kernels are tested in Triton's interpreter, which is chosen when Triton is first imported, by whatever test.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Of a checkout in which somebody has run `viscpm setup`
os.environ["VISCPM_ENV_FILE"] = ""

# Beginnings of the reasons for which a test may be skipped: what no package brings. What Debian's packages bring is
# needed by tests marked `ops` alone, so that none is skipped for a package that one machine has and another has not.
_MAY_BE_ABSENT = ("reference data: ", "Linux: ", "IPv6: ", "CUDA: ", "Node: ")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    with importing():
        result = yield
    settle()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("ops") is None and not hasattr(report, "wasxfail"):
        _refuse_skipping(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skipping(report)
    return report


def _refuse_skipping(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip for another reason."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(_MAY_BE_ABSENT):
            report.outcome = "failed"
            report.longrepr = f"skipped for {reason!r}, but all that it needs is installed by make test"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> InTurn | None:
    return InTurn(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """For tests marked `ops`: path of a program by name, from the environment's folder or from PATH."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        return path or absent(f"{name} is not installed (make help names Debian's packages)")

    return find


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(shared_server: EmbeddedServer) -> str:
    """A running server, emptied for this test."""
    with redis.Redis.from_url(shared_server.url, protocol=3) as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return shared_server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test's own, to be stopped, killed and started again."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """To look at what is stored."""
    async with redis.asyncio.Redis.from_url(redis_url, protocol=3) as connected:
        yield connected


@pytest.fixture
def servers(redis_url: str) -> RedisServers:
    """As the service finds them."""
    return open_redis(Settings(redis_url=redis_url))
