"""The app's wiring: what it imports, what it holds, what routes can reach."""

import ast
import asyncio
import base64
import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis.asyncio
from PIL import Image

from service.access.key_store import KeyStore
from service.access.usage import UsageBook
from service.batches.batch_store import BatchStore
from service.batches.files import Files
from service.core.settings import Settings
from service.http.app import create_app
from service.image_output.picture_links import PictureLinks
from service.jobs.conversations import Conversations
from service.jobs.gated_queue import GatedQueue
from service.jobs.idempotency import IdempotencyKeys
from service.jobs.worker_registry import WorkerRegistry
from service.process.embedded_redis import EmbeddedServer
from service.process.parent_death import dies_with_parent
from service.queue.latest_paintings import LatestPaintings
from service.queue.producer import JobProducer
from service.redis.connection import RedisConnection, RedisServers
from tests.service.tree import WorkerProcess, eventually, quick_settings
from tests.service.web import serving

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_api_loads_no_model_code() -> None:
    libraries = ("torch", "transformers", "diffusers", "onnxruntime", "numpy")
    heavy = (*libraries, "models.networks", "models.engines")
    code = f"import sys, service.http.app; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.slow
def test_no_route_module_knows_the_bus_or_redis() -> None:
    paths = sorted((ROOT / "service/http/routes").glob("**/*.py"))
    assert len(paths) > 5
    for path in paths:
        tree = ast.parse(path.read_text())
        imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        imported += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not {"service.queue.producer", "service.redis.connection", "redis", "redis.asyncio"} & set(imported), (
            path.name
        )
        private = [
            node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")
        ]
        assert not private, f"{path.name} reaches into {private}"


async def test_routes_reach_a_model_through_the_gate_alone(redis_url: str) -> None:
    """Walks all that a route can get hold of: the app, its state, its routes' functions, closures and dependants."""
    async with serving(quick_settings(redis_url)) as service:
        reached = _reachable([service.app, *service.app.routes])
        assert any(isinstance(one, GatedQueue) for one in reached), "the walk must at least find the gated queue"
        assert not any(isinstance(one, JobProducer) for one in reached)
        assert not any(getattr(one, "__self__", None).__class__ is JobProducer for one in reached)
        # the stores hold Redis privately, and none of their methods touches a job's stream
        holders = {
            type(one)
            for one in reached
            if any(isinstance(v, RedisConnection) for v in getattr(one, "__dict__", {}).values())
        }
        assert holders == {
            BatchStore,
            Conversations,
            Files,
            IdempotencyKeys,
            KeyStore,
            LatestPaintings,
            PictureLinks,
            UsageBook,
            WorkerRegistry,
        }
        assert not any(isinstance(one, redis.asyncio.Redis | RedisServers) for one in reached)


def _reachable(roots: list[object]) -> list[object]:
    """Objects reachable without passing through a gated queue."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | type) or one is None:
            continue
        seen[id(one)] = one
        if isinstance(one, GatedQueue | RedisConnection):
            continue
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        else:
            module = type(one).__module__
            if module.startswith(("asyncio", "_asyncio", "prometheus_client", "concurrent", "threading", "logging")):
                continue
            waiting += list(getattr(one, "__dict__", {}).values())
            waiting += [cell.cell_contents for cell in getattr(one, "__closure__", None) or () if _is_set(cell)]
            waiting.append(getattr(one, "__self__", None))
    return list(seen.values())


def _is_set(cell: object) -> bool:
    try:
        cell.cell_contents  # type: ignore[attr-defined] # noqa: B018
    except ValueError:
        return False
    return True


@contextmanager
def api_process(settings: Settings, port: int, log: Path) -> Iterator[psutil.Process]:
    names = ("redis_url", "heartbeat_s", "safety")
    environment = {f"VISCPM_{name.upper()}": str(getattr(settings, name)) for name in names}
    with log.open("w") as output:
        process = subprocess.Popen(
            dies_with_parent([sys.executable, "-m", "service.process.cli", "api", "--port", str(port)]),
            cwd=ROOT,
            env=os.environ | environment,
            stderr=output,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def large_photo() -> bytes:
    """A JPEG of 2560 × 1704 with detail, as a camera makes it."""
    noise = Image.frombytes("L", (320, 213), random.Random(1).randbytes(320 * 213)).resize((2560, 1704))
    target = io.BytesIO()
    Image.merge("RGB", (noise, noise.transpose(Image.Transpose.ROTATE_180), noise)).save(target, "JPEG", quality=90)
    return target.getvalue()


@pytest.mark.own_process
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux: resident memory is bounded through glibc")
async def test_resident_memory_stays_small(own_server: EmbeddedServer, tmp_path: Path, unused_tcp_port: int) -> None:
    """VISCPM_TEST_CHATS=200 is the full run."""
    chats = int(os.environ.get("VISCPM_TEST_CHATS", "24"))
    settings = quick_settings(own_server.url)
    workers = [WorkerProcess(settings, tmp_path / "log", kind) for kind in ("chat", "paint")]
    try:
        url = f"http://127.0.0.1:{unused_tcp_port}"
        with api_process(settings, unused_tcp_port, tmp_path / "api.log") as process:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:

                async def is_ready() -> bool:
                    try:
                        return (await client.get("/health/ready")).status_code == 200
                    except httpx.TransportError:
                        return False

                await eventually(is_ready, 20)
                at_start = _api_memory_mib(process)
                assert at_start < 150
                body = {"image": base64.b64encode(large_photo()).decode(), "question": "echo x"}
                for _ in range(chats // 4):
                    answers = await asyncio.gather(*(client.post("/chat", json=body) for _ in range(4)))
                    assert all(answer.status_code == 200 for answer in answers)
                after = _api_memory_mib(process)
                print(f"resident: {at_start:.0f} MiB at start, {after:.0f} MiB after {chats} chats")
                assert after < 200
    finally:
        for worker in workers:
            worker.kill()


def _api_memory_mib(process: psutil.Process) -> float:
    """Of the API itself, where `dies_with_parent` runs it as a child."""
    family = [process, *process.children(recursive=True)]
    return max(one.memory_info().rss for one in family) / 2**20


async def test_importing_and_creating_starts_nothing() -> None:
    app = create_app(quick_settings("redis://127.0.0.1:1/0"))
    assert not hasattr(app.state, "api")
