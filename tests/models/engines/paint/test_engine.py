"""The paint engine on a tiny random checkpoint: what its jobs yield, and that none disturbs another."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import load_paint
from models.engines.paint import painter as painter_module
from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.engine import PaintEngine, create_engine
from models.jobs import ChatJob, EngineConfig, JobRejected, Progress, SamplerName
from tests.models.engines.paint.jobs import assert_nearly_equal, finish, job, paint, pixels, result_of


@pytest.mark.slow
def test_description(engine: PaintEngine, bare_engine: PaintEngine, paint_folder: Path) -> None:
    description = engine.description
    assert (description.kind, description.name, description.untrained) == ("paint", "paint", True)
    assert (description.picture_size_px, description.picture_multiple_px) == (256, 32)
    assert description.rerankers == {"zh": "tiny-chinese-clip"} and bare_engine.description.rerankers == {}
    assert description.fingerprint == bare_engine.description.fingerprint
    model = load_paint(paint_folder).model
    assert description.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_a_job_tells_every_step_and_ends_with_its_candidates(engine: PaintEngine) -> None:
    events = paint(engine, candidates=2, height_px=64, width_px=96)

    assert events[:-1] == [Progress(step=step, total_steps=4) for step in (1, 2, 3, 4)]
    result = result_of(events)
    assert [(c.seed, c.score) for c in result.candidates] == [(100, None), (101, None)]
    assert [pixels(c.png).shape for c in result.candidates] == [(64, 96, 3)] * 2
    assert result.candidates[0].png != result.candidates[1].png
    assert (result.height_px, result.width_px, result.reranker) == (64, 96, "")
    assert result.denoise_s > 0 and result.decode_s > 0


@pytest.mark.slow
def test_a_step_is_a_bounded_slice_of_work(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    work: Counter[str] = Counter()
    for owner, name in (
        (painter_module.Painter, "encode"),
        (DenoisingBatch, "step"),
        (painter_module.Painter, "decode"),
    ):
        monkeypatch.setattr(owner, name, _counted(work, getattr(owner, name)))
    for job_id in ("a", "b"):
        engine.admit(job(job_id, candidates=3))
    while engine.capacity < engine.max_jobs:
        before = work.copy()
        engine.step()
        done = work - before
        assert done["step"] <= 1 and done["decode"] <= 1
    assert (work["encode"], work["decode"] >= 2) == (2, True)
    assert 4 <= work["step"] <= 5, "both jobs take their steps together"


def _counted(work: Counter[str], function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        work[function.__name__] += 1
        return function(*args, **kwargs)

    return call


@pytest.mark.slow
def test_observed_values(engine: PaintEngine, observed: list[tuple[str, float]]) -> None:
    assert not any(name == "pictures" and value == 0 for name, value in observed)
    observed.clear()
    result = result_of(paint(engine, candidates=2, rerank="on"))
    assert Counter(name for name, _ in observed) == {
        "prompt_tokens": 1,
        "text_encode_s": 1,
        "denoise_step_s": 4,
        "vae_decode_s": 2,
        "rerank_s": 1,
        "pictures": 1,
    }
    values = dict(observed)
    assert (values["prompt_tokens"], values["pictures"]) == (result.prompt_tokens, 2)
    assert result.denoise_s == pytest.approx(sum(v for name, v in observed if name == "denoise_step_s"))


@pytest.mark.slow
def test_prompt_tokens_are_those_of_the_prompt_alone(engine: PaintEngine) -> None:
    with_negative = result_of(paint(engine, negative_prompt="a much longer negative prompt than the prompt"))
    assert with_negative.prompt_tokens == result_of(paint(engine)).prompt_tokens
    assert with_negative.candidates[0].png != result_of(paint(engine)).candidates[0].png


@pytest.mark.slow
def test_the_same_job_gives_the_same_bytes(engine: PaintEngine) -> None:
    first, second = (result_of(paint(engine, candidates=2)) for _ in range(2))
    for one, other in zip(first.candidates, second.candidates, strict=True):
        assert_nearly_equal(one.png, other.png)
    assert result_of(paint(engine, seed=7)).candidates[0].png != first.candidates[0].png


@pytest.mark.slow
def test_interleaved_jobs_equal_each_alone(engine: PaintEngine) -> None:
    jobs = {
        "a": job("a", candidates=2),
        "b": job("b", prompt="猫", seed=5, num_inference_steps=6, guidance_scale=3.0),
        "c": job("c", seed=5, height_px=96),
    }
    alone = {}
    for each in jobs.values():
        engine.admit(each)
        alone |= finish(engine)

    engine.admit(jobs["a"])
    engine.step()
    engine.admit(jobs["b"])
    engine.step()
    engine.admit(jobs["c"])
    assert engine.capacity == 0
    together = finish(engine)

    for job_id in jobs:
        expected, got = result_of(alone[job_id]), result_of(together[job_id])
        for one, other in zip(got.candidates, expected.candidates, strict=True):
            assert_nearly_equal(one.png, other.png)
        assert [c.seed for c in got.candidates] == [c.seed for c in expected.candidates]


@pytest.mark.slow
def test_cancel_stops_within_a_step_and_leaves_others_alone(engine: PaintEngine) -> None:
    expected = result_of(paint(engine, seed=9))
    engine.admit(job("doomed", num_inference_steps=50))
    engine.admit(job("job", seed=9))
    for _ in range(3):
        engine.step()
    engine.cancel("doomed")
    assert engine.capacity == engine.max_jobs - 1
    events = finish(engine)
    assert "doomed" not in events
    assert_nearly_equal(result_of(events["job"]).candidates[0].png, expected.candidates[0].png)
    engine.cancel("doomed")
    engine.cancel("never admitted")
    assert engine.step() == []


@pytest.mark.slow
def test_previews_come_with_their_steps(engine: PaintEngine) -> None:
    plain = result_of(paint(engine, num_inference_steps=8))
    events = paint(engine, num_inference_steps=8, previews=3)
    shown = {event.step: event.preview_png for event in events if isinstance(event, Progress) and event.preview_png}
    assert set(shown) == {2, 4, 6}
    final = pixels(result_of(events).candidates[0].png)
    distances = [np.abs(pixels(png) - final).mean() for png in shown.values()]
    assert all(pixels(png).shape == (64, 64, 3) for png in shown.values())
    assert distances[-1] < distances[0], "later previews must come closer to the picture"
    assert_nearly_equal(result_of(events).candidates[0].png, plain.candidates[0].png)


@pytest.mark.parametrize(("height_px", "width_px"), [(64, 80), (100, 64), (0, 64), (64, -32), (16, 16)])
def test_sizes_are_multiples_of_what_the_networks_halve(engine: PaintEngine, height_px: int, width_px: int) -> None:
    wrong = height_px if height_px != 64 else width_px
    with pytest.raises(JobRejected, match=f"is {wrong} px, allowed are multiples of 32 px") as caught:
        engine.admit(job(height_px=height_px, width_px=width_px))
    assert caught.value.code == "invalid_size"
    assert engine.capacity == engine.max_jobs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps is 0, allowed are 1 to 1000"),
        ({"num_inference_steps": 1001}, "allowed are 1 to 1000"),
        ({"candidates": 0}, "candidates is 0, at least 1"),
        ({"prompt": "a<b", "raw_text": True}, "prompt"),
    ],
)
def test_jobs_that_cannot_be_done_are_rejected(engine: PaintEngine, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(JobRejected, match=message) as caught:
        engine.admit(job(**fields))
    assert caught.value.code == "invalid_request"
    assert engine.capacity == engine.max_jobs


@pytest.mark.slow
def test_jobs_of_another_kind_and_too_many_are_rejected(bare_engine: PaintEngine) -> None:
    with pytest.raises(JobRejected, match="ChatJob"):
        bare_engine.admit(ChatJob(job_id="chat", question="?"))
    bare_engine.admit(job("first"))
    with pytest.raises(JobRejected, match="1 job"):
        bare_engine.admit(job("second"))
    bare_engine.cancel("first")


@pytest.mark.slow
def test_markup_in_a_prompt_is_plain_text_unless_raw(engine: PaintEngine) -> None:
    assert len(result_of(paint(engine, prompt="a<b <unk> >")).candidates) == 1


@pytest.mark.slow
def test_candidates_come_best_first_when_reranked(engine: PaintEngine) -> None:
    seeds_in_order = result_of(paint(engine, candidates=4))
    result = result_of(paint(engine, candidates=4, rerank="auto"))

    scores = [c.score for c in result.candidates]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4
    assert result.reranker == "tiny-chinese-clip"
    by_seed = {c.seed: c for c in result.candidates}
    assert [c.seed for c in seeds_in_order.candidates] == [100, 101, 102, 103] != [c.seed for c in result.candidates]
    for unranked in seeds_in_order.candidates:
        assert_nearly_equal(by_seed[unranked.seed].png, unranked.png)
    reranker = engine.painter.rerankers["zh"]
    for candidate in result.candidates:
        (score,) = reranker.scores("a red house", [Image.fromarray(pixels(candidate.png).astype(np.uint8))])
        assert candidate.score == pytest.approx(score, abs=1e-3)


@pytest.mark.slow
def test_reranking_modes(engine: PaintEngine, bare_engine: PaintEngine) -> None:
    assert result_of(paint(engine, rerank="auto")).candidates[0].score is None, "one candidate leaves no choice"
    assert result_of(paint(engine, rerank="on")).candidates[0].score is not None
    assert result_of(paint(engine, rerank="off", candidates=2)).reranker == ""
    without = result_of(paint(bare_engine, rerank="auto", candidates=2))
    assert (without.reranker, without.candidates[0].score) == ("", None)
    with pytest.raises(JobRejected, match="no reranker for prompts in 'zh', only for: none") as caught:
        bare_engine.admit(job(rerank="on"))
    assert caught.value.code == "reranker_not_configured"


@pytest.mark.slow
def test_a_reranker_judges_prompts_in_its_language_alone(engine: PaintEngine) -> None:
    english = result_of(paint(engine, rerank="auto", candidates=2, language="en"))
    assert (english.reranker, english.candidates[0].score) == ("", None)
    with pytest.raises(JobRejected, match="no reranker for prompts in 'en', only for: zh"):
        engine.admit(job(rerank="on", language="en"))


@pytest.mark.slow
def test_samplers_are_chosen_by_request_and_run_side_by_side(engine: PaintEngine) -> None:
    alone = {}
    samplers: list[SamplerName] = ["ddpm", "dpm++", "euler"]
    for sampler in samplers:
        alone[sampler] = result_of(paint(engine, sampler=sampler, num_inference_steps=8)).candidates[0].png
    assert np.abs(pixels(alone["ddpm"]) - pixels(alone["dpm++"])).max() > 1
    for sampler in samplers:
        engine.admit(job(sampler, sampler=sampler, num_inference_steps=8))
    for sampler, events in finish(engine).items():
        assert_nearly_equal(result_of(events).candidates[0].png, alone[sampler])


def test_nothing_admitted_gives_nothing(engine: PaintEngine) -> None:
    assert engine.step() == []
    assert engine.image_key(job()) is None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_paints_nearly_the_same(engine: PaintEngine, paint_folder: Path, dtype: str) -> None:
    half = create_engine(
        EngineConfig(kind="paint", checkpoint=str(paint_folder), dtype=dtype), lambda name, value: None
    )
    assert half.description.dtype == dtype
    assert half.painter.vae.dtype == torch.float32
    expected, got = (pixels(result_of(paint(each)).candidates[0].png) for each in (engine, half))
    assert 0 < np.abs(expected - got).mean() < {"float16": 1, "bfloat16": 8}[dtype]


@pytest.mark.slow
def test_newer_timesteps_can_be_asked_for(engine: PaintEngine, paint_folder: Path) -> None:
    newer = create_engine(
        EngineConfig(kind="paint", checkpoint=str(paint_folder), steps_offset=1), lambda name, value: None
    )
    assert result_of(paint(newer)).candidates[0].png != result_of(paint(engine)).candidates[0].png
    with pytest.raises(JobRejected, match="allowed are 1 to 999"):
        newer.admit(job(num_inference_steps=1000))


@pytest.mark.slow
def test_a_missing_reranker_stops_the_start(paint_folder: Path, tmp_path: Path) -> None:
    config = EngineConfig(kind="paint", checkpoint=str(paint_folder), rerankers={"zh": str(tmp_path / "none")})
    with pytest.raises(FileNotFoundError, match="none"):
        create_engine(config, lambda name, value: None)


@pytest.mark.slow
def test_unknown_words_are_told_and_nothing_but_them_is_rejected(engine: PaintEngine) -> None:
    assert result_of(paint(engine)).unknown_words == []
    assert result_of(paint(engine, prompt="a 🍎", negative_prompt="🍐 🍎")).unknown_words == ["🍎", "🍐"]
    for prompt in ("🍎", "\u200b", " "):
        with pytest.raises(JobRejected, match="a token for none of it") as caught:
            engine.admit(job(prompt=prompt))
        assert caught.value.code == "unknown_words"
    assert engine.capacity == engine.max_jobs


@pytest.fixture(scope="module")
def bundled_engine() -> PaintEngine:
    config = EngineConfig(kind="paint", checkpoint=str(bundled_checkpoint("paint")))
    return create_engine(config, lambda name, value: None)


def _png(engine: PaintEngine, prompt: str, **fields: Any) -> bytes:
    return result_of(paint(engine, prompt=prompt, **fields)).candidates[0].png


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Red Apple", "red apple"),
        ("RED APPLE", "red apple"),
        ("紅蘋果", "红苹果"),
        ("STATUE OF LIBERTY", "Statue of Liberty"),
    ],
)
def test_the_bundled_checkpoint_reads_as_it_learnt(bundled_engine: PaintEngine, written: str, read: str) -> None:
    assert _png(bundled_engine, written) == _png(bundled_engine, read)
    assert _png(bundled_engine, "cat", negative_prompt=written) == _png(bundled_engine, "cat", negative_prompt=read)
    assert _png(bundled_engine, written, raw_text=True) != _png(bundled_engine, read, raw_text=True)
    assert _png(bundled_engine, read, raw_text=True) == _png(bundled_engine, read)


@pytest.mark.slow
def test_folding_of_traditional_characters_can_be_turned_off(bundled_engine: PaintEngine) -> None:
    config = EngineConfig(kind="paint", checkpoint=str(bundled_checkpoint("paint")), fold_traditional="off")
    unfolded = create_engine(config, lambda name, value: None)
    assert result_of(paint(unfolded, prompt="紅蘋果")).unknown_words == ["紅蘋"]
    assert _png(unfolded, "紅蘋果") != _png(bundled_engine, "紅蘋果")
    assert _png(unfolded, "Red Apple") == _png(bundled_engine, "Red Apple")


@pytest.mark.slow
def test_other_checkpoints_read_prompts_as_they_come(engine: PaintEngine) -> None:
    assert _png(engine, "A red house") != _png(engine, "a red house")
