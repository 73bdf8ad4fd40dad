"""Asking workers for their metrics, and merging text expositions."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.http.scrape import WorkerScraper, merge
from service.queue.heartbeat import LiveWorker, WorkerInfo
from service.worker.http import WorkerServer

OWN = """# HELP a_total Counts a.
# TYPE a_total counter
a_total{route="/x"} 1.0
# HELP plain A gauge.
# TYPE plain gauge
plain 5.0
"""
WORKER = """# HELP plain A gauge.
# TYPE plain gauge
plain 7.0
# HELP b_seconds A histogram.
# TYPE b_seconds histogram
b_seconds_bucket{le="0.1",model="c{h}at \\"x\\""} 1.0
b_seconds_bucket{le="+Inf",model="c{h}at \\"x\\""} 2.0
b_seconds_count{model="c{h}at \\"x\\""} 2.0
b_seconds_sum{model="c{h}at \\"x\\""} 0.5
# TYPE empty gauge
empty{} 1
# TYPE told gauge
told{model="chat",worker="w1"} 1
"""


def test_families_come_once_and_workers_samples_are_labelled() -> None:
    text = merge(OWN, {'w"1': WORKER, "w2": WORKER})
    assert text.count("# TYPE plain gauge") == 1 and text.count("# HELP b_seconds") == 1
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert [(sample.labels, sample.value) for sample in families["plain"].samples] == [
        ({}, 5.0),
        ({"worker": 'w"1'}, 7.0),
        ({"worker": "w2"}, 7.0),
    ]
    assert families["a"].samples[0].labels == {"route": "/x"}
    assert len(families["b_seconds"].samples) == 8
    assert families["b_seconds"].samples[0].labels == {"worker": 'w"1', "le": "0.1", "model": 'c{h}at "x"'}
    assert 'empty{worker="w2"} 1' in text
    assert text.count('told{model="chat",worker="w1"} 1') == 2, "not labelled twice"


def test_nothing_to_merge_leaves_the_text_alone() -> None:
    assert merge(OWN, {}) == OWN


def worker(worker_id: str, url: str) -> LiveWorker:
    return LiveWorker(WorkerInfo(worker_id, "chat", "ready", "host", 1, 0.0, metrics_url=url), 0.0)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Of a worker's own port."""
    server = WorkerServer(lambda: b"plain 7.0\n", lambda: True)
    await server.start("127.0.0.1", 0)
    yield server.url
    await server.close()


@pytest.fixture
def contexts_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The TLS contexts that are made from here on, and the authorities that are read."""
    made: list[str] = []
    new = ssl.SSLContext.__new__

    def counted(cls: type[ssl.SSLContext], *arguments: Any, **options: Any) -> ssl.SSLContext:
        made.append("context")
        return new(cls, *arguments, **options)

    monkeypatch.setattr(ssl.SSLContext, "__new__", counted)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: made.append("authorities"))
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_, **__: made.append("authorities"))
    return made


async def test_scrapes_make_no_tls_context(url: str, contexts_made: list[str]) -> None:
    """One takes 20 to 160 ms of the event loop's time."""
    scraper = WorkerScraper()
    assert contexts_made == ["context"], "one that reads no authorities"
    for _ in range(3):
        assert await scraper.fetch([worker("w1", url), worker("w2", url)]) == {"w1": "plain 7.0\n", "w2": "plain 7.0\n"}
    assert contexts_made == ["context"]
    await scraper.close()


async def test_who_does_not_answer_is_left_out(url: str) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    rude = await asyncio.start_server(closes, "127.0.0.1", 0)
    rude_url = f"http://127.0.0.1:{rude.sockets[0].getsockname()[1]}/metrics"
    scraper = WorkerScraper()
    missing = url.replace("/metrics", "/nothing")
    workers = [worker("rude", rude_url), worker("none", ""), worker("missing", missing), worker("odd", "no://x:y")]
    assert await scraper.fetch([*workers, worker("w1", url)]) == {"w1": "plain 7.0\n"}
    assert await scraper.fetch([]) == {}
    await scraper.close()
    rude.close()
