"""The chat engine with a quantized language model: what it says of itself, and that a batch changes no answer."""

from collections.abc import Iterator

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.engines.chat.engine import ChatEngine, create_engine
from models.jobs import ChatGeneration, ChatJob, EngineConfig, Failed, Generated, Quantization

GREEDY = ChatGeneration(max_new_tokens=16, num_beams=1)
BEAMS = ChatGeneration(max_new_tokens=16)
QUESTIONS = ("What is a cat?", "这是什么？", "Is it on the left or on the right?", "What is in the picture? " * 6)


def jobs() -> list[ChatJob]:
    return [
        ChatJob(job_id=f"{name}{number}", question=question, generation=generation)
        for name, generation in (("greedy", GREEDY), ("beams", BEAMS))
        for number, question in enumerate(QUESTIONS)
    ]


def answers(engine: ChatEngine, asked: list[ChatJob]) -> dict[str, list[int]]:
    """Token ids by job, of jobs that run together."""
    for job in asked:
        engine.admit(job)
    found: dict[str, list[int]] = {}
    while len(found) < len(asked):
        for job_id, event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Generated):
                found[job_id] = event.result.token_ids
    return found


@pytest.fixture(scope="module", params=["int8", "int4"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[Quantization, ChatEngine]]:
    config = EngineConfig(
        kind="chat",
        checkpoint=str(bundled_checkpoint("chat")),
        quantization=request.param,
        max_jobs=16,
        kv_bytes=2**27,
    )
    yield request.param, create_engine(config, lambda name, value: None)


@pytest.mark.slow
def test_the_description_tells_it_and_counts_weights_as_the_checkpoint_does(
    engine: tuple[Quantization, ChatEngine],
) -> None:
    quantization, one = engine
    description = one.description
    assert (description.quantization, description.dtype) == (quantization, "float32")
    assert description.parameters == 1_534_848
    assert description.fingerprint == (bundled_checkpoint("chat") / "fingerprint").read_text().strip()


@pytest.mark.slow
def test_answers_are_the_same_alone_and_among_others(engine: tuple[Quantization, ChatEngine]) -> None:
    _, one = engine
    together = answers(one, jobs())
    assert len({tuple(ids) for ids in together.values()}) > 3, "answers that differ can show a neighbour's influence"
    for job in jobs():
        assert answers(one, [job])[job.job_id] == together[job.job_id], job.job_id
