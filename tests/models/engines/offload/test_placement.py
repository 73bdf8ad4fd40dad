"""Engines whose language model comes and goes: the same answers and pictures, and one copy of a layer for all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import load_chat
from models.checkpoints.tiny import write_tiny_checkpoints
from models.engines.chat import engine as chat
from models.engines.chat.engine import ChatEngine
from models.engines.chat.prompt_reader import PromptReader
from models.engines.offload import streamed_layers
from models.engines.offload.bminf_adapter import OffloadUnusable
from models.engines.offload.layer_buffer import LayerBuffer
from models.engines.offload.placement import offload, pack_resident
from models.engines.offload.streamed_layers import StreamedLayers
from models.engines.paint import engine as paint
from models.jobs import (
    ChatGeneration,
    ChatJob,
    ChatResult,
    Engine,
    EngineConfig,
    EngineEvent,
    Failed,
    Generated,
    PaintJob,
    PaintResult,
)
from tests.models.engines.chat.jobs import MIXED, job, timeless
from tests.models.engines.paint.jobs import pixels

NUM_LAYERS = 5  # of chat_folder


def create_chat(folder: Path, **fields: Any) -> ChatEngine:
    config = EngineConfig(kind="chat", checkpoint=str(folder), max_jobs=16, kv_bytes=1 << 22, **fields)
    return chat.create_engine(config, lambda name, value: None)


def finish(engine: Engine, *jobs: Any) -> dict[str, EngineEvent]:
    for each in jobs:
        engine.admit(each)
    endings: dict[str, EngineEvent] = {}
    for _ in range(2000):
        if len(endings) == len(jobs):
            return endings
        endings |= {job_id: event for job_id, event in engine.step() if isinstance(event, Generated | Failed)}
    raise AssertionError(f"{len(endings)} of {len(jobs)} have ended")


def answers(engine: ChatEngine, *jobs: ChatJob) -> dict[str, Any]:
    results = {}
    for job_id, event in finish(engine, *jobs).items():
        assert isinstance(event, Generated) and isinstance(event.result, ChatResult), event
        results[job_id] = timeless(event.result)
    return results


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of the layers that were copied."""
    layers: list[int] = []
    start = streamed_layers._HostCopier.start

    def counted(copier: Any, layer: int, buffer: LayerBuffer) -> Any:
        layers.append(layer)
        return start(copier, layer, buffer)

    monkeypatch.setattr(streamed_layers._HostCopier, "start", counted)
    yield layers


# Chat ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_answers_are_those_of_the_whole_model(chat_folder: Path) -> None:
    expected = answers(create_chat(chat_folder), *MIXED)
    streamed = create_chat(chat_folder, offload="streamed")
    assert answers(streamed, *MIXED) == expected
    assert {each.job_id: answers(streamed, each)[each.job_id] for each in MIXED} == expected


@pytest.mark.slow
def test_the_bundled_checkpoint_answers_the_same() -> None:
    folder = bundled_checkpoint("chat")
    side = load_chat(folder).config.image_size_px
    grey = bytes([100]) * 3 * side**2
    jobs = [
        ChatJob(job_id="picture", question="What is this?", pixels=grey, image_size_px=side),
        ChatJob(job_id="text", question="这是什么？", generation=ChatGeneration(max_new_tokens=30)),
    ]
    assert answers(create_chat(folder, offload="streamed"), *jobs) == answers(create_chat(folder), *jobs)


@pytest.mark.slow
def test_two_layers_are_on_the_device(chat_folder: Path) -> None:
    engine = create_chat(chat_folder, offload="streamed")
    answers(engine, *MIXED)
    layers = engine._loaded.model.llm.layers
    assert isinstance(layers, StreamedLayers)
    assert layers.device_bytes == 2 * layers.layer_bytes
    assert engine.description.parameters == create_chat(chat_folder).description.parameters
    assert {parameter.dtype for parameter in layers.parameters()} == {torch.float16}, "in the file as it is stored"


@pytest.mark.slow
def test_rows_of_all_requests_and_prompts_share_each_copy(chat_folder: Path, copies: list[int]) -> None:
    """A pass for each token, whatever reads its prompt meanwhile."""
    generation = ChatGeneration(max_new_tokens=12, num_beams=1, temperature=1.0)
    engine = create_chat(chat_folder, offload="streamed")
    jobs = [job(f"job{number}", question="a" * number, generation=generation, pixels=b"") for number in range(8)]

    def num_passes(*some: ChatJob) -> float:
        copies.clear()
        answers(engine, *some)
        return len(copies) / NUM_LAYERS

    alone = [num_passes(each) for each in jobs]
    assert num_passes(*jobs) <= max(alone) + 1


@pytest.mark.slow
def test_a_newcomers_prompt_is_read_in_the_pass_of_running_answers(chat_folder: Path, copies: list[int]) -> None:
    engine = create_chat(chat_folder, offload="streamed")
    engine.admit(job("first", generation=ChatGeneration(max_new_tokens=30), pixels=b""))
    for _ in range(3):
        engine.step()
    assert engine.load.running == 1
    engine.admit(job("second", pixels=b"", generation=ChatGeneration(max_new_tokens=30)))
    copies.clear()
    engine.step()
    assert len(copies) == NUM_LAYERS
    assert all(request.sequences is not None for request in engine._requests.values()), "its prompt is read"


