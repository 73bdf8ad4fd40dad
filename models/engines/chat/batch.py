"""One forward a step over all rows of all requests that decode: beams, greedy and sampled ones side by side.

R rows, D width, H heads, L prompt tokens of a request, T fed tokens, S answer slots.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.engines.chat.answer_slots import AnswerSlots
from models.engines.chat.attention import AttendedRequest
from models.engines.chat.forward import AfterLayer, choose_forward
from models.engines.chat.kv_pool import KVPool, SlotTable
from models.engines.chat.search.selection import Choices, RowSettings, choose, penalise, repeated_columns
from models.engines.chat.search.vocabulary import MASKED_LOGIT, AnswerVocabulary
from models.jobs import ChatGeneration
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.position_bias import PositionBias


class RowSearch(Protocol):
    """What chooses a request's tokens: BeamRows or SampledRow."""

    num_rows: int
    num_candidates: int
    fed: list[tuple[int, int]]
    parents: list[int]

    @property
    def num_fed(self) -> int: ...

    @property
    def is_finished(self) -> bool: ...

    @property
    def ids(self) -> list[int]: ...

    @property
    def scores(self) -> Sequence[float]: ...

    def advance(self, rows: Sequence[Sequence[tuple[float, int]]]) -> None: ...


@dataclass
class Sequences:
    """The rows of one request in decoding: the batch's side of it."""

    generation: ChatGeneration
    search: RowSearch
    table: SlotTable
    prompt_length: int
    to_prompt: Tensor  # (H, L) bias of the answer's tokens towards the prompt's
    extension_rows: Tensor | None  # (E, D)
    blocked_extensions: Tensor | None  # (E,) bool
    is_unknown_blocked: bool  # `<unk>` has no text of its own here
    rows: list[int]  # of the state
    answer: AnswerSlots = field(init=False)
    slots: list[int] = field(init=False)  # of the tokens to be fed, counted within the answer
    draw: float | None = None  # random number of the token to be chosen

    def __post_init__(self) -> None:
        self.answer = AnswerSlots(self.search.num_rows)
        self.begin_step()

    @property
    def num_answer_slots(self) -> int:
        return self.answer.size

    def begin_step(self) -> None:
        """Finds slots for the tokens to be fed, and draws; once for each step, however often the step is tried."""
        self.slots = self.answer.feed(self.search.parents)
        draw = getattr(self.search, "draw", None)
        self.draw = draw() if draw is not None and self.generation.do_sample else None

    def advance(self, choices: Sequence[Choices]) -> None:
        self.search.advance(choices)
        if not self.search.is_finished:
            self.begin_step()

    def settings(self) -> list[RowSettings]:
        count = self.search.num_candidates
        return [RowSettings(self.generation, count, score, self.draw) for score in self.search.scores]


class RowState:
    """What a row has been fed, and which slots it descends from; rows are taken and given back by requests.

    `fed` (rows, T) ids; `positions` (rows, S) that of the token in a slot, -1 where the row does not descend from it.
    What a row held for its last request stays in it until its next one's first token is fed.
    """

    def __init__(self, bos_id: int, device: torch.device) -> None:
        self._bos_id = bos_id
        self._free: list[int] = []
        self.fed = torch.full((0, 1), bos_id, device=device)
        self.positions = torch.full((0, 1), -1, device=device)

    def take(self, count: int) -> list[int]:
        """Rows, for a request that begins."""
        if len(self._free) < count:
            old = len(self.fed)
            new = max(count, old, 8)
            self._grow(new)
            self._free += range(old, old + new)
        return [self._free.pop() for _ in range(count)]

    def make(self, rows: list[int]) -> None:
        """Those of them that are not there yet."""
        if (missing := max(rows) + 1 - len(self.fed)) > 0:
            self._grow(missing)

    def give_back(self, rows: list[int]) -> None:
        self._free += rows

    def reserve(self, num_tokens: int, num_slots: int) -> None:
        """Makes the two at least so wide."""
        if self.fed.shape[1] < num_tokens:
            self.fed = F.pad(self.fed, (0, num_tokens), value=self._bos_id)
        if self.positions.shape[1] < num_slots:
            self.positions = F.pad(self.positions, (0, num_slots), value=-1)

    def _grow(self, num_rows: int) -> None:
        self.fed = F.pad(self.fed, (0, 0, 0, num_rows), value=self._bos_id)
        self.positions = F.pad(self.positions, (0, 0, 0, num_rows), value=-1)


@dataclass(frozen=True)
class Fed:
    """What a token of every row gave, and what the state will hold of it."""

    hidden: Tensor  # (R, D) after the output norm
    logits: Tensor  # (R, V)
    rows: Tensor  # (R,) of the state
    fed_ids: Tensor  # (R, T)
    positions: Tensor  # (R, S)


