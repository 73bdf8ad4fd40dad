"""The chat engine on a tiny random model: answers, pictures, cancelling."""

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.conversion import write_folder
from models.checkpoints.loading import LoadedChat
from models.checkpoints.published_names import published_name
from models.checkpoints.tensor_files import CheckpointError
from models.engines.chat.engine import ChatEngine, create_engine
from models.engines.chat.request import ChatRequest
from models.jobs import (
    ChatGeneration,
    ChatJob,
    ChatResult,
    EngineConfig,
    EngineLoad,
    Generated,
    JobRejected,
    OnOffAuto,
    Turn,
)
from tests.models.engines.chat.jobs import BEAMS, EACH, GREEDY, MIXED, SAMPLED, SIDE_PX, job, picture, timeless

# Answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@EACH
def test_same_job_gives_the_same_answer(make_bench: Callable[..., Any], generation: ChatGeneration) -> None:
    first, second = (make_bench().run(job(generation=generation, seed=3)) for _ in range(2))
    assert timeless(first) == timeless(second)
    assert first.image_tokens == 4 and first.prompt_tokens > 20
    assert first.completion_tokens == len(first.token_ids) > 0


@pytest.mark.slow
def test_seed_changes_a_sampled_answer_alone(make_bench: Callable[..., Any]) -> None:
    def answers(generation: ChatGeneration) -> set[str]:
        return {make_bench().run(job(generation=generation, seed=seed)).answer for seed in range(4)}

    assert len(answers(SAMPLED)) > 1
    assert len(answers(GREEDY)) == 1


@pytest.mark.slow
def test_picture_changes_the_answer(make_bench: Callable[..., Any]) -> None:
    answers = {make_bench().run(job(pixels=pixels)).answer for pixels in (picture(1), picture(2), b"")}
    assert len(answers) == 3


# Jobs side by side ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_interleaved_jobs_answer_as_alone(make_bench: Callable[..., Any]) -> None:
    together = make_bench()
    together.admit(*MIXED[:2])
    together.step()
    together.step()
    together.finish(*MIXED[2:])
    for single in MIXED:
        assert timeless(together.result(single.job_id)) == timeless(make_bench().run(single))


@pytest.mark.slow
@EACH
def test_what_is_streamed_is_the_answer_and_comes_in_parts(
    make_bench: Callable[..., Any], generation: ChatGeneration
) -> None:
    num_parts = 0
    for seed in range(6):
        bench = make_bench()
        bench.finish(job(generation=generation, seed=seed, pixels=picture(seed), stream=True))
        deltas = bench.deltas("a")
        assert "".join(delta.text for delta in deltas) == bench.result("a").answer
        assert [delta.offset_chars for delta in deltas] == [
            sum(len(earlier.text) for earlier in deltas[:number]) for number in range(len(deltas))
        ]
        num_parts += len(deltas)
    assert num_parts > 6


