"""The chat engine on a tiny random model: answers, pictures, cancelling."""

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints.conversion import write_folder
from models.checkpoints.loading import LoadedChat
from models.checkpoints.published_names import published_name
from models.checkpoints.tensor_files import CheckpointError
from models.engines.chat.engine import ChatEngine, create_engine
from models.jobs import (
    ChatGeneration,
    ChatResult,
    EngineConfig,
    Generated,
    ImageEmbeddingsComputed,
    JobRejected,
    Turn,
)
from models.networks.cpm_bee.kv_cache import KVCache
from tests.models.engines.chat.jobs import BEAMS, EACH, GREEDY, MIXED, SAMPLED, SIDE_PX, job, picture, timeless

# Answers -------------------------------------------------------------------------------------------------------------


@EACH
def test_same_job_gives_the_same_answer(make_bench: Callable[..., Any], generation: ChatGeneration) -> None:
    first, second = (make_bench().run(job(generation=generation, seed=3)) for _ in range(2))
    assert timeless(first) == timeless(second)
    assert first.image_tokens == 4 and first.prompt_tokens > 20
    assert first.completion_tokens == len(first.token_ids) > 0


def test_seed_changes_a_sampled_answer_alone(make_bench: Callable[..., Any]) -> None:
    def answers(generation: ChatGeneration) -> set[str]:
        return {make_bench().run(job(generation=generation, seed=seed)).answer for seed in range(4)}

    assert len(answers(SAMPLED)) > 1
    assert len(answers(GREEDY)) == 1


def test_picture_changes_the_answer(make_bench: Callable[..., Any]) -> None:
    answers = {make_bench().run(job(pixels=pixels)).answer for pixels in (picture(1), picture(2), b"")}
    assert len(answers) == 3


@EACH
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_max_new_tokens_counts_the_final_eos(
    bench: Any, generation: ChatGeneration, limit: int, loaded: LoadedChat
) -> None:
    fields = {name: getattr(generation, name) for name in ("num_beams", "do_sample", "temperature")}
    result = bench.run(job(generation=ChatGeneration(max_new_tokens=limit, **fields)))
    has_eos = result.token_ids[-1] == loaded.tokenizer.eos_id
    assert len(result.token_ids) == limit or has_eos
    assert len(result.token_ids) <= limit
    assert result.finish_reason == ("stop" if has_eos else "length")
    assert loaded.tokenizer.eos_id not in result.token_ids[:-1]


def test_both_finish_reasons_occur(bench: Any) -> None:
    """Otherwise the test above would show nothing."""
    reasons = {bench.run(job(str(seed), generation=SAMPLED, seed=seed)).finish_reason for seed in range(12)}
    assert reasons == {"stop", "length"}


def test_answer_is_unescaped_for_display(bench: Any) -> None:
    results = [bench.run(job(str(seed), generation=SAMPLED, seed=seed)) for seed in range(8)]
    escaped = "".join(result.answer_escaped for result in results)
    assert "<<" in escaped and "日本" in escaped  # an unknown word of the question, used in the answer
    for result in results:
        assert result.answer == result.answer_escaped.replace("<<", "<")


def test_over_long_conversation_drops_its_oldest_turns(bench: Any) -> None:
    history = [Turn(question=f"q{letter}", answer=letter * 20) for letter in "abc"]
    generation = ChatGeneration(max_new_tokens=3, num_beams=1, max_input_tokens=100)
    result = bench.run(job(history=history, generation=generation))
    assert 0 < result.dropped_turns < 3
    assert result.prompt_tokens <= 98


# Streaming -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_deltas_add_up_to_the_answer(bench: Any, seed: int, loaded: LoadedChat) -> None:
    result = bench.run(job(generation=SAMPLED, seed=seed, stream=True))
    deltas = bench.deltas("a")
    assert "".join(delta.text for delta in deltas) == result.answer
    assert [len(delta.token_ids) for delta in deltas] == [1] * len(deltas)
    visible = [i for i in result.token_ids if i != loaded.tokenizer.eos_id]
    assert [i for delta in deltas for i in delta.token_ids] == visible
    offset = 0
    for delta in deltas:
        assert delta.offset_chars == offset
        offset += len(delta.text)


def test_a_token_is_streamed_by_the_step_that_chose_it(bench: Any) -> None:
    bench.admit(job(stream=True))
    assert bench.step() == []  # the prefill
    for number in range(3):
        assert [event.token_ids for _, event in bench.step()] == [[bench.deltas("a")[number].token_ids[0]]]


def test_beam_search_streams_its_answer_at_once(bench: Any) -> None:
    result = bench.run(job(generation=BEAMS, stream=True))
    (delta,) = bench.deltas("a")
    assert (delta.text, delta.offset_chars) == (result.answer, 0)


def test_without_stream_there_are_no_deltas(bench: Any) -> None:
    bench.run(job())
    assert bench.deltas("a") == []


