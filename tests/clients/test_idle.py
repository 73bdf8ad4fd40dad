"""A request that races the closing of its idle connection: answered whole where the server has read of it."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.clients.idle import Reuse, reuse
from tests.e2e.tree import metric
from tests.service.api_process import ApiProcess, api_process

KEEP_ALIVE_S = 1.0
CLOSES_S = KEEP_ALIVE_S + 1.0  # the server's grace
TRIES = 200

pytestmark = [pytest.mark.waiting, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Keeps an idle connection for a second."""
    variables = {"VISCPM_KEEP_ALIVE_S": str(KEEP_ALIVE_S), "VISCPM_QUEUE_SIZE": "1000"}
    with api_process(tmp_path_factory.mktemp("hasty"), **variables) as running:
        yield running


@pytest.mark.parametrize("pieces", [1, 4])
async def test_no_request_that_races_the_closing_gets_half_an_answer(hasty: ApiProcess, pieces: int) -> None:
    """Half of the tries within 30 ms of the limit, the others from well before it to well behind it."""
    drawn = random.Random(pieces)
    idle_s = [CLOSES_S + drawn.uniform(-0.03, 0.03) for _ in range(TRIES // 2)]
    idle_s += [drawn.uniform(0.5 * KEEP_ALIVE_S, CLOSES_S + 1.5) for _ in range(TRIES // 2)]
    before = num_answered_by(hasty)
    tries = await asyncio.gather(*(reuse(hasty.url, one_s, i, pieces) for i, one_s in enumerate(idle_s)))
    fates = Counter(one.fate for one in tries)
    print(f"\n{fates} of {TRIES} in {pieces} pieces; lost {_moments(tries)}")
    assert num_answered_by(hasty) - before == TRIES + fates["answered"], (
        "the server read a request, and no client knows"
    )
    assert {one.fate for one in tries if one.idle_s <= KEEP_ALIVE_S} == {"answered"}
    assert fates["answered"] >= TRIES // 5 and fates["closed before"] > 0


def _moments(tries: list[Reuse]) -> list[str]:
    return [f"{1000 * (one.idle_s - CLOSES_S):+.1f} ms" for one in tries if one.fate == "lost"]


def num_answered_by(api: ApiProcess) -> float:
    with api.client() as client:
        return metric(client.get("/metrics").text, "viscpm_requests_total", route="/chat", outcome="ok")
