"""What each row of a batch may go on with: from logits to the few best columns, in one small transfer (SPEC §7).

R rows, V vocabulary, E extension columns, T fed tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.chat.search.sampling import sample
from models.jobs import ChatGeneration

Choices = list[tuple[float, int]]  # (score, column), best first


@dataclass(frozen=True)
class RowSettings:
    """How one row chooses. `draw` is the random number of a sampled one."""

    generation: ChatGeneration
    num_candidates: int
    score: float = 0.0  # of the beam so far
    draw: float | None = None

    @property
    def is_beam(self) -> bool:
        return self.draw is None and self.num_candidates > 1


def repeated_columns(fed: Tensor, num_fed: Sequence[int], rows: Sequence[RowSettings]) -> Tensor:
    """Fed ids (R, T), of which the first `num_fed` + 1 of a row count -> (R, T): those within each row's window, and
    the newest in place of the others."""
    newest = torch.tensor(num_fed, device=fed.device)[:, None]  # (R, 1)
    windows = [row.generation.repetition_window or fed.shape[1] for row in rows]
    oldest = newest + 1 - torch.tensor(windows, device=fed.device)[:, None]
    places = torch.arange(fed.shape[1], device=fed.device)
    return torch.where((places >= oldest) & (places <= newest), fed, fed.gather(1, newest))


def penalise(logits: Tensor, columns: Tensor, rows: Sequence[RowSettings]) -> None:
    """Divides the positive and multiplies the negative logits of the columns (R, T) by each row's penalty, in place."""
    penalties = [row.generation.repetition_penalty for row in rows]
    if all(penalty == 1 for penalty in penalties):
        return
    penalty = torch.tensor(penalties, device=logits.device, dtype=logits.dtype)[:, None]
    repeated = logits.gather(-1, columns)
    logits.scatter_(-1, columns, torch.where(repeated < 0, repeated * penalty, repeated / penalty))


def choose(logits: Tensor, finite: Tensor, rows: Sequence[RowSettings]) -> list[Choices]:
    """Each row's choices from its logits (R, V + E), float32, masked and penalised, which are overwritten.

    A beam's are its best columns with the whole beam's scores; a greedy or sampled row has one, of score 0; a row that
    is not `finite` (R,) has none.
    """
    beams = [number for number, row in enumerate(rows) if row.is_beam]
    others = [number for number, row in enumerate(rows) if not row.is_beam]
    fetched: list[Tensor] = [finite.double()]
    count = min(max((rows[number].num_candidates for number in beams), default=0), logits.shape[1])
    if beams:
        of_beams = logits if not others else logits[beams]
        best, columns = _best(of_beams, [rows[number] for number in beams], count)
        fetched += [best.double().flatten(), columns.double().flatten()]
    for number in others:
        fetched.append(_single(logits[number], rows[number]).double()[None])
    # float64 holds float32 scores and columns exactly, so that one transfer fetches them all.
    numbers = torch.cat(fetched).tolist()
    are_finite, numbers = numbers[: len(rows)], numbers[len(rows) :]
    choices: list[Choices] = [[] for _ in rows]
    size = len(beams) * count
    for place, number in enumerate(beams):
        span = slice(place * count, (place + 1) * count)
        choices[number] = list(zip(numbers[:size][span], map(int, numbers[size : 2 * size][span]), strict=True))
    for number, column in zip(others, numbers[2 * size :], strict=True):
        choices[number] = [(0.0, int(column))]
    return [found if is_finite else [] for found, is_finite in zip(choices, are_finite, strict=True)]


def _best(logits: Tensor, rows: Sequence[RowSettings], count: int) -> tuple[Tensor, Tensor]:
    """Scores and columns (R, count) of beams, best first."""
    device = logits.device
    temperatures = torch.tensor([row.generation.temperature for row in rows], device=device)[:, None]
    scores = torch.tensor([row.score for row in rows], device=device)[:, None]
    log_probabilities = torch.log_softmax(logits.div_(temperatures), dim=-1)
    best, columns = log_probabilities.topk(count)
    return best + scores, columns


def _single(logits: Tensor, row: RowSettings) -> Tensor:
    """The column of a greedy or sampled row, int64 ()."""
    generation = row.generation
    if row.draw is None:
        return logits.argmax()
    draw = torch.tensor(row.draw, dtype=torch.float64, device=logits.device)
    return sample(logits, draw, temperature=generation.temperature, top_k=generation.top_k, top_p=generation.top_p)
