"""One job on its way to an answer: slices, text as it comes, the picture's embeddings, a second try."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat.image_embeddings import ImageEmbeddingCache
from models.engines.chat.task import ChatRuntime, ChatTask
from models.jobs import (
    ChatGeneration,
    ChatResult,
    Delta,
    EngineEvent,
    Generated,
    ImageEmbeddingsComputed,
    JobRejected,
    Turn,
)
from tests.models.engines.chat.jobs import BEAMS, EACH, SAMPLED, job, timeless

# Slices --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(loaded: LoadedChat) -> ChatRuntime:
    return ChatRuntime(
        loaded.model, loaded.tokenizer, ImageEmbeddingCache(2**20), "f1:float32", lambda name, value: None
    )


def advance(task: ChatTask) -> list[EngineEvent]:
    with torch.inference_mode():
        return task.advance()


def finish(task: ChatTask) -> tuple[int, ChatResult, list[EngineEvent]]:
    """Number of slices, the result, and all other events."""
    events: list[EngineEvent] = []
    for count in range(1, 100):
        events += advance(task)
        if events and isinstance(events[-1], Generated):
            assert isinstance(events[-1].result, ChatResult)
            return count, events[-1].result, events[:-1]
    raise AssertionError("never ended")


def test_a_slice_is_the_prefill_or_one_token(runtime: ChatRuntime) -> None:
    count, result, others = finish(ChatTask(job(), runtime))
    assert count == 1 + result.completion_tokens
    assert others == [], "a job that names no picture and does not stream has nothing to tell before its end"


def test_restarting_begins_again_and_sends_no_text_twice(runtime: ChatRuntime) -> None:
    _, expected, _ = finish(ChatTask(job(), runtime))
    task = ChatTask(job(stream=True), runtime)
    sent = [event for _ in range(4) for event in advance(task)]
    assert len(sent) == 3 and not task.is_retry
    task.restart()
    assert task.is_retry
    count, result, others = finish(task)
    assert timeless(result) == timeless(expected) and count == 1 + result.completion_tokens
    deltas = [event for event in [*sent, *others] if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == expected.answer
    assert [delta.offset_chars for delta in deltas] == sorted({delta.offset_chars for delta in deltas})


def test_a_closed_task_goes_no_further(runtime: ChatRuntime) -> None:
    task = ChatTask(job(), runtime)
    advance(task)
    task.close()
    with pytest.raises(StopIteration):
        advance(task)


def test_what_cannot_be_read_is_rejected_before_any_slice(runtime: ChatRuntime) -> None:
    with pytest.raises(JobRejected, match="never ends"):
        ChatTask(job(raw_text=True, question="is a<b"), runtime)


def test_embeddings_that_were_there_at_the_start_are_held_until_they_are_used(runtime: ChatRuntime) -> None:
    """The job then has neither pixels nor embeddings of its own, and others' pictures may crowd its own out."""
    _, expected, _ = finish(ChatTask(job(image_key="p"), runtime))
    task = ChatTask(job(image_key="p", pixels=b"", image_size_px=32), runtime)
    for number in range(3000):
        runtime.image_embeddings.put(f"other{number}", torch.zeros(4, 32))
    assert runtime.image_embeddings.get(runtime.image_key(job(image_key="p"))) is None
    _, result, _ = finish(task)
    assert result.vision_cached and timeless(result) == timeless(expected)


def test_a_picture_that_the_tower_makes_nothing_finite_of_is_never_cached(loaded: LoadedChat) -> None:
    class Broken(torch.nn.Module):
        def forward(self, pixels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
            return torch.full((len(pixels), 4, 32), torch.nan)

    tower = loaded.model.vision_encoder
    cache = ImageEmbeddingCache(2**20)
    broken = ChatRuntime(loaded.model, loaded.tokenizer, cache, "f1", lambda name, value: None)
    try:
        loaded.model.vision_encoder = Broken()  # type: ignore[assignment]
        with pytest.raises(JobRejected, match="NaN or infinite") as raised:
            advance(ChatTask(job(image_key="p"), broken))
    finally:
        loaded.model.vision_encoder = tower
    assert raised.value.code == "generation_failed"
    assert cache.get("f1:p") is None


# Ends ----------------------------------------------------------------------------------------------------------------


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


# Text as it comes ----------------------------------------------------------------------------------------------------


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
