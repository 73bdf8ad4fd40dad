"""Greedy and sampled tokens on made-up logits."""

import math

import pytest
import torch
from torch import Tensor

from models.engines.chat.search.sampling import Sampling, sample
from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits
from models.jobs import ChatGeneration

VOCAB_SIZE, UNK, BOS, EOS = 20, 1, 6, 7
CPU = torch.device("cpu")
GREEDY = ChatGeneration(num_beams=1, max_new_tokens=8)
SAMPLED = ChatGeneration(do_sample=True, max_new_tokens=30)


def vocabulary(table: dict[int, str] | None = None) -> AnswerVocabulary:
    return AnswerVocabulary(
        vocab_size=VOCAB_SIZE,
        bos_id=BOS,
        eos_id=EOS,
        unk_id=UNK,
        extension_ids=[UNK, UNK],
        extension_subs=[1, 2],
        tables=[table or {}],
        segments=[8],
    )


def random_logits(seed: int) -> Tensor:
    return torch.randn(1, 1, VOCAB_SIZE + 2, generator=torch.Generator().manual_seed(seed))


def answer(generation: ChatGeneration, seed: int = 0, eos_logit: float = -20.0) -> list[int]:
    """Ids for logits that depend on the token before."""
    sampling = Sampling(vocabulary({UNK: "a"}), generation, seed, CPU)
    while not sampling.is_finished:
        logits = random_logits(int(sampling.next.ids))
        logits[..., EOS] = eos_logit
        assert sampling.advance(logits) is None
    return sampling.ids


def frequencies(logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """How often each column is drawn by an even grid of draws: its probability within one grid step."""
    counts = torch.zeros(len(logits))
    for index in range(4000):
        draw = torch.tensor((index + 0.5) / 4000, dtype=torch.float64)
        counts[sample(logits, draw, temperature=temperature, top_k=top_k, top_p=top_p)] += 1
    return counts / 4000


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = random_logits(1)[0, 0]
    expected = torch.softmax(logits / temperature, dim=-1)
    torch.testing.assert_close(frequencies(logits, temperature=temperature), expected, atol=1 / 4000, rtol=0)


@pytest.mark.slow
def test_top_k_renormalises_the_k_largest() -> None:
    logits = random_logits(2)[0, 0]
    kept = logits.topk(5).indices
    expected = torch.zeros(len(logits)).index_copy(0, kept, torch.softmax(logits[kept], dim=-1))
    torch.testing.assert_close(frequencies(logits, top_k=5), expected, atol=1 / 4000, rtol=0)


@pytest.mark.slow
def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2])
    logits = probabilities.log()
    # 0.4 + 0.25 = 0.65 < 0.7, so that 0.2 is needed as well; 0.1 is not.
    expected = torch.tensor([0, 0.4, 0, 0.25, 0.2]) / 0.85
    torch.testing.assert_close(frequencies(logits, top_p=0.7), expected, atol=1 / 4000, rtol=0)
    # A first column that reaches it alone is all there is.
    assert frequencies(logits, top_p=0.3).tolist() == [0, 1, 0, 0, 0]


@pytest.mark.slow
def test_top_k_comes_before_top_p() -> None:
    """Of 0.4, 0.25 (renormalised 0.62, 0.38), 0.6 needs the first only; over all columns it would need two."""
    logits = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2]).log()
    assert frequencies(logits, top_k=2, top_p=0.6).tolist() == [0, 1, 0, 0, 0]


@pytest.mark.slow
def test_top_k_over_the_number_of_columns_keeps_all() -> None:
    logits = random_logits(3)[0, 0]
    torch.testing.assert_close(frequencies(logits, top_k=1000), frequencies(logits), atol=1.5 / 4000, rtol=0)


def test_greedy_takes_the_largest_logit_and_ignores_the_seed() -> None:
    assert answer(GREEDY, seed=1) == answer(GREEDY, seed=2)
    sampling = Sampling(vocabulary(), GREEDY, 0, CPU)
    logits = random_logits(4)
    logits[..., 12] = 9.0
    sampling.advance(logits)
    assert sampling.ids == [12]
    assert (sampling.next.ids.item(), sampling.next.positions.item(), sampling.next.segments.item()) == (12, 1, 8)


def test_penalty_applies_to_bos_and_answer_within_the_window() -> None:
    generation = ChatGeneration(num_beams=1, max_new_tokens=8, repetition_penalty=2.0, repetition_window=2)
    sampling = Sampling(vocabulary(), generation, 0, CPU)
    chosen = []
    for _ in range(4):
        logits = torch.full((1, 1, VOCAB_SIZE + 2), -5.0)
        logits[..., 9], logits[..., 10], logits[..., 11] = 3.0, 2.0, 1.6
        sampling.advance(logits)
        chosen.append(sampling.ids[-1])
    assert chosen == [9, 10, 11, 9]


def test_seed_decides_and_the_global_generator_does_not() -> None:
    torch.manual_seed(1)
    first = answer(SAMPLED, seed=5)
    torch.manual_seed(2)
    torch.rand(3)
    assert answer(SAMPLED, seed=5) == first
    assert any(answer(SAMPLED, seed=seed) != first for seed in range(6, 9))


def test_interleaved_jobs_draw_what_they_draw_alone() -> None:
    alone = [answer(SAMPLED, seed=seed) for seed in (1, 2)]
    together = [Sampling(vocabulary({UNK: "a"}), SAMPLED, seed, CPU) for seed in (1, 2)]
    while not all(sampling.is_finished for sampling in together):
        for sampling in together:
            logits = random_logits(int(sampling.next.ids))
            logits[..., EOS] = -20.0
            sampling.advance(logits)
    assert [sampling.ids for sampling in together] == alone


def test_stops_at_eos_or_at_the_limit() -> None:
    assert answer(GREEDY, eos_logit=50.0) == [EOS]
    assert len(answer(SAMPLED)) == SAMPLED.max_new_tokens
    assert len(answer(ChatGeneration(num_beams=1, max_new_tokens=1))) == 1


@pytest.mark.parametrize("generation", [GREEDY, SAMPLED])
def test_blocked_columns_are_never_chosen(generation: ChatGeneration) -> None:
    sampling = Sampling(vocabulary({VOCAB_SIZE + 1: "mine"}), generation, 0, CPU)
    logits = torch.full((1, 1, VOCAB_SIZE + 2), -50.0)
    logits[..., UNK], logits[..., VOCAB_SIZE], logits[..., VOCAB_SIZE + 1] = 100.0, 90.0, 10.0
    sampling.advance(logits)
    assert sampling.ids == [VOCAB_SIZE + 1]
    assert (sampling.next.ids.item(), sampling.next.subs.item()) == (UNK, 2)


@pytest.mark.parametrize("generation", [GREEDY, SAMPLED])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_logits_raise(generation: ChatGeneration, bad: float) -> None:
    sampling = Sampling(vocabulary(), generation, 0, CPU)
    logits = random_logits(5)
    logits[0, 0, 3] = bad
    with pytest.raises(NonFiniteLogits, match="token 0"):
        sampling.advance(logits)
    assert sampling.ids == []