# Jobs side by side ---------------------------------------------------------------------------------------------------


def test_interleaved_jobs_answer_as_alone(make_bench: Callable[..., Any]) -> None:
    together = make_bench()
    together.admit(*MIXED[:2])
    together.step()
    together.step()
    together.finish(*MIXED[2:])
    for single in MIXED:
        assert timeless(together.result(single.job_id)) == timeless(make_bench().run(single))


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
    assert bench.count("decode_step_s") - steps_s == BEAMS.max_new_tokens - 2  # of `stays` alone
    assert timeless(bench.result("stays")) == timeless(make_bench().run(job("stays", generation=BEAMS)))


def test_cancel_before_the_first_step(bench: Any) -> None:
    bench.engine.admit(job())
    bench.engine.cancel("a")
    assert bench.engine.step() == [] and bench.count("prefill_s") == 0


@pytest.mark.parametrize("ending", ["answer", "cancel", "failure", "again"])
def test_an_ended_job_leaves_no_cache_behind(bench: Any, ending: str) -> None:
    """Without the help of the cycle collector, which knows nothing of a device's memory."""
    gc.collect()
    gc.disable()
    try:
        bad = torch.full((4, 32), math.nan).numpy().tobytes()
        bench.admit(job(image_key="s", image_embeddings=bad if ending == "failure" else b""))
        bench.step()
        assert count_caches() == 1
        if ending == "cancel":
            bench.engine.cancel("a")
        elif ending == "again":
            bench.admit(job())
        else:
            bench.finish()
        assert count_caches() == 0
    finally:
        gc.enable()


def count_caches() -> int:
    return sum(type(thing) is KVCache for thing in gc.get_objects())


# Image embeddings ----------------------------------------------------------------------------------------------------


def test_state_is_computed_once_and_held(bench: Any) -> None:
    first = job("first", image_key="t:p1")
    key = bench.engine.image_key(first)
    assert key == "f1:float32:t:p1"
    result = bench.run(first)
    computed = [event for _, event in bench.events if isinstance(event, ImageEmbeddingsComputed)]
    assert [event.key for event in computed] == [key] and len(computed[0].data) == 4 * 32 * 4
    assert not result.vision_cached
    assert bench.engine.image_key(first) is None

    again = bench.run(job("again", image_key="t:p1"))
    assert again.vision_cached and again.answer == result.answer
    counts = {name: bench.count(name) for name in ("vision_tower_s", "vision_cache_query", "vision_cache_hit")}
    assert counts == {"vision_tower_s": 1, "vision_cache_query": 2, "vision_cache_hit": 1}


def test_supplied_state_spares_the_tower(make_bench: Callable[..., Any]) -> None:
    source, other = make_bench(), make_bench()
    expected = source.run(job(image_key="p"))
    data = next(event.data for _, event in source.events if isinstance(event, ImageEmbeddingsComputed))
    result = other.run(job(image_key="p", image_embeddings=data))
    assert result.vision_cached and timeless(result) == timeless(expected)
    assert (other.count("vision_tower_s"), other.count("vision_cache_hit")) == (0, 1)
    without_pixels = make_bench().run(job(image_key="p", image_embeddings=data, pixels=b"", image_size_px=0))
    assert timeless(without_pixels) == timeless(expected)


def test_supplied_state_of_a_wrong_size_is_computed_anew(bench: Any) -> None:
    result = bench.run(job(image_key="p", image_embeddings=b"\0" * 100))
    assert not result.vision_cached
    assert (bench.count("vision_tower_s"), bench.count("vision_cache_hit")) == (1, 0)
    bench.finish(job("b", image_key="q", image_embeddings=b"\0" * 100, pixels=b""))
    assert bench.failure("b").code == "invalid_request"


def test_job_without_a_picture_asks_for_no_state(bench: Any) -> None:
    text_only = job(pixels=b"", image_size_px=0, image_key="p")
    assert bench.engine.image_key(text_only) is None
    assert bench.run(text_only).image_tokens == 0
    assert bench.count("vision_cache_query") == 0


def test_observed_quantities(bench: Any) -> None:
    result = bench.run(job(image_key="p"))
    assert bench.observed["prompt_tokens"] == [result.prompt_tokens]
    assert bench.observed["generation_tokens"] == [result.completion_tokens]
    assert bench.count("prefill_s") == 1
    assert bench.count("decode_step_s") == result.completion_tokens
    assert sum(bench.observed["decode_step_s"]) == pytest.approx(result.decode_s)


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
    write_folder(target, "chat", loaded.config, tensors, untrained=True)
    return target


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


def test_create_engine_refuses_what_it_cannot_load(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        create_engine(EngineConfig(kind="chat", checkpoint=str(tmp_path / "none")), lambda name, value: None)
    with pytest.raises(ValueError, match="float8"):
        create_engine(EngineConfig(kind="chat", checkpoint=str(folder), dtype="float8"), lambda name, value: None)
