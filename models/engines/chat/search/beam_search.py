"""The reference's beam search (SPEC §7), on tensors over beams and sentences; it knows logits and tokens, no model.

The numbers per step that the host needs are fetched in one transfer: the 2K best candidates of each sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits, penalise_repetition
from models.jobs import ChatGeneration
from models.networks.cpm_bee.answer_bias import DecodeStep

UNUSED_BEAM_SCORE = -1e9  # the start's other beams: they only take part where the first has too few continuations


@dataclass(frozen=True)
class Hypothesis:
    """A complete answer: column ids, the final eos included if there is one, and its length-normalised score."""

    ids: list[int]
    score: float


@dataclass
class Hypotheses:
    """The at most `size` best complete answers of one sentence, in the order of their insertion."""

    size: int
    kept: list[Hypothesis] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.kept) >= self.size

    @property
    def worst(self) -> float:
        return min((hypothesis.score for hypothesis in self.kept), default=1e9)

    @property
    def best(self) -> Hypothesis:
        """The largest score, the first on ties."""
        return max(self.kept, key=lambda hypothesis: hypothesis.score)

    def add(self, hypothesis: Hypothesis) -> None:
        if self.is_full and hypothesis.score <= self.worst:
            return
        self.kept.append(hypothesis)
        if len(self.kept) > self.size:
            self.kept.remove(min(self.kept, key=lambda kept: kept.score))


@dataclass(frozen=True)
class Beam:
    """An answer so far and its summed log-probability; `parent` is the beam of the step before that it continues."""

    ids: list[int]
    score: float
    parent: int


class Sentence:
    """The beams and complete answers of one sentence, on the host."""

    def __init__(self, generation: ChatGeneration, eos_id: int) -> None:
        width = generation.num_beams
        self.hypotheses = Hypotheses(width)
        self.beams = [Beam([], 0.0 if beam == 0 else UNUSED_BEAM_SCORE, beam) for beam in range(width)]
        self.done_at: int | None = None  # the iteration whose done test held
        self._generation = generation
        self._eos_id = eos_id

    def advance(self, candidates: list[tuple[float, int, int]], iteration: int) -> None:
        """SPEC §7 steps 5 to 7 on the 2K best (score, beam, column), best first."""
        exponent = self._generation.length_penalty
        if self.hypotheses.is_full and self.hypotheses.worst >= candidates[0][0] / iteration**exponent:
            self.done_at = iteration  # `iteration`, not the length `iteration + 1`: replicated (SPEC §11.8)
            return
        is_last = iteration == self._generation.max_new_tokens - 1
        beams: list[Beam] = []
        for score, parent, column in candidates:
            ids = [*self.beams[parent].ids, column]
            if is_last or column == self._eos_id:
                self.hypotheses.add(Hypothesis(ids, score / len(ids) ** exponent))
            else:
                beams.append(Beam(ids, score, parent))
            if len(beams) == len(self.beams):
                break
        if not is_last:
            # At most K of the 2K candidates are eos, one a beam, so K always go on.
            self.beams = beams

    @property
    def contenders(self) -> list[Beam]:
        """The beams that may still give the best answer; none once it is known, be it a step before the done test.

        A sum of log-probabilities never rises. So an answer that goes on from a beam scores at most what the beam's own
        sum gives at the most favourable length, and the next done test sees at most the best beam's sum.
        """
        if self.done_at is not None:
            return []
        if not self.hypotheses.kept:
            return self.beams
        exponent, length = self._generation.length_penalty, len(self.beams[0].ids)
        if self.hypotheses.is_full and self.hypotheses.worst >= max(b.score for b in self.beams) / length**exponent:
            return []
        reach = max((length + 1) ** exponent, self._generation.max_new_tokens**exponent)
        best = self.hypotheses.best.score  # of equal scores the earlier one stays
        return [beam for beam in self.beams if beam.score / reach > best]

    def reference_calls(self, iterations: int) -> int:
        """Model calls of the reference for this sentence alone: prefill, steps, and one more after an early end."""
        if self.done_at is None:
            return 1 + iterations
        steps = self.done_at + 1
        return 1 + steps + (steps < self._generation.max_new_tokens)


class BeamRows:
    """The beams of one request in a batch of many, on the host: what its K rows are fed, and what they chose."""

    def __init__(self, vocabulary: AnswerVocabulary, generation: ChatGeneration) -> None:
        self.num_rows = generation.num_beams
        self.num_candidates = 2 * generation.num_beams  # wanted of each row
        self.fed = [(vocabulary.bos_id, 0)] * self.num_rows  # id and sub index, for the next step
        self.parents = list(range(self.num_rows))  # the row of the step before that each goes on from
        self.num_fed = 0  # tokens of each beam before those
        self._sentence = Sentence(generation, vocabulary.eos_id)
        self._contenders = self._sentence.beams
        self._num_settled = 0
        self._vocabulary = vocabulary
        self._max_new_tokens = generation.max_new_tokens

    @property
    def is_finished(self) -> bool:
        return not self._contenders

    @property
    def ids(self) -> list[int]:
        """Column ids of the best answer; until the search is finished, those that it will begin with in any case.

        The answer will be one that goes on from a contender, or else the best that is complete: of complete ones no
        other can overtake it. What these share is settled, and only grows.
        """
        if self.is_finished:
            return self._sentence.hypotheses.best.ids
        return self._possible()[0][: self._num_settled]

    def _settle(self) -> None:
        first, *others = self._possible()
        shortest = min(map(len, [first, *others]))
        while self._num_settled < shortest and all(
            ids[self._num_settled] == first[self._num_settled] for ids in others
        ):
            self._num_settled += 1

    def _possible(self) -> list[list[int]]:
        """What the answer may go on from, or be."""
        hypotheses = self._sentence.hypotheses
        beams = [beam.ids for beam in self._contenders]
        return [*beams, hypotheses.best.ids] if hypotheses.kept else beams

    @property
    def scores(self) -> list[float]:
        """Summed log-probability of each beam."""
        return [beam.score for beam in self._sentence.beams]

    def advance(self, rows: Sequence[Sequence[tuple[float, int]]]) -> None:
        """Takes each row's best (score, column), best first: at least 2K of them, or all that there are."""
        candidates = [(score, beam, column) for beam, row in enumerate(rows) for score, column in row]
        candidates.sort(key=lambda candidate: -candidate[0])  # stable: of equal ones the first beam's
        self._sentence.advance(candidates[: self.num_candidates], self.num_fed)
        self.num_fed += 1
        beams = self._sentence.beams
        self._contenders = self._sentence.contenders if self.num_fed < self._max_new_tokens else []
        if not self.is_finished:
            self._settle()
            self.fed = [self._vocabulary.fed(beam.ids[-1]) for beam in beams]
            self.parents = [beam.parent for beam in beams]


