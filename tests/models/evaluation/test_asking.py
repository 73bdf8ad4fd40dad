"""Batches against the service's own way with one job, and conversations with the model's own answers in them."""

import string
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.checkpoints.random_weights import random_chat
from models.datasets.examples import PixelArray
from models.engines.chat.engine import ChatEngine
from models.evaluation import asking
from models.evaluation.asking import PictureQuestions, ask
from models.jobs import ChatGeneration, ChatJob, ChatResult, EngineEvent, Generated, Turn
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.config import VisionConfig

SIDE_PX = 32
SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
ENTRIES = [*SPECIAL, *string.ascii_letters, *string.punctuation, "image", "context", "question", "User", "AI"]


@pytest.fixture(scope="module")
def chat() -> LoadedChat:
    """Its random answers end by chance, and hold `<` and words that the vocabulary lacks."""
    llm = CPMBeeConfig(len(ENTRIES), dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16, half=False)
    vision = VisionConfig(
        SIDE_PX, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=8
    )
    config = ChatConfig(llm=llm, vision=vision, num_query_tokens=4)
    model = random_chat(config, "cpu", torch.float32, seed=11)
    for name, scale in (("</s>", 3.0), ("<", 1.8), ("<unk>", 2.5)):
        model.llm.embedding.weight.data[ENTRIES.index(name)] *= scale
    return LoadedChat(model, Tokenizer.from_entries(ENTRIES), config, fingerprint="f", untrained=True)


def picture(seed: int) -> PixelArray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


CONVERSATIONS = [
    PictureQuestions(picture(1), ("What is 图 this?", "And 颜色?", "Say")),
    PictureQuestions(picture(2), ("Where?",)),
    PictureQuestions(picture(3), ("a <b> 熊猫 question of quite another length", "图?")),
]


def alone(chat: LoadedChat, conversation: PictureQuestions, generation: ChatGeneration) -> Iterator[ChatResult]:
    """A conversation's results by the worker's own code."""
    engine = ChatEngine(chat, "chat", 1, lambda name, value: None, num_blocks=100)
    history: list[Turn] = []
    for question in conversation.questions:
        job = ChatJob(
            job_id="j",
            question=question,
            history=list(history),
            pixels=conversation.pixels.tobytes(),
            image_size_px=SIDE_PX,
            generation=generation,
        )
        engine.admit(job)
        events: list[tuple[str, EngineEvent]] = []
        while not events or not isinstance(events[-1][1], Generated):
            events += engine.step()
        result = events[-1][1].result
        assert isinstance(result, ChatResult)
        history.append(Turn(question=question, answer=result.answer_escaped))
        yield result


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_batch_says_what_each_conversation_says_alone(chat: LoadedChat, num_beams: int) -> None:
    generation = ChatGeneration(max_new_tokens=12, num_beams=num_beams)
    expected = [list(alone(chat, conversation, generation)) for conversation in CONVERSATIONS]
    if num_beams == 1:
        endings = {result.finish_reason for results in expected for result in results}
        assert endings == {"stop", "length"}, "both ends of an answer are to be met"
    assert ask(chat, CONVERSATIONS, generation) == [[result.answer for result in results] for results in expected]


@pytest.mark.slow
def test_more_conversations_than_a_batch_come_back_in_their_order(
    chat: LoadedChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = ChatGeneration(max_new_tokens=6, num_beams=1)
    whole = ask(chat, CONVERSATIONS, generation)
    monkeypatch.setattr(asking, "BATCH_SIZE", 2)
    finished: list[int] = []
    assert ask(chat, CONVERSATIONS, generation, finished.append) == whole
    assert finished == [2, 1]
    assert len({answers[0] for answers in whole}) > 1
