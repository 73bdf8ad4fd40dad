"""Greedy and seeded sampling of one answer; they know logits and tokens, no model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits, penalise_repetition
from models.jobs import ChatGeneration
from models.networks.cpm_bee.answer_bias import DecodeStep


class SampledRow:
    """The one row of a greedy or sampled request in a batch of many, on the host (see BeamRows)."""

    num_rows = 1
    num_candidates = 1
    scores = (0.0,)

    def __init__(self, vocabulary: AnswerVocabulary, generation: ChatGeneration, seed: int) -> None:
        self.ids: list[int] = []  # columns chosen so far
        self.fed = [(vocabulary.bos_id, 0)]
        self.parents = [0]
        self._vocabulary = vocabulary
        self._max_new_tokens = generation.max_new_tokens
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def num_fed(self) -> int:
        return len(self.ids)

    @property
    def is_finished(self) -> bool:
        return len(self.ids) == self._max_new_tokens or self.ids[-1:] == [self._vocabulary.eos_id]

    def draw(self) -> float:
        """The next random number of the job's own, in [0, 1): one a token, whatever else is in the batch."""
        return float(torch.rand((), dtype=torch.float64, generator=self._generator))

    def advance(self, rows: Sequence[Sequence[tuple[float, int]]]) -> None:
        """Takes what was chosen, as the row's first (score, column)."""
        column = rows[0][0][1]
        self.ids.append(column)
        self.fed = [self._vocabulary.fed(column)]


class Sampling:
    """One answer, token by token, until eos or `max_new_tokens` ids.

    The column mask and the repetition penalty are those of the beam search. Then, with `do_sample`: temperature, top-k,
    top-p and one draw; otherwise the largest logit. The draws come from a CPU generator of the job's own seed, one
    float64 a token, so that neither other jobs nor the device's own random numbers change an answer.
    """

    num_beams = 1

    def __init__(
        self, vocabulary: AnswerVocabulary, generation: ChatGeneration, seed: int, device: torch.device
    ) -> None:
        assert len(vocabulary.segments) == 1, "one sentence a sampler"
        self.ids: list[int] = []
        self._vocabulary = vocabulary
        self._generation = generation
        self._device = device
        self._generator = torch.Generator().manual_seed(seed)
        self._mask = vocabulary.column_mask(device)
        self._fed_ids = torch.full((1, 1, 1), vocabulary.bos_id, device=device)  # (1, 1, T)
        self.next = self._decode_step(vocabulary.bos_id, 0)

    @property
    def is_finished(self) -> bool:
        return len(self.ids) == self._generation.max_new_tokens or self.ids[-1:] == [self._vocabulary.eos_id]

    @property
    def answers(self) -> list[list[int]]:
        """The ids so far, as the one sentence's answer."""
        return [self.ids]

    def advance(self, logits: Tensor) -> None:
        """Takes the logits (1, 1, C) of `next`, which it overwrites, and appends a token to `ids`.

        Raises:
            NonFiniteLogits: they hold NaN or infinity.
        """
        logits = logits.float()
        finite = logits.sum().isfinite()  # one pass, and sums of sane logits cannot overflow float32
        self._mask.apply(logits)
        window = self._generation.repetition_window
        fed_ids = self._fed_ids if window is None else self._fed_ids[:, :, -window:]
        penalise_repetition(logits, fed_ids, self._generation.repetition_penalty)
        if self._generation.do_sample:
            draw = torch.rand((), dtype=torch.float64, generator=self._generator)
            column = sample(
                logits[0, 0],
                draw.to(self._device),
                temperature=self._generation.temperature,
                top_k=self._generation.top_k,
                top_p=self._generation.top_p,
            )
        else:
            column = logits[0, 0].argmax()
        chosen, is_finite = torch.stack([column, finite.long()]).tolist()
        if not is_finite:
            raise NonFiniteLogits(f"NaN or infinite logits at token {len(self.ids)}")
        self.ids.append(chosen)
        token_id, sub = self._vocabulary.fed(chosen)
        self.next = self._decode_step(token_id, sub)
        self._fed_ids = torch.cat([self._fed_ids, self.next.ids[:, :, None]], dim=-1)

    def _decode_step(self, token_id: int, sub: int) -> DecodeStep:
        step = torch.tensor([token_id, sub, len(self.ids), self._vocabulary.segments[0]]).to(self._device)
        ids, subs, positions, segments = step.view(4, 1, 1)
        return DecodeStep(ids=ids, subs=subs, positions=positions, segments=segments)


def sample(logits: Tensor, draw: Tensor, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """A column of logits (C,), by inverting the distribution function at `draw`, a float64 in [0, 1).

    Of the columns in descending order only the first `top_k` stay (0: all), and of those only the fewest whose
    probabilities, renormalised, reach `top_p`; the first always stays. Returns int64 ().
    """
    columns = torch.arange(len(logits), device=logits.device)
    if top_k:
        logits, columns = logits.topk(min(top_k, len(logits)))
    elif top_p < 1:
        logits, columns = logits.sort(descending=True, stable=True)
    cumulative = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    last = torch.full_like(draw, len(columns) - 1, dtype=torch.int64)
    if top_p < 1:
        last = last.minimum(torch.searchsorted(cumulative, top_p))  # the first column that reaches it is still in
    place = torch.searchsorted(cumulative, draw * cumulative[last], right=True)
    return columns[place.minimum(last)]
