"""The engine over two and four processes: the same tokens as the plain path, whatever is in the batch."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from models.checkpoints.loading import LoadedChat
from models.engines.chat.engine import create_engine
from models.engines.chat.parallel.engine import ParallelChatEngine
from models.jobs import EngineConfig
from tests.models.engines.chat.conftest import Bench
from tests.models.engines.chat.jobs import BEAMS, MIXED, job
from tests.models.engines.chat.test_batch import plain_ids, random_job

pytestmark = pytest.mark.whole_run


class ParallelBench(Bench):
    """Around an engine that was made elsewhere, with a new pool."""

    def __init__(self, engine: ParallelChatEngine, num_blocks: int) -> None:
        self.observed, self.events, self.open = {}, [], set()
        self.engine = engine
        engine.make_pool(num_blocks)


@pytest.fixture(scope="module", params=[2, 4])
def engine(request: pytest.FixtureRequest, folder: Any) -> Iterator[ParallelChatEngine]:
    config = EngineConfig(kind="chat", checkpoint=str(folder), max_jobs=64, devices=("cpu",) * request.param)
    made = create_engine(config, lambda name, value: None)
    assert isinstance(made, ParallelChatEngine)
    yield made
    made.close()


def test_every_kind_of_job_answers_as_on_one_device(engine: ParallelChatEngine, loaded: LoadedChat) -> None:
    bench = ParallelBench(engine, 200)
    bench.admit(*MIXED[:2])
    bench.step()
    bench.finish(*MIXED[2:])
    for single in MIXED:
        assert bench.result(single.job_id).token_ids == plain_ids(loaded, single), single.job_id


@pytest.mark.parametrize("num_blocks", [10, 200])
def test_jobs_that_come_and_go_answer_as_on_one_device(
    engine: ParallelChatEngine, loaded: LoadedChat, num_blocks: int
) -> None:
    """With few blocks the youngest are preempted; two are cancelled."""
    bench = ParallelBench(engine, num_blocks)
    jobs = [
        msgspec.structs.replace(single, generation=msgspec.structs.replace(single.generation, max_new_tokens=80))
        for single in map(random_job, range(900, 916))
    ]
    bench.admit(*jobs)
    cancelled = {1: jobs[0].job_id, 8: jobs[5].job_id}
    steps = most_preempted = 0
    while bench.open:
        bench.step()
        steps += 1
        if steps in cancelled:
            bench.engine.cancel(cancelled[steps])
            bench.open.discard(cancelled[steps])
        most_preempted = max(most_preempted, bench.engine.load.preempted)
    assert (most_preempted > 0) == (num_blocks == 10)
    for single in jobs:
        if single.job_id not in cancelled.values():
            assert bench.result(single.job_id).token_ids == plain_ids(loaded, single), single
    assert bench.engine.load.kv_blocks_used == 0


def test_a_step_that_is_tried_again_gives_the_same(
    engine: ParallelChatEngine, loaded: LoadedChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory while rank 0 chooses: the step is fed again in halves, beams having changed their parents."""
    bench = ParallelBench(engine, 200)
    choose: Callable[..., Any] = engine._batch._choose
    calls = 0

    def choose_or_not(requests: Any, *rest: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if len(requests) > 1 and calls % 3 == 0:
            raise MemoryError
        return choose(requests, *rest, **more)

    monkeypatch.setattr(engine._batch, "_choose", choose_or_not)
    jobs = [job(name, generation=BEAMS, question=question) for name, question in (("a", "Why?"), ("b", "a b"))]
    bench.finish(*jobs)
    engine._rows_per_call = None
    assert calls > 12
    for single in jobs:
        assert bench.result(single.job_id).token_ids == plain_ids(loaded, single)


def test_it_describes_the_whole(engine: ParallelChatEngine, loaded: LoadedChat) -> None:
    description = engine.description
    size = len(engine._config.devices)
    assert description.device == ",".join(["cpu"] * size)
    assert description.parameters == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert engine.failure == ""
    blocks = engine.all_blocks()
    engine._config = msgspec.structs.replace(engine._config, kv_bytes=2 * 2 * 4 * 16 * 4 * 16 * 10)
    assert engine.all_blocks() == 10 and blocks > 10, "bytes are of all ranks together"
