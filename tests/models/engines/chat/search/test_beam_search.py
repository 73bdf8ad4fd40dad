"""The tensor search against a slow one written in plain Python from SPEC §7, on made-up logits."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.engines.chat.search.beam_search import BeamRows, BeamSearch, Hypotheses, Hypothesis
from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits
from models.jobs import ChatGeneration

VOCAB_SIZE, UNK, BOS, EOS = 14, 1, 6, 7
CPU = torch.device("cpu")


def vocabulary(tables: list[dict[int, str]], extensions: list[tuple[int, int]]) -> AnswerVocabulary:
    return AnswerVocabulary(
        vocab_size=VOCAB_SIZE,
        bos_id=BOS,
        eos_id=EOS,
        unk_id=UNK,
        extension_ids=[pair[0] for pair in extensions],
        extension_subs=[pair[1] for pair in extensions],
        tables=tables,
        segments=[8 + row for row in range(len(tables))],
    )


class TableModel:
    """Logits that depend on the whole sequence of (id, sub) fed so far, through fixed random tables.

    Beams keep their sequences here as a model keeps its cache, so a wrong parent gives wrong logits.
    """

    def __init__(self, seed: int, num_columns: int, eos_bias: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.last = 2.5 * torch.randn(VOCAB_SIZE, 4, num_columns, generator=generator)
        self.history = 2.0 * torch.randn(VOCAB_SIZE, num_columns, generator=generator)
        self.last[:, :, EOS] += eos_bias

    def logits(self, row: int, fed: list[tuple[int, int]]) -> Tensor:
        token_id, sub = fed[-1]
        before = torch.zeros_like(self.last[0, 0])
        for age, (other, _) in enumerate(reversed(fed[:-1])):
            before = before + self.history[other] / (2 + age)
        return self.last[token_id, sub] + before + 0.1 * row * self.history[(token_id + row) % VOCAB_SIZE]


class RememberedModel(TableModel):
    """One that two searches ask the same."""

    def __init__(self, seed: int, num_columns: int, eos_bias: float) -> None:
        super().__init__(seed, num_columns, eos_bias)
        self._known: dict[tuple[tuple[int, int], ...], Tensor] = {}

    def logits(self, row: int, fed: list[tuple[int, int]]) -> Tensor:
        assert row == 0
        key = tuple(fed)
        if key not in self._known:
            self._known[key] = super().logits(row, fed)
        return self._known[key]


def run(search: BeamSearch, model: TableModel, rows: range) -> list[tuple[int, ...]]:
    """Drives a search to its end; returns the positions fed at each step."""
    sequences: list[list[list[tuple[int, int]]]] = [[[] for _ in range(search.num_beams)] for _ in rows]
    positions = []
    while not search.is_finished:
        logits = []
        for index, row in enumerate(rows):
            for beam in range(search.num_beams):
                pair = (int(search.next.ids[index, beam]), int(search.next.subs[index, beam]))
                sequences[index][beam] = [*sequences[index][beam], pair]
                logits.append(model.logits(row, sequences[index][beam]))
        positions.append(tuple(search.next.positions.unique().tolist()))
        parents = search.advance(torch.stack(logits).view(len(rows), search.num_beams, -1))
        if parents is not None:
            sequences = [[sequences[i][p] for p in row] for i, row in enumerate(parents.tolist())]
    return positions


@dataclass
class Slow:
    hypotheses: list[tuple[float, list[int]]]
    calls: int


def slow_search(model: TableModel, columns: AnswerVocabulary, row: int, generation: ChatGeneration) -> Slow:
    """One sentence, one beam and one candidate after the other, in float64."""
    width, last = generation.num_beams, generation.max_new_tokens - 1  # M' = M + 1 = N - 1
    answers: list[list[int]] = [[] for _ in range(width)]
    fed = [[(BOS, 0)] for _ in range(width)]
    sums = [0.0] + [-1e9] * (width - 1)
    heap: list[tuple[float, list[int]]] = []
    worst, done, calls = 1e9, False, 1
    for i in range(last + 1):
        calls += 1
        if done:
            break
        candidates = []
        for beam in range(width):
            values = model.logits(row, fed[beam]).double().tolist()
            if UNK not in columns.tables[row]:
                values[UNK] = -10000.0
            for column in range(VOCAB_SIZE, len(values)):
                if column not in columns.tables[row]:
                    values[column] = -10000.0
            window = fed[beam] if generation.repetition_window is None else fed[beam][-generation.repetition_window :]
            for token in {pair[0] for pair in window}:
                factor = generation.repetition_penalty
                values[token] = values[token] * factor if values[token] < 0 else values[token] / factor
            values = [value / generation.temperature for value in values]
            top = max(values)
            total = top + math.log(sum(math.exp(value - top) for value in values))
            candidates += [(value - total + sums[beam], beam, column) for column, value in enumerate(values)]
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * width]
        power = generation.length_penalty
        if len(heap) == width and worst >= candidates[0][0] / i**power:
            done = True
            continue
        chosen = []
        for total, beam, column in candidates:
            ids = answers[beam] + [column]
            if column == EOS or i == last:
                score = total / len(ids) ** power
                if len(heap) < width or score > worst:
                    heap.append((score, ids))
                    if len(heap) > width:
                        heap.remove(min(heap, key=lambda h: h[0]))
                    worst = min(h[0] for h in heap)
            else:
                chosen.append((total, beam, column))
            if len(chosen) == width:
                break
        if i < last:
            answers, fed, sums = (
                [answers[beam] + [column] for _, beam, column in chosen],
                [fed[beam] + [columns.fed(column)] for _, beam, column in chosen],
                [total for total, _, _ in chosen],
            )
    return Slow(heap, calls)


EXTENSIONS = [(UNK, 1), (UNK, 2), (9, 3)]
TABLES = [
    {UNK: "a", VOCAB_SIZE: "b", VOCAB_SIZE + 2: "c"},
    {},
    {UNK: "d", VOCAB_SIZE: "e", VOCAB_SIZE + 1: "f", VOCAB_SIZE + 2: "g"},
]
SETTINGS = [
    ChatGeneration(max_new_tokens=12),
    ChatGeneration(max_new_tokens=9, num_beams=1, temperature=1.0, repetition_penalty=1.0, length_penalty=1.0),
    ChatGeneration(max_new_tokens=14, num_beams=4, temperature=1.0, repetition_penalty=1.3, length_penalty=1.0),
    ChatGeneration(max_new_tokens=14, num_beams=2, repetition_penalty=1.4, repetition_window=3, length_penalty=0.0),
    ChatGeneration(max_new_tokens=10, num_beams=5, temperature=1.7, repetition_penalty=0.8, length_penalty=0.6),
    ChatGeneration(max_new_tokens=1),
    ChatGeneration(max_new_tokens=2, num_beams=2),
    ChatGeneration(max_new_tokens=3),
]


@pytest.mark.slow
@pytest.mark.parametrize("generation", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("eos_bias", [0.0, 3.0, 6.0])
def test_equals_plain_search(generation: ChatGeneration, eos_bias: float) -> None:
    columns = vocabulary(TABLES, EXTENSIONS)
    for seed in range(4):
        model = TableModel(seed, VOCAB_SIZE + len(EXTENSIONS), eos_bias)
        search = BeamSearch(columns, generation, CPU)
        positions = run(search, model, range(len(TABLES)))
        for row, hypotheses in enumerate(search.hypotheses):
            expected = slow_search(model, columns, row, generation)
            assert [h.ids for h in hypotheses.kept] == [ids for _, ids in expected.hypotheses]
            assert [h.score for h in hypotheses.kept] == pytest.approx(
                [s for s, _ in expected.hypotheses], rel=1e-4, abs=1e-6
            )
            assert hypotheses.best.ids == max(expected.hypotheses, key=lambda h: h[0])[1]
            assert search.reference_calls(row) == expected.calls
            assert all(len(h.ids) <= generation.max_new_tokens for h in hypotheses.kept)
        assert positions[0] == (0,)


@pytest.mark.slow
def test_some_sentences_end_early_and_others_at_the_limit() -> None:
    """Otherwise the comparison above would not reach the done test or the last iteration."""
    ends = set()
    for seed in range(4):
        for eos_bias in (0.0, 6.0):
            columns = vocabulary(TABLES, EXTENSIONS)
            search = BeamSearch(columns, SETTINGS[2], CPU)
            run(search, TableModel(seed, VOCAB_SIZE + len(EXTENSIONS), eos_bias), range(len(TABLES)))
            ends |= {sentence.done_at is None for sentence in search.sentences}
    assert ends == {True, False}


def test_sentences_of_a_batch_equal_single_runs() -> None:
    columns = vocabulary(TABLES, EXTENSIONS)
    generation = SETTINGS[2]
    model = TableModel(11, VOCAB_SIZE + len(EXTENSIONS), 3.0)
    together = BeamSearch(columns, generation, CPU)
    run(together, model, range(len(TABLES)))
    for row, table in enumerate(TABLES):
        alone = BeamSearch(vocabulary([table], EXTENSIONS), generation, CPU)
        run(alone, model, range(row, row + 1))
        assert [h.ids for h in alone.hypotheses[0].kept] == [h.ids for h in together.hypotheses[row].kept]


def logits_of(values: dict[int, float], num_beams: int, num_columns: int = VOCAB_SIZE) -> Tensor:
    logits = torch.full((1, num_beams, num_columns), -50.0)
    for column, value in values.items():
        logits[:, :, column] = value
    return logits


def test_done_test_divides_by_the_iteration_not_by_the_length() -> None:
    """With i + 1 the search would go on: the worst kept score lies between c / i and c / (i + 1)."""
    generation = ChatGeneration(
        max_new_tokens=10, num_beams=1, temperature=1.0, repetition_penalty=1.0, length_penalty=1.0
    )
    search = BeamSearch(vocabulary([{}], []), generation, CPU)
    probabilities = {EOS: math.log(0.5), 9: math.log(0.45), 10: math.log(0.05)}
    search.advance(logits_of(probabilities, 1))  # eos at score log 0.5 / 1 = -0.69 and a beam of log 0.45 = -0.80
    assert not search.is_finished and search.hypotheses[0].worst == pytest.approx(math.log(0.5), rel=1e-4)
    search.advance(logits_of({9: math.log(0.999), 10: math.log(0.001)}, 1))
    # best c = -0.80: c / i = -0.80 <= -0.69 ends the search, c / (i + 1) = -0.40 would not have.
    assert search.is_finished and search.sentences[0].done_at == 1
    assert search.reference_calls(0) == 4  # prefill, two steps, one wasted


def test_done_at_the_last_iteration_wastes_no_call() -> None:
    generation = ChatGeneration(
        max_new_tokens=2, num_beams=1, temperature=1.0, repetition_penalty=1.0, length_penalty=1.0
    )
    search = BeamSearch(vocabulary([{}], []), generation, CPU)
    search.advance(logits_of({EOS: math.log(0.5), 9: math.log(0.45), 10: math.log(0.05)}, 1))
    search.advance(logits_of({9: math.log(0.999), 10: math.log(0.001)}, 1))
    assert search.sentences[0].done_at == 1
    assert search.reference_calls(0) == 3


def test_extension_word_is_stored_as_its_column_and_fed_as_its_pair() -> None:
    generation = ChatGeneration(max_new_tokens=3, num_beams=1)
    search = BeamSearch(vocabulary([{VOCAB_SIZE + 1: "word"}], EXTENSIONS), generation, CPU)
    search.advance(logits_of({VOCAB_SIZE + 1: 5.0}, 1, VOCAB_SIZE + 3))
    assert (search.next.ids.item(), search.next.subs.item()) == (UNK, 2)
    assert (search.next.positions.item(), search.next.segments.item()) == (1, 8)
    assert search.sentences[0].beams[0].ids == [VOCAB_SIZE + 1]


def test_blocked_columns_are_never_chosen() -> None:
    """`<unk>` without a word and other sentences' words, however likely."""
    generation = ChatGeneration(max_new_tokens=1, num_beams=1)
    search = BeamSearch(vocabulary([{VOCAB_SIZE: "mine"}], EXTENSIONS), generation, CPU)
    likely = {UNK: 100.0, VOCAB_SIZE: 1.0, VOCAB_SIZE + 1: 90.0, VOCAB_SIZE + 2: 80.0}
    search.advance(logits_of(likely, 1, VOCAB_SIZE + 3))
    assert search.hypotheses[0].best.ids == [VOCAB_SIZE]