class BeamSearch:
    """Beam search over B sentences with K beams each, advanced by one step's logits at a time.

    `max_new_tokens` N is the reference's max_length + 2: at most N ids with the final eos. N of 1 and 2, which the
    reference cannot express, follow from the same rules: with 1 the 2K best first tokens are the hypotheses.
    """

    def __init__(self, vocabulary: AnswerVocabulary, generation: ChatGeneration, device: torch.device) -> None:
        self.num_beams = generation.num_beams
        self.iteration = 0
        self.sentences = [Sentence(generation, vocabulary.eos_id) for _ in vocabulary.segments]
        self._vocabulary = vocabulary
        self._generation = generation
        self._device = device
        self._mask = vocabulary.column_mask(device)
        shape = (len(self.sentences), self.num_beams)
        self._fed_ids = torch.full((*shape, 1), vocabulary.bos_id, device=device)  # (B, K, T)
        self._scores = torch.tensor([[beam.score for beam in s.beams] for s in self.sentences], device=device)
        self.next = DecodeStep(
            ids=torch.full(shape, vocabulary.bos_id, device=device),
            subs=torch.zeros(shape, dtype=torch.int64, device=device),
            positions=torch.zeros(shape, dtype=torch.int64, device=device),
            segments=torch.tensor(vocabulary.segments, device=device)[:, None].expand(shape).contiguous(),
        )

    @property
    def is_finished(self) -> bool:
        return self.iteration == self._generation.max_new_tokens or all(
            sentence.done_at is not None for sentence in self.sentences
        )

    @property
    def hypotheses(self) -> list[Hypotheses]:
        """The kept answers of each sentence; complete once the search is finished."""
        return [sentence.hypotheses for sentence in self.sentences]

    @property
    def answers(self) -> list[list[int]]:
        """Column ids of each sentence's best answer; empty until the search is finished."""
        if not self.is_finished:
            return [[] for _ in self.sentences]
        return [hypotheses.best.ids for hypotheses in self.hypotheses]

    def reference_calls(self, row: int) -> int:
        return self.sentences[row].reference_calls(self.iteration)

    def advance(self, logits: Tensor) -> Tensor | None:
        """Takes the logits (B, K, C) of `next`, which it overwrites, and chooses the tokens after it.

        Returns:
            Parent beams (B, K) int64 by which the cache is to be reordered, or None when the search is finished.

        Raises:
            NonFiniteLogits: a sentence that is still searched for has NaN or infinite logits.
        """
        candidates = self._best_candidates(logits)
        for sentence, row in zip(self.sentences, candidates, strict=True):
            if sentence.done_at is None:
                sentence.advance(row, self.iteration)
        self.iteration += 1
        return None if self.is_finished else self._feed()

    def _best_candidates(self, logits: Tensor) -> list[list[tuple[float, int, int]]]:
        """The 2K best (score, beam, column) of every sentence (SPEC §7 steps 2 to 4)."""
        rows, columns = logits.shape[0], logits.shape[2]
        logits = logits.float()
        finite = logits.sum((1, 2)).isfinite()  # (B,); one pass, and sums of sane logits cannot overflow float32
        self._mask.apply(logits)
        window = self._generation.repetition_window
        fed_ids = self._fed_ids if window is None else self._fed_ids[:, :, -window:]
        penalise_repetition(logits, fed_ids, self._generation.repetition_penalty)
        scores = torch.log_softmax(logits / self._generation.temperature, dim=-1) + self._scores[:, :, None]
        best, places = scores.view(rows, -1).topk(2 * self.num_beams)  # (B, 2K)
        # float64 holds float32 scores, places and flags exactly, so that one transfer fetches them all.
        fetched = torch.cat([best.double(), places.double(), finite.double()[:, None]], dim=1).tolist()
        candidates = []
        for row, sentence in zip(fetched, self.sentences, strict=True):
            if not row[-1] and sentence.done_at is None:
                raise NonFiniteLogits(f"NaN or infinite logits at token {self.iteration}")
            pairs = zip(row[: 2 * self.num_beams], row[2 * self.num_beams : -1], strict=True)
            candidates.append([(score, *divmod(int(place), columns)) for score, place in pairs])
        return candidates

    def _feed(self) -> Tensor:
        """Sets `next` from the beams; returns their parents (B, K)."""
        tokens = []
        for sentence, segment in zip(self.sentences, self._vocabulary.segments, strict=True):
            if sentence.done_at is not None:  # padding, as the reference feeds it
                tokens.append([(0, 0, 0, 0, beam) for beam in range(self.num_beams)])
                continue
            tokens.append(
                [(*self._vocabulary.fed(beam.ids[-1]), self.iteration, segment, beam.parent) for beam in sentence.beams]
            )
        ids, subs, positions, segments, parents = torch.tensor(tokens).to(self._device).unbind(-1)  # each (B, K)
        self._scores = torch.tensor([[beam.score for beam in s.beams] for s in self.sentences]).to(self._device)
        kept = self._fed_ids.gather(1, parents[:, :, None].expand_as(self._fed_ids))
        self._fed_ids = torch.cat([kept, ids[:, :, None]], dim=-1)
        self.next = DecodeStep(ids=ids, subs=subs, positions=positions, segments=segments)
        return parents
