"""Two engines that have one device in turn: what they answer, who waits, and when the device is let go."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.engines.turns.engine import TurnTakingEngine
from models.jobs import Engine, Failed, Progress
from tests.models.engines.turns.sides import JOBS, KV_BYTES, Side, check_same

MakeSide = Callable[..., Side]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody computes meanwhile: both engines are in this thread."""
    monkeypatch.setattr("models.engines.turns.engine.POLL_S", 0.0)


def admit_all(*sides: Side) -> None:
    for side in sides:
        for job in JOBS[side.engine.description.kind]:
            side.engine.admit(job)


def finish(*sides: Side, most_steps: int = 3000) -> None:
    for _ in range(most_steps):
        busy = [side for side in sides if len(side.endings) < 4]
        if not busy:
            return
        for side in sides:
            if side in busy:
                side.step()
            else:
                side.engine.rest()
    raise AssertionError([side.endings for side in sides])


def load_both(make_side: MakeSide, **settings: Any) -> tuple[Side, Side]:
    """Each in its turn; neither has the device now."""
    sides = []
    for kind in ("chat", "paint"):
        sides.append(make_side(kind, **settings))
        let_go(sides[-1])
    return sides[0], sides[1]


def let_go(side: Side) -> None:
    """The device, although nobody wants it."""
    side.engine._leave()