def test_window_forgets_older_tokens_and_penalises_bos() -> None:
    generation = ChatGeneration(
        max_new_tokens=4, num_beams=1, temperature=1.0, repetition_penalty=2.0, repetition_window=1
    )
    search = BeamSearch(vocabulary([{}], []), generation, CPU)
    search.advance(logits_of({BOS: 3.0, 9: 2.0}, 1))  # bos was fed: 3.0 counts as 1.5
    assert search.next.ids.item() == 9
    search.advance(logits_of({9: 3.0, BOS: 2.0}, 1))  # the window holds 9 alone: bos keeps its 2.0
    assert search.next.ids.item() == BOS


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_logits_raise(bad: float) -> None:
    search = BeamSearch(vocabulary([{}], []), ChatGeneration(), CPU)
    logits = torch.zeros(1, 3, VOCAB_SIZE)
    logits[0, 2, 5] = bad
    with pytest.raises(NonFiniteLogits, match="token 0"):
        search.advance(logits)


def test_heap_keeps_the_best_and_prefers_the_first_on_ties() -> None:
    heap = Hypotheses(2)
    assert heap.worst == 1e9
    for ids, score in ([1], -3.0), ([2], -1.0), ([3], -3.0), ([4], -2.0), ([5], -1.0):
        heap.add(Hypothesis(ids, score))
    assert [h.ids for h in heap.kept] == [[2], [5]]
    assert heap.best.ids == [2]
    assert heap.worst == -1.0


