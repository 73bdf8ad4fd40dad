"""The benchmark's baseline is a fair one: it says what the engine says."""

import pytest
import torch

from benchmarks import reference_chat
from models.checkpoints.loading import LoadedChat
from models.checkpoints.random_weights import random_chat
from models.engines.chat.engine import ChatEngine
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.search.vocabulary import AnswerVocabulary
from models.jobs import ChatGeneration, ChatJob, Generated
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.config import VisionConfig
from tests.models.conftest import CHAT_VOCABULARY


@pytest.fixture(scope="module")
def loaded() -> LoadedChat:
    llm = CPMBeeConfig(
        len(CHAT_VOCABULARY), dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16, half=False
    )
    vision = VisionConfig(32, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=8)
    config = ChatConfig(llm=llm, vision=vision, num_query_tokens=4)
    model = random_chat(config, "cpu", torch.float32, seed=7)
    fold_scalings(model.llm)
    return LoadedChat(model, Tokenizer.from_entries(CHAT_VOCABULARY), config, fingerprint="f", untrained=True)


@pytest.mark.slow
@pytest.mark.parametrize("question", ["Why?", "图" * 9, "a b c x<y"])
@pytest.mark.parametrize("num_beams", [2, 3])
def test_its_tokens_are_the_engines(loaded: LoadedChat, question: str, num_beams: int) -> None:
    job = ChatJob(job_id="a", question=question, generation=ChatGeneration(max_new_tokens=20, num_beams=num_beams))
    batch = pack_prompts([build_prompt(job, loaded.tokenizer, 0)], loaded.tokenizer)
    vocabulary = AnswerVocabulary.of_batch(batch, loaded.tokenizer)
    expected = reference_chat.answer(loaded.model.llm, batch, vocabulary, job.generation)

    engine = ChatEngine(loaded, "tiny", 1, lambda name, value: None, num_blocks=40)
    engine.admit(job)
    results = [event.result for _ in range(21) for _, event in engine.step() if isinstance(event, Generated)]
    assert [result.token_ids for result in results] == [expected]
    assert len(expected) > 5