@pytest.mark.slow
def test_answers_are_those_of_lone_engines_however_often_turns_change(
    make_side: MakeSide, alone: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A turn is one step here, and the device has room for the larger one alone."""
    sizes = [side.engine.weights_bytes for side in load_both(make_side)]
    sides = load_both(make_side, turn_s=1e-9, device_bytes=max(sizes[0] + KV_BYTES, sizes[1]) + 100_000)
    with caplog.at_level(logging.WARNING):
        admit_all(*sides)
        finish(*sides)
    check_same({**sides[0].answers(), **sides[1].answers()}, alone)
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []
    for side in sides:
        waits = side.values("device_wait_s")
        assert len(waits) > 10 and len(side.values("device_transfer_s")) == len(waits) - 1, "the first was to load"
        held = side.values("device_held")
        assert held[:3] == [0, 1, 0] and held.count(1) == len(waits)
        assert set(side.values("device_waiting")) == {0, 1}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA: needs a GPU")
def test_on_a_gpu_it_is_the_same(make_side: MakeSide, alone_on_gpu: dict[str, Any]) -> None:
    sides = load_both(make_side, device="cuda", turn_s=1e-9)
    assert all(
        one.device.type == "cuda"
        for side in sides
        for module in side.engine._engine.modules()
        for one in module.parameters()
    )
    admit_all(*sides)
    finish(*sides)
    answers = {**sides[0].answers(), **sides[1].answers()}
    assert answers.keys() == alone_on_gpu.keys()
    assert all(answers[job_id] == alone_on_gpu[job_id] for job_id in answers if job_id.startswith("chat"))
    assert len(sides[1].values("device_transfer_s")) > 10


@pytest.mark.slow
def test_both_at_once_would_not_fit(make_side: MakeSide) -> None:
    """So the test above fails where one does not leave."""
    chat = make_side("chat")
    let_go(chat)
    paint = make_side("paint", device_bytes=chat.engine.weights_bytes + 1)
    let_go(paint)
    chat.engine.admit(JOBS["chat"][0])
    chat.step()
    with pytest.raises(MemoryError, match="do not fit on the device"):
        paint.engine._account(2 * chat.engine.weights_bytes)


@pytest.mark.slow
def test_a_turn_lasts_as_long_as_nobody_waits(make_side: MakeSide) -> None:
    chat, paint = load_both(make_side, turn_s=1e-9)
    admit_all(chat)
    for _ in range(5):
        chat.step()
    turns = len(chat.values("device_wait_s"))
    admit_all(paint)
    assert paint.step() == [] and chat.engine._turn.queue.is_held, "it waits"
    chat.step()
    assert not chat.engine._turn.queue.is_held and len(chat.values("device_wait_s")) == turns
    while not paint.step():
        assert chat.step() == []
    assert len(paint.values("device_transfer_s")) == 1


@pytest.mark.slow
def test_a_turn_is_not_cut_short(make_side: MakeSide) -> None:
    chat, paint = load_both(make_side, turn_s=3600)
    admit_all(chat)
    chat.step()
    admit_all(paint)
    while len(chat.endings) < 4:
        chat.step()
        assert paint.step() == []
    assert chat.engine.rest() is None, "it is idle and the other one waits: at once"
    assert paint.step() != []


@pytest.mark.slow
def test_an_idle_one_keeps_the_device_for_a_while(make_side: MakeSide) -> None:
    chat = make_side("chat", idle_unload_s=0.3)
    admit_all(chat)
    finish(chat)
    ended_s = time.monotonic()
    waits = []
    while (wait_s := chat.engine.rest()) is not None:
        waits.append(wait_s)
        time.sleep(wait_s)
    assert 0.3 <= time.monotonic() - ended_s < 2 and max(waits) <= 0.05
    assert chat.engine._residency.bytes_here(chat.engine._engine.in_use()) == 0
    chat.endings.clear()
    admit_all(chat)
    finish(chat)
    assert len(chat.values("device_transfer_s")) == 1


@pytest.mark.slow
def test_what_is_cancelled_while_it_waits_is_gone_at_once(make_side: MakeSide) -> None:
    chat, paint = load_both(make_side, turn_s=3600)
    admit_all(paint)
    paint.step()
    admit_all(chat)
    capacity = chat.engine.capacity
    for job in JOBS["chat"]:
        assert chat.step() == []
        started_s = time.monotonic()
        chat.engine.cancel(job.job_id)
        assert time.monotonic() - started_s < 0.1
    assert chat.engine.capacity > capacity and chat.engine.load.waiting == 0
    assert not paint.engine._turn.queue.is_wanted(), "it has left the line"
    finish(paint)


@pytest.mark.slow
def test_what_is_cancelled_away_from_the_device_changes_no_other_answer(
    make_side: MakeSide, alone: dict[str, Any]
) -> None:
    sides = load_both(make_side, turn_s=1e-9)
    admit_all(*sides)
    for _ in range(12):
        for side in sides:
            side.step()
    for side in sides:
        if side.engine._turn.queue.is_held:
            let_go(side)
        kind = side.engine.description.kind
        assert f"{kind}3" not in side.endings
        side.engine.cancel(f"{kind}3")
        side.endings[f"{kind}3"] = Progress(step=0, total_steps=0)  # not to be waited for
    finish(*sides)
    for side in sides:
        del side.endings[f"{side.engine.description.kind}3"]
        check_same(side.answers(), {job_id: alone[job_id] for job_id in side.endings})


@pytest.mark.slow
def test_a_prompt_that_is_being_read_is_read_to_its_end_before_the_device_goes(
    make_side: MakeSide, alone: dict[str, Any]
) -> None:
    chat, paint = load_both(make_side, turn_s=3600)
    chat.engine.admit(JOBS["chat"][0])
    chat.step()
    inner = chat.engine._engine
    inner._step_s = 0.0  # a slice of the next prompt takes longer than a step is said to
    chat.engine.admit(JOBS["chat"][3])
    while not inner._reader.group:
        chat.step()
    let_go(chat)
    assert not inner._reader.group
    while len(chat.endings) < 2:
        chat.step()
    assert chat.answers() == {job_id: alone[job_id] for job_id in ("chat0", "chat3")}


@pytest.mark.slow
def test_a_failed_arrival_lets_the_device_go(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again for a while, for a killed worker's memory may come back after its lock."""
    monkeypatch.setattr("models.engines.turns.engine.FREEING_S", 0.5)
    chat, paint = load_both(make_side)
    chat.engine._turn.placement.total_bytes = 1000
    admit_all(chat)
    with pytest.raises(MemoryError, match="do not fit"):
        chat.step()
    assert "the device is not free yet" in caplog.text
    assert not chat.engine._turn.queue.is_held and not chat.engine._residency.is_here
    admit_all(paint)
    finish(paint)
    chat.engine._turn.placement.total_bytes = 1 << 40
    finish(chat, paint)


@pytest.mark.slow
def test_it_is_an_engine_like_the_one_within(make_side: MakeSide) -> None:
    chat = make_side("chat")
    engine: Engine = chat.engine
    assert isinstance(engine, TurnTakingEngine)
    assert engine.description.kind == "chat" and engine.capacity == 4
    assert engine.step() == []
    assert engine.image_key(JOBS["chat"][0]).endswith(":picture0")  # type: ignore[union-attr]
    admit_all(chat)
    finish(chat)
    assert not any(isinstance(event, Failed) for event in chat.endings.values())
    assert engine.image_key(JOBS["chat"][0]) is None, "it holds it"
    assert engine.load.kv_blocks > 0 and engine.load.kv_blocks_used == 0