@pytest.mark.slow
def test_what_beams_have_settled_only_grows_and_is_how_the_answer_begins() -> None:
    """Over 1,000 models, beside the search that goes on to its end; that most answers are told in parts, and many
    searches ended early, shows that it does not just wait."""
    random = torch.Generator().manual_seed(5)
    num_in_parts = num_early = 0
    for seed in range(1000):
        width, longest, penalty, eos_bias = (int(torch.randint(*ends, (1,), generator=random)) for ends in _DRAWN)
        generation = ChatGeneration(
            num_beams=width,
            max_new_tokens=longest,
            length_penalty=float(penalty),
            temperature=1.0,
            repetition_penalty=1.0,
        )
        columns = vocabulary([{UNK: "?"}], [])
        rows = BeamRows(columns, generation)
        model = RememberedModel(seed, VOCAB_SIZE, float(eos_bias))
        fed: list[list[tuple[int, int]]] = [[] for _ in range(width)]
        settled = []
        while not rows.is_finished:
            fed = [[*fed[parent], pair] for parent, pair in zip(rows.parents, rows.fed, strict=True)]
            chosen = []
            for score, tokens in zip(rows.scores, fed, strict=True):
                scores = torch.log_softmax(model.logits(0, tokens), dim=-1) + score
                best, places = scores.topk(rows.num_candidates)
                chosen.append(list(zip(best.tolist(), places.tolist(), strict=True)))
            rows.advance(chosen)
            settled.append(rows.ids)
        for earlier, later in pairwise(settled):
            assert later[: len(earlier)] == earlier, (seed, earlier, later)
        whole = BeamSearch(columns, generation, CPU)
        run(whole, model, range(1))
        assert whole.answers == [settled[-1]], seed
        num_in_parts += any(settled[:-1])
        num_early += rows.num_fed < whole.iteration
    assert num_in_parts > 300 and num_early > 200, (num_in_parts, num_early)


_DRAWN = ((2, 5), (1, 14), (-1, 4), (-2, 4))  # beams, most tokens, length penalty, how eos is liked
