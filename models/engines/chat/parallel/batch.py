"""The batch over several ranks: rank 0 has the others feed what it feeds, and chooses alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.engines.chat.attention import AttendedRequest
from models.engines.chat.batch import DecodingBatch, Fed, RowState
from models.engines.chat.forward import AfterLayer
from models.engines.chat.kv_pool import BlockAllocator, KVPool, SlotTable
from models.engines.chat.parallel.commands import Feed, Keep, Span, TakeRows
from models.engines.chat.parallel.ranks import Ranks
from models.networks.cpm_bee.model import CPMBee


class LeadingBatch(DecodingBatch):
    """Rank 0's."""

    state: "_LeadingState"

    def __init__(self, llm: CPMBee, pool: KVPool, bos_id: int, unk_id: int, ranks: Ranks) -> None:
        super().__init__(llm, pool, bos_id, unk_id)
        self.state = _LeadingState(bos_id, llm.embedding.weight.device, ranks)
        self._ranks = ranks

    def feed(
        self, requests: Sequence[AttendedRequest], tokens: list[list[int]], after_layer: AfterLayer | None = None
    ) -> Fed:
        with self._ranks.together(Feed(spans=[self._span(request) for request in requests], tokens=tokens)):
            return super().feed(requests, tokens, after_layer)

    def keep(self, fed: Fed) -> None:
        self._ranks.tell(Keep())
        super().keep(fed)

    def _span(self, request: AttendedRequest) -> Span:
        row, blocks = request.rows[0], request.table.blocks
        more_blocks = blocks[self.state.told_blocks.get(row, 0) :]
        self.state.told_blocks[row] = len(blocks)
        return Span(row, request.num_answer_slots, more_blocks)


class _LeadingState(RowState):
    def __init__(self, bos_id: int, device: torch.device, ranks: Ranks) -> None:
        super().__init__(bos_id, device)
        self.told_blocks: dict[int, int] = {}  # of the request whose first row that is
        self._ranks = ranks

    def take(self, count: int) -> list[int]:
        rows = super().take(count)
        self.told_blocks[rows[0]] = 0
        self._ranks.tell(TakeRows(rows))
        return rows


@dataclass
class FollowedRequest:
    """What another rank keeps of a request in decoding."""

    rows: list[int]
    prompt_length: int
    to_prompt: Tensor  # (H, L), of the rank's heads
    num_answer_slots: int = 0
    table: SlotTable = field(default_factory=lambda: SlotTable(BlockAllocator(0)))  # rank 0 allocates


class FollowingBatch:
    """Another rank's: it feeds what it is told. Call under `torch.inference_mode()`."""

    def __init__(self, llm: CPMBee, pool: KVPool, bos_id: int, unk_id: int) -> None:
        self._batch = DecodingBatch(llm, pool, bos_id, unk_id)
        self._requests: dict[int, FollowedRequest] = {}  # by their first row: a row's next request takes its place
        self._fed: Fed | None = None

    def begin(self, rows: list[int], to_prompt: Tensor) -> None:
        """An answer to a prompt that was read."""
        self._batch.state.make(rows)
        self._requests[rows[0]] = FollowedRequest(rows, to_prompt.shape[1], to_prompt)

    def feed(self, command: Feed) -> None:
        requests = []
        for span in command.spans:
            request = self._requests[span.row]
            request.num_answer_slots = span.num_answer_slots
            request.table.blocks += span.more_blocks
            requests.append(request)
        self._fed = self._batch.feed(requests, command.tokens)

    def keep(self) -> None:
        assert self._fed is not None, "nothing was fed"
        self._batch.keep(self._fed)
        self._fed = None
