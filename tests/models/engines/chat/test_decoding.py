"""A batch in decoding, against the full forward of what was fed."""

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.checkpoints.loading import LoadedChat
from models.engines.chat.decoding import Decoding
from models.engines.chat.prompt import chat_tree
from models.engines.chat.search.beam_search import BeamSearch
from models.engines.chat.search.sampling import Sampling
from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits
from models.jobs import ChatGeneration
from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.kv_cache import KVCache
from models.networks.cpm_bee.packing import PackedBatch, pack_chat

CPU = torch.device("cpu")
NUM_BEAMS, NUM_STEPS = 2, 4


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pack(loaded: LoadedChat, *questions: str, num_image_tokens: int = 0) -> PackedBatch:
    return pack_chat([chat_tree(question, "", num_image_tokens) for question in questions], loaded.tokenizer)


class Forced:
    """A search that feeds fixed ids, changes parents at every step, and keeps the logits that it gets."""

    num_beams = NUM_BEAMS

    def __init__(self, batch: PackedBatch) -> None:
        generator = torch.Generator().manual_seed(3)
        self.rows = len(batch.ids)
        self.fed = torch.randint(11, 60, (NUM_STEPS, self.rows, NUM_BEAMS), generator=generator)
        self.parents = torch.randint(0, NUM_BEAMS, (NUM_STEPS, self.rows, NUM_BEAMS), generator=generator)
        self.segments = torch.tensor([[leaves[0][0]] * NUM_BEAMS for leaves in batch.predict_segments])
        self.logits: list[Tensor] = []
        self.answers = [[0]]

    @property
    def next(self) -> DecodeStep:
        ids = self.fed[len(self.logits)]
        zeros = torch.zeros_like(ids)
        return DecodeStep(ids, zeros, zeros + len(self.logits), self.segments)

    @property
    def is_finished(self) -> bool:
        return len(self.logits) == NUM_STEPS

    def advance(self, logits: Tensor) -> Tensor:
        self.logits.append(logits)
        return self.parents[len(self.logits) - 1]


@pytest.mark.slow
def test_beams_keep_the_past_of_the_parent_that_the_search_names(loaded: LoadedChat) -> None:
    batch = pack(loaded, "What is 图?", "a")
    search = Forced(batch)
    decoding = Decoding(loaded.model, batch, [None, None], search, NUM_STEPS)
    pasts: list[list[list[int]]] = [[[] for _ in range(NUM_BEAMS)] for _ in range(search.rows)]
    for step in range(NUM_STEPS):
        decoding.step()
        pasts = [[past + [int(search.fed[step, b, k])] for k, past in enumerate(row)] for b, row in enumerate(pasts)]
        for b, row in enumerate(pasts):
            for k, past in enumerate(row):
                torch.testing.assert_close(
                    search.logits[step][b, k],
                    alone(loaded, batch, b, past),
                    atol=1e-4,
                    rtol=1e-4,
                    msg=f"{step} {b} {k}",
                )
        pasts = [[list(row[int(search.parents[step, b, k])]) for k in range(NUM_BEAMS)] for b, row in enumerate(pasts)]


def alone(loaded: LoadedChat, batch: PackedBatch, row: int, fed: list[int]) -> Tensor:
    """Logits after `fed`, by the model itself with one beam."""
    llm = loaded.model.llm
    _, cache = llm.prefill(batch, llm.embed(batch.ids, batch.subs), 1, len(fed))
    segments = torch.tensor([[leaves[0][0]] for leaves in batch.predict_segments])
    for position, token in enumerate(fed):
        ids = torch.full((len(batch.ids), 1), token)
        zeros = torch.zeros_like(ids)
        hidden = llm.decode_step(DecodeStep(ids, zeros, zeros + position, segments), cache)
    return llm.logits(hidden[row, 0], None)


def test_extension_words_get_columns_of_their_own_and_others_get_none(loaded: LoadedChat) -> None:
    size = loaded.tokenizer.vocab_size
    for questions, num_extensions in ((("abc",), 0), (("日本 日 本", "本"), None)):
        batch = pack(loaded, *questions)
        search = Forced(batch)
        Decoding(loaded.model, batch, [None] * len(questions), search, NUM_STEPS).step()
        expected = len(batch.extension_ids) if num_extensions is None else num_extensions
        assert search.logits[0].shape == (len(questions), NUM_BEAMS, size + expected)
    assert len(batch.extension_ids) > 0


def test_a_picture_is_read_where_its_placeholders_are(loaded: LoadedChat) -> None:
    batch = pack(loaded, "What?", num_image_tokens=4)
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.randn(4, loaded.config.llm.dim_model, generator=generator) for _ in range(2)]
    first = []
    for picture in (pictures[0], pictures[1], pictures[0]):
        search = Forced(batch)
        Decoding(loaded.model, batch, [picture], search, NUM_STEPS).step()
        first.append(search.logits[0])
    assert torch.equal(first[0], first[2]) and (first[0] - first[1]).abs().max() > 0.1


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_search_is_driven_to_its_end_within_the_room_that_it_was_given(loaded: LoadedChat, num_beams: int) -> None:
    generation = ChatGeneration(max_new_tokens=5, num_beams=num_beams)
    batch = pack(loaded, "Say")
    vocabulary = AnswerVocabulary.of_batch(batch, loaded.tokenizer)
    search = Sampling(vocabulary, generation, 0, CPU) if num_beams == 1 else BeamSearch(vocabulary, generation, CPU)
    decoding = Decoding(loaded.model, batch, [None], search, generation.max_new_tokens)
    steps = 0
    while not search.is_finished:
        decoding.step()
        steps += 1
    assert 1 <= steps <= 5
    assert 1 <= len(search.answers[0]) <= 5


def test_logits_that_are_not_finite_are_the_searchs_to_refuse(loaded: LoadedChat) -> None:
    batch = pack(loaded, "What?", num_image_tokens=4)
    search = Sampling(AnswerVocabulary.of_batch(batch, loaded.tokenizer), ChatGeneration(num_beams=1), 0, CPU)
    picture = torch.full((4, loaded.config.llm.dim_model), torch.nan)
    decoding = Decoding(loaded.model, batch, [picture], search, 5)
    with pytest.raises(NonFiniteLogits):
        decoding.step()


def test_dropping_it_frees_the_cache(loaded: LoadedChat) -> None:
    """Without the help of the cycle collector, which knows nothing of a device's memory."""
    batch = pack(loaded, "Say")
    gc.disable()
    try:
        decoding = Decoding(loaded.model, batch, [None], Forced(batch), NUM_STEPS)
        decoding.step()
        cache = weakref.ref(decoding._cache)
        assert isinstance(cache(), KVCache)
        del decoding
        assert cache() is None
    finally:
        gc.enable()