@pytest.mark.slow
def test_prompts_are_read_in_all_threads_and_tokens_chosen_in_as_many_as_suit(
    chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[tuple[str, int]] = set()
    read, choose = PromptReader.read_slice, chat.DecodingBatch._choose
    monkeypatch.setattr(chat, "choose_threads", lambda work: torch.set_num_threads(1))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = create_chat(chat_folder, offload="streamed")

        def noted_read(reader: PromptReader) -> str:
            used.add(("read", torch.get_num_threads()))
            return read(reader)

        def noted_choose(batch: Any, *arguments: Any, **named: Any) -> Any:
            used.add(("choose", torch.get_num_threads()))
            return choose(batch, *arguments, **named)

        monkeypatch.setattr(PromptReader, "read_slice", noted_read)
        monkeypatch.setattr(chat.DecodingBatch, "_choose", noted_choose)
        answers(engine, *MIXED)
    finally:
        torch.set_num_threads(before)
    assert used == {("read", 2), ("choose", 1)}


@pytest.mark.slow
def test_out_of_memory_in_a_pass_stays_with_its_request(chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt's part that does not fit fails that prompt, not the answers whose pass it shares."""
    engine = create_chat(chat_folder, offload="streamed")
    expected = answers(engine, MIXED[0])
    read = PromptReader.read_slice

    def tight(reader: PromptReader) -> str:
        if reader.next_layer == 2 and any(request.job.job_id == "big" for request in reader.group):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return read(reader)

    monkeypatch.setattr(PromptReader, "read_slice", tight)
    endings = finish(engine, MIXED[0], job("big"))
    failure, other = endings["big"], endings[MIXED[0].job_id]
    assert isinstance(failure, Failed) and failure.code == "out_of_memory"
    assert isinstance(other, Generated) and isinstance(other.result, ChatResult)
    assert timeless(other.result) == expected[MIXED[0].job_id]


@pytest.mark.slow
def test_a_call_that_is_split_reads_prompts_on(chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that end in the middle, and groups that take one pass each."""
    expected = answers(create_chat(chat_folder), *MIXED)
    engine = create_chat(chat_folder, offload="streamed")
    step = chat.DecodingBatch.step

    def tight(batch: Any, requests: Any, after_layer: Callable[[int], None] | None = None) -> Any:
        def until_the_third(layer: int) -> None:
            assert after_layer is not None
            after_layer(layer)
            if layer == 2 and sum(len(request.rows) for request in requests) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        return step(batch, requests, until_the_third if len(requests) > 1 else after_layer)

    monkeypatch.setattr(chat.DecodingBatch, "step", tight)
    assert answers(engine, *MIXED) == expected


@pytest.mark.slow
def test_a_given_number_of_bytes_keeps_layers(chat_folder: Path) -> None:
    expected = answers(create_chat(chat_folder), MIXED[0])
    layers = create_chat(chat_folder, offload="streamed")._loaded.model.llm.layers
    assert isinstance(layers, StreamedLayers)
    engine = create_chat(chat_folder, offload="streamed", offload_bytes=4 * layers.layer_bytes)
    kept = engine._loaded.model.llm.layers
    assert isinstance(kept, StreamedLayers) and kept.num_resident == 2
    assert answers(engine, MIXED[0]) == expected
    with pytest.raises(ValueError, match="the least is two of them"):
        create_chat(chat_folder, offload="streamed", offload_bytes=1)


@pytest.mark.slow
def test_bminf_is_asked_whether_it_can(chat_folder: Path) -> None:
    with pytest.raises(OffloadUnusable, match="^VISCPM_OFFLOAD=bminf: .*bminf.*$"):
        create_chat(chat_folder, offload="bminf")


# Paint ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoints(folder, seed=0)
    return folder / "paint"


def picture(engine: paint.PaintEngine) -> np.ndarray:
    wanted = PaintJob(job_id="job", prompt="a cat", num_inference_steps=3, height_px=64, width_px=64, rerank="off")
    event = finish(engine, wanted)["job"]
    assert isinstance(event, Generated) and isinstance(event.result, PaintResult), event
    return pixels(event.result.candidates[0].png)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tiny", "bundled"])
def test_pictures_are_those_of_the_whole_model(which: str, paint_folder: Path) -> None:
    folder = paint_folder if which == "tiny" else bundled_checkpoint("paint")
    config = EngineConfig(kind="paint", checkpoint=str(folder))
    whole = paint.create_engine(config, lambda name, value: None)
    config = EngineConfig(kind="paint", checkpoint=str(folder), offload="streamed")
    streamed = paint.create_engine(config, lambda name, value: None)
    assert np.abs(picture(whole) - picture(streamed)).max() <= 1
    assert streamed.description.parameters == whole.description.parameters


@pytest.mark.slow
def test_pictures_have_the_device_to_themselves(paint_folder: Path, copies: list[int]) -> None:
    """Once the texts are read, no layer of the language model is on it, nor after the warm-up."""
    config = EngineConfig(kind="paint", checkpoint=str(paint_folder), offload="streamed")
    engine = paint.create_engine(config, lambda name, value: None)
    layers = engine.painter.model.llm.layers
    assert isinstance(layers, StreamedLayers) and layers.device_bytes == 0
    copies.clear()
    engine.admit(PaintJob(job_id="job", prompt="a dog", num_inference_steps=3, height_px=64, width_px=64))
    engine.step()
    assert copies and layers.device_bytes == 0


# Placing -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_stays_is_packed_and_what_passes_is_not(chat_folder: Path) -> None:
    loaded = load_chat(chat_folder)
    llm = loaded.model.llm
    config = EngineConfig(kind="chat", checkpoint="", offload="streamed")
    offload(loaded.model, llm, torch.device("cpu"), torch.float32, config)
    layers = llm.layers
    assert isinstance(layers, StreamedLayers)
    pack_resident(loaded.model, llm)
    assert llm.layers is layers
    assert all(type(module).__name__ != "PackedLinear" for module in layers.modules())
    assert any(type(module).__name__ == "PackedLinear" for module in loaded.model.vision_encoder.modules())
    assert loaded.model.query_tokens.dtype == torch.float32
