"""One text exposition out of several: the API's own and its workers', each worker's samples labelled with its id."""

import asyncio
import ssl
from collections.abc import Iterable

import httpx

from service.queue.heartbeat import LiveWorker

WORKER_TIMEOUT_S = 0.5
_MAX_BYTES = 4 * 2**20


class WorkerScraper:
    """Asks workers for their metrics; one HTTP client for all scrapes of a process."""

    def __init__(self) -> None:
        # Workers speak plain HTTP: a context that trusts nobody costs nothing, httpx' own reads all authorities
        trust_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = httpx.AsyncClient(trust_env=False, verify=trust_nobody)

    async def fetch(self, workers: Iterable[LiveWorker]) -> dict[str, str]:
        """What each live worker exports, by its id; a worker that does not answer in time is left out."""
        told = [(worker.info.worker_id, worker.info.metrics_url) for worker in workers if worker.info.metrics_url]
        texts = await asyncio.gather(*(self._text(url) for _, url in told))
        return {worker_id: text for (worker_id, _), text in zip(told, texts, strict=True) if text is not None}

    async def close(self) -> None:
        await self._client.aclose()

    async def _text(self, url: str) -> str | None:
        try:
            async with asyncio.timeout(WORKER_TIMEOUT_S):
                response = await self._client.get(url, timeout=WORKER_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None
        if response.status_code != httpx.codes.OK or len(response.content) > _MAX_BYTES:
            return None
        return response.text


def merge(own: str, by_worker: dict[str, str]) -> str:
    """Families once, in the order of their first appearance; `worker` added to each worker's samples."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker_id, text in [("", own), *by_worker.items()]:
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                if not any(known.startswith(line[:7]) for known in head):
                    head.append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(_labelled(line, worker_id) if worker_id else line)
    lines = [line for family in heads for line in (*heads[family], *samples.get(family, ()))]
    return "\n".join(lines) + "\n"


def _labelled(sample: str, worker_id: str) -> str:
    if '{worker="' in sample or ',worker="' in sample:  # the worker says it itself
        return sample
    label = 'worker="' + worker_id.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    brace, space = sample.find("{"), sample.find(" ")
    if brace == -1 or space < brace:
        return f"{sample[:space]}{{{label}}}{sample[space:]}"
    separator = "" if sample[brace + 1] == "}" else ","
    return f"{sample[: brace + 1]}{label}{separator}{sample[brace + 1 :]}"