class DecodingBatch:
    """The language model's decoding of any set of requests. Call under `torch.inference_mode()`."""

    def __init__(self, llm: CPMBee, pool: KVPool, bos_id: int, unk_id: int) -> None:
        self.pool = pool
        self.state = RowState(bos_id, llm.embedding.weight.device)
        self._llm = llm
        self._unk_id = unk_id
        self._by_distance = bias_by_distance(llm.position_bias)
        self._forward = choose_forward(llm, pool, self._by_distance)

    @property
    def _device(self) -> torch.device:
        return self._llm.embedding.weight.device

    def step(self, requests: Sequence[Sequences], after_layer: AfterLayer | None = None) -> list[list[Choices] | None]:
        """Feeds one token of every row of every request -> each request's choices by row; None: its logits are not
        finite. What it writes is written again in the same way where it is called again for the same tokens.

        Args:
            after_layer: called with the number of each layer while it is there, for others to use it.
        """
        tokens = self._tokens(requests)
        fed = self.feed(requests, tokens, after_layer)
        choices = self._choose(requests, fed, nows=tokens[3])
        self.keep(fed)
        return choices

    def feed(
        self, requests: Sequence[AttendedRequest], tokens: list[list[int]], after_layer: AfterLayer | None = None
    ) -> Fed:
        """Runs the language model over a token of every row, whose keys and values go into the pool.

        Args:
            tokens: by row of the requests, see `_tokens`.
        """
        rows = [row for request in requests for row in request.rows]
        self.state.reserve(max(tokens[3]) + 1, max(request.num_answer_slots for request in requests))
        index = torch.tensor([rows, *tokens]).to(self._device)
        row_index, source_index, ids, sub_index, now, slot_index, place_index = index.unbind()  # (R,) each

        fed_ids = self.state.fed[source_index]  # (R, T)
        fed_ids.scatter_(1, now[:, None], ids[:, None])
        positions = self.state.positions[source_index]  # (R, S)
        positions.masked_fill_(now[:, None] == 0, -1)
        positions.scatter_(1, slot_index[:, None], now[:, None])

        distances = (now[:, None] - positions).clamp(max=len(self._by_distance) - 2) + 1
        distances.masked_fill_(positions < 0, 0)
        hidden = self._forward(requests, distances, place_index, ids, sub_index, after_layer)  # (R, D)
        return Fed(hidden, self._llm.logits(hidden, None), row_index, fed_ids, positions)

    def release(self) -> None:
        """Gives back what is kept on the device beside the state and the pool."""
        self._forward.release()

    def keep(self, fed: Fed) -> None:
        """Enters what was fed into the state: not before it gave choices, for it may have to be fed again."""
        self.state.fed[fed.rows] = fed.fed_ids
        self.state.positions[fed.rows] = fed.positions

    def _tokens(self, requests: Sequence[Sequences]) -> list[list[int]]:
        """By row: the state's row it goes on from, id, sub index, position, slot in the answer, slot in the pool."""
        table: list[list[int]] = [[], [], [], [], [], []]
        for request in requests:
            search = request.search
            for parent, (token, sub), slot in zip(search.parents, search.fed, request.slots, strict=True):
                place = request.table.slot(request.prompt_length + slot)
                for column, value in zip(
                    table, (request.rows[parent], token, sub, search.num_fed, slot, place), strict=True
                ):
                    column.append(value)
        return table

    def _choose(self, requests: Sequence[Sequences], fed: Fed, nows: list[int]) -> list[list[Choices] | None]:
        sizes = _sizes(requests)
        logits = fed.logits.float()  # (R, V)
        finite = logits.sum(-1).isfinite()  # (R,); sums of sane logits cannot overflow float32
        masked = [request.is_unknown_blocked for request in requests for _ in request.rows]
        if any(masked):
            logits[torch.tensor(masked, device=logits.device), self._unk_id] = MASKED_LOGIT
        if any(request.extension_rows is not None for request in requests):
            logits = torch.cat([logits, self._extensions(requests, fed.hidden.split(sizes))], dim=-1)
        settings = [row for request in requests for row in request.settings()]
        penalise(logits, repeated_columns(fed.fed_ids, nows, settings), settings)
        choices = choose(logits, finite, settings)

        by_request: list[list[Choices] | None] = []
        start = 0
        for size in sizes:
            own = choices[start : start + size]
            by_request.append(own if all(own) else None)
            start += size
        return by_request

    def _extensions(self, requests: Sequence[Sequences], hidden: Sequence[Tensor]) -> Tensor:
        """Logits (R, E) of each request's own words; no row may use a column that is another's."""
        width = max(0 if request.extension_rows is None else len(request.extension_rows) for request in requests)
        parts = []
        for request, states in zip(requests, hidden, strict=True):
            if request.extension_rows is None or request.blocked_extensions is None:
                parts.append(states.new_full((len(states), width), -math.inf, dtype=torch.float32))
                continue
            own = F.linear(states, request.extension_rows).float()
            own = own.masked_fill(request.blocked_extensions, MASKED_LOGIT)
            parts.append(F.pad(own, (0, width - own.shape[1]), value=-math.inf))
        return torch.cat(parts)


def bias_by_distance(position_bias: PositionBias) -> Tensor:
    """Bias (2 + max distance, H) of the answer's tokens towards each other: -inf for one that is none of a row's past,
    then towards the token 0, 1, 2, ... before."""
    before = -torch.arange(position_bias.max_distance + 1)
    relations = torch.zeros(1, 1, len(before), dtype=torch.int64)
    device = position_bias.weight.device
    bias = position_bias(relations.to(device), before[None, None].to(device))[0, :, 0]  # (H, 1 + max distance)
    return F.pad(bias.t(), (0, 0, 1, 0), value=-math.inf)


def blocked_columns(vocabulary: AnswerVocabulary, device: torch.device) -> tuple[bool, Tensor | None]:
    """Whether `<unk>` is blocked, and which of the E extension columns are (SPEC §7 step 2)."""
    [table], first, count = vocabulary.tables, vocabulary.vocab_size, len(vocabulary.extension_ids)
    blocked = [column not in table for column in range(first, first + count)]
    return vocabulary.unk_id not in table, torch.tensor(blocked, device=device) if blocked else None


def _sizes(requests: Sequence[AttendedRequest]) -> list[int]:
    return [len(request.rows) for request in requests]