def test_capacity_counts_admitted_jobs(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(max_jobs=2)
    assert bench.engine.capacity == 2
    bench.admit(job("a"), job("b"))
    assert bench.engine.capacity == 0
    with pytest.raises(JobRejected, match="2 jobs"):
        bench.engine.admit(job("c"))
    bench.finish()
    assert bench.engine.capacity == 2
    assert bench.engine.step() == []


@pytest.mark.slow
def test_cancel_takes_effect_before_the_next_step(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    bench.admit(job("gone", stream=True), job("stays", generation=BEAMS))
    for _ in range(3):
        bench.step()
    bench.engine.cancel("gone")
    bench.engine.cancel("never there")
    bench.open.discard("gone")
    assert bench.engine.capacity == 3
    seen = len(bench.events)
    steps_s = bench.count("decode_step_s")
    bench.finish()
    assert {owner for owner, _ in bench.events[seen:]} == {"stays"}
    assert bench.count("decode_step_s") - steps_s <= BEAMS.max_new_tokens  # of `stays` alone
    assert timeless(bench.result("stays")) == timeless(make_bench().run(job("stays", generation=BEAMS)))


def test_cancel_before_the_first_step(bench: Any) -> None:
    bench.engine.admit(job())
    bench.engine.cancel("a")
    assert bench.engine.step() == [] and bench.count("prefill_s") == 0


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["answer", "cancel", "failure", "again"])
def test_an_ended_job_leaves_no_cache_behind(bench: Any, ending: str) -> None:
    """Without the help of the cycle collector, which knows nothing of a device's memory."""
    gc.collect()
    gc.disable()
    try:
        bad = torch.full((4, 32), math.nan).numpy().tobytes()
        bench.admit(job(image_key="s", image_embeddings=bad if ending == "failure" else b""))
        bench.step()
        assert ending == "failure" or bench.engine.load.kv_blocks_used > 0
        if ending == "failure":
            assert bench.failure("a").code == "generation_failed"
        elif ending == "cancel":
            bench.engine.cancel("a")
            bench.open.clear()
        elif ending == "again":
            bench.admit(job())
            bench.engine.cancel("a")
        else:
            bench.finish()
        assert bench.engine.load == EngineLoad(kv_blocks=200)
        assert sum(type(thing) is ChatRequest for thing in gc.get_objects()) == 0
    finally:
        gc.enable()


# The factory ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(loaded: LoadedChat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a converted folder."""
    target = tmp_path_factory.mktemp("checkpoints") / "tiny"
    target.mkdir()
    tensors = {published_name("chat", name): tensor for name, tensor in loaded.model.state_dict().items()}
    tokenizer = loaded.tokenizer
    names = [tokenizer.decode([index], {}) for index in range(tokenizer.vocab_size)]
    lines = [{"\n": "</n>", " ": "</_>", "<<": "<"}.get(name, name) for name in names]
    (target / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    write_folder(target, "chat", loaded.config, tensors.items(), untrained=True)
    return target


@pytest.mark.slow
def test_create_engine_loads_folds_and_warms_up(folder: Path, make_bench: Callable[..., Any]) -> None:
    observed: list[str] = []
    config = EngineConfig(kind="chat", checkpoint=str(folder), max_jobs=2)
    engine = create_engine(config, lambda name, value: observed.append(name))
    assert observed == []  # the warm-up is no request
    assert engine.capacity == 2 and engine.image_key(job(image_key="p")) is not None
    assert isinstance(engine, ChatEngine)
    description = engine.description
    assert (description.kind, description.name, description.untrained) == ("chat", "tiny", True)
    assert (description.image_size_px, description.image_tokens, description.dtype) == (SIDE_PX, 4, "float32")
    assert description.parameters > 10_000 and len(description.fingerprint) == 64

    engine.admit(job())
    result = None
    while result is None:
        result = next((event.result for _, event in engine.step() if isinstance(event, Generated)), None)
    expected = make_bench().run(job())
    assert isinstance(result, ChatResult) and result.token_ids == expected.token_ids  # folding changes no answer


@pytest.mark.slow
def test_an_engine_for_one_job_at_a_time_starts(folder: Path) -> None:
    config = EngineConfig(kind="chat", checkpoint=str(folder), max_jobs=1)
    assert create_engine(config, lambda name, value: None).capacity == 1


def test_create_engine_refuses_what_it_cannot_load(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        create_engine(EngineConfig(kind="chat", checkpoint=str(tmp_path / "none")), lambda name, value: None)
    with pytest.raises(ValueError, match="float8"):
        create_engine(EngineConfig(kind="chat", checkpoint=str(folder), dtype="float8"), lambda name, value: None)


# Spelling ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled_engine() -> ChatEngine:
    return _bundled_engine("auto")


def _bundled_engine(fold_traditional: OnOffAuto) -> ChatEngine:
    config = EngineConfig(
        kind="chat", checkpoint=str(bundled_checkpoint("chat")), max_jobs=4, fold_traditional=fold_traditional
    )
    return create_engine(config, lambda name, value: None)


def _answer(engine: ChatEngine, question: str, **fields: Any) -> list[int]:
    generation = ChatGeneration(max_new_tokens=8, num_beams=1)
    engine.admit(ChatJob(job_id="job", question=question, generation=generation, **fields))
    while True:
        for _, event in engine.step():
            assert isinstance(event, Generated) and isinstance(event.result, ChatResult)
            return [event.result.prompt_tokens, *event.result.token_ids]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "read"),
    [("WHAT IS THIS?", "What is this?"), ("what Is this?", "What is this?"), ("這是什麼？", "这是什么？")],
)
def test_the_bundled_checkpoint_reads_as_it_learnt(bundled_engine: ChatEngine, written: str, read: str) -> None:
    assert _answer(bundled_engine, written) == _answer(bundled_engine, read)
    histories = ([Turn(question=text, answer="A red apple.")] for text in (written, read))
    first, second = (_answer(bundled_engine, "And its category?", history=history) for history in histories)
    assert first == second
    assert _answer(bundled_engine, read) == _answer(bundled_engine, read, raw_text=True)
    assert _answer(bundled_engine, written, raw_text=True) != _answer(bundled_engine, read, raw_text=True)


@pytest.mark.slow
def test_folding_of_traditional_characters_can_be_turned_off(bundled_engine: ChatEngine) -> None:
    unfolded = _bundled_engine("off")
    assert _answer(unfolded, "這是什麼？") != _answer(bundled_engine, "這是什麼？")
    assert _answer(unfolded, "WHAT IS THIS?") == _answer(bundled_engine, "WHAT IS THIS?")


def test_other_checkpoints_read_questions_as_they_come(make_bench: Callable[..., Any]) -> None:
    answers = {make_bench().run(job(question=question)).answer for question in ("who", "WHO")}
    assert len(answers) == 2
