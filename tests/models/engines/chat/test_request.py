"""One job on its way to an answer: slices, text as it comes, the picture's embeddings, a second try."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.jobs import (
    ChatGeneration,
    Delta,
    ImageEmbeddingsComputed,
    JobRejected,
    Turn,
)
from tests.models.engines.chat.jobs import EACH, SAMPLED, job, timeless

# From its picture to its tokens ---------------------------------------------------------------------------------------


def test_the_first_step_reads_the_prompt_and_chooses_a_token(bench: Any) -> None:
    bench.admit(job(stream=True, image_key="p"))
    steps = 0
    while bench.open:
        events = bench.step()
        steps += 1
        assert len([event for _, event in events if isinstance(event, Delta)]) <= 1
    assert steps == bench.result("a").completion_tokens


def test_what_cannot_be_read_is_rejected_before_any_slice(bench: Any) -> None:
    with pytest.raises(JobRejected, match="never ends"):
        bench.engine.admit(job(raw_text=True, question="is a<b"))
    assert bench.engine.load.waiting == 0


@pytest.mark.slow
def test_a_preempted_request_begins_again_and_sends_no_text_twice(bench: Any) -> None:
    expected = bench.run(job("alone"))
    bench.admit(job(stream=True, image_key="p"))
    for _ in range(4):
        bench.step()
    scheduler = bench.engine._scheduler
    scheduler.preempt(scheduler.running[0])
    assert bench.engine.load.preempted == 1 and bench.engine.load.kv_blocks_used == 0
    bench.finish()
    result = bench.result("a")
    assert timeless(result) == timeless(expected)
    assert "".join(delta.text for delta in bench.deltas("a")) == expected.answer
    offsets = [delta.offset_chars for delta in bench.deltas("a")]
    assert offsets == sorted(set(offsets))
    assert bench.count("vision_tower_s") == 2, "one for each job: the picture is not looked at again"
    computed = [event for _, event in bench.events if isinstance(event, ImageEmbeddingsComputed)]
    assert len(computed) == 1 and not result.vision_cached


def test_embeddings_that_were_there_at_the_start_are_held_until_they_are_used(bench: Any) -> None:
    """The job then has neither pixels nor embeddings of its own, and others' pictures may crowd its own out."""
    expected = bench.run(job("first", image_key="p"))
    bench.admit(job(image_key="p", pixels=b"", image_size_px=32))
    bench.engine._image_embeddings.clear()
    bench.finish()
    assert bench.result("a").vision_cached and timeless(bench.result("a")) == timeless(expected)


def test_a_picture_that_the_tower_makes_nothing_finite_of_is_never_cached(bench: Any, loaded: LoadedChat) -> None:
    tower = loaded.model.vision_encoder.query_norm.weight
    sane = tower.detach().clone()
    try:
        tower.data.fill_(torch.nan)
        bench.finish(job(image_key="p"))
    finally:
        tower.data.copy_(sane)
    assert bench.failure("a").code == "generation_failed" and "NaN or infinite" in bench.failure("a").message
    assert bench.engine.image_key(job(image_key="p")) == "f1:float32:p", "it is held by nobody"


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


@pytest.mark.slow
def test_both_finish_reasons_occur(bench: Any) -> None:
    """Otherwise the test above would show nothing."""
    reasons = {bench.run(job(str(seed), generation=SAMPLED, seed=seed)).finish_reason for seed in range(12)}
    assert reasons == {"stop", "length"}


@pytest.mark.slow
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


# Stops ---------------------------------------------------------------------------------------------------------------


def before_stop(text: str, stops: list[str]) -> str:
    """What is left of a whole answer that is cut where the first stop is complete."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(ends)[1]] if ends else text


@EACH
@pytest.mark.parametrize("seed", range(5))
def test_an_answer_ends_at_a_stop_and_its_text_is_that_of_the_whole_one(
    bench: Any, generation: ChatGeneration, seed: int
) -> None:
    chance, fields = random.Random(seed), {"generation": generation, "seed": seed, "question": f"图 {seed}"}
    whole = bench.run(job("whole", **fields))
    steps = bench.count("decode_step_s")
    middle = chance.randrange(1, max(2, len(whole.answer) // 2))
    stops = [whole.answer[middle : middle + chance.randint(1, 3)], "日本语是没有的"]
    stopped = bench.run(job("stopped", stops=stops, stream=seed % 2 == 1, **fields))
    steps_stopped = bench.count("decode_step_s") - steps

    assert before_stop(stopped.answer, stops) == before_stop(whole.answer, stops) != whole.answer
    assert whole.answer.startswith(stopped.answer) and stopped.finish_reason in ("stop", whole.finish_reason)
    assert stopped.completion_tokens == len(stopped.token_ids) <= steps_stopped <= steps
    assert stopped.token_ids == whole.token_ids[: stopped.completion_tokens]
    if generation.num_beams == 1 or generation.do_sample:
        assert steps_stopped == stopped.completion_tokens < steps == whole.completion_tokens
        assert not any(stop in bench.text_of(stopped.token_ids[:-1]) for stop in stops), "not one token more"
    if seed % 2:
        assert "".join(delta.text for delta in bench.deltas("stopped")) == stopped.answer
    assert bench.engine.load.running == bench.engine.load.kv_blocks_used == 0


@pytest.mark.slow
def test_a_beam_search_ends_early_where_all_that_is_possible_has_the_stop(bench: Any) -> None:
    generation, spared = ChatGeneration(max_new_tokens=40), 0
    for number in range(6):
        fields = {"generation": generation, "question": f"Why{number}?"}
        before = bench.count("decode_step_s")
        whole = bench.run(job(f"whole{number}", **fields))
        between = bench.count("decode_step_s")
        stops = [whole.answer[1:2]]
        stopped = bench.run(job(f"stopped{number}", stops=stops, **fields))
        assert before_stop(stopped.answer, stops) == before_stop(whole.answer, stops)
        spared += (between - before) - (bench.count("decode_step_s") - between)
    assert spared > 40


@pytest.mark.slow
def test_a_preempted_request_stops_where_it_would_have_stopped(bench: Any) -> None:
    whole = bench.run(job("whole"))
    stops = [whole.answer[len(whole.answer) // 2 :][:2]]
    expected = bench.run(job("expected", stops=stops))
    bench.admit(job(stops=stops, stream=True))
    for _ in range(3):
        bench.step()
    scheduler = bench.engine._scheduler
    scheduler.preempt(scheduler.running[0])
    bench.finish()
    assert timeless(bench.result("a")) == timeless(expected)
    assert "".join(delta.text for delta in bench.deltas("a")) == expected.answer


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
    for number in range(3):
        assert [event.token_ids for _, event in bench.step()] == [[bench.deltas("a")[number].token_ids[0]]]


def test_without_stream_there_are_no_deltas(bench: Any) -> None:
    bench.run(job())
    assert bench.deltas("a") == []


# Image embeddings ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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
