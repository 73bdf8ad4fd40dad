"""A GPU's decoding step: the layers as one CUDA graph for each padded number of rows.

A step launches some two thousand small kernels, which takes the host longer than the GPU; a graph launches all at once.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from models.engines.chat.attention import AttendedRequest
from models.engines.chat.forward import AfterLayer, run_layers
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.paged.attention import ROW_COUNTS, PagedAttention, StepBuffers
from models.networks.cpm_bee.model import CPMBee

logger = logging.getLogger(__name__)

MOST_MOVES = 3  # of the weights, after which no graph is made any more


@dataclass
class CapturedLayers:
    """The layers over one set of buffers, as a graph that reads the weights where they lay."""

    graph: "torch.cuda.CUDAGraph"
    hidden: Tensor  # (R, D), which a replay overwrites
    addresses: list[int]


class PagedForward:
    """Implements forward.Forward on a CUDA device, or in Triton's interpreter on a CPU, where nothing is captured."""

    def __init__(self, llm: CPMBee, pool: KVPool, by_distance: Tensor) -> None:
        self._llm = llm
        self._attention = PagedAttention(pool, by_distance)
        # Layers that come and go are not where they were, and ranks meet between launches
        is_whole = isinstance(llm.layers, nn.ModuleList) and llm.num_ranks == 1
        self._captures = by_distance.device.type == "cuda" and is_whole
        self._captured: dict[int, tuple[StepBuffers, CapturedLayers]] = {}  # by number of rows
        self._memory = torch.cuda.graph_pool_handle() if self._captures else None
        self._weights = list(llm.parameters())
        self._num_moves = 0

    def __call__(
        self,
        requests: Sequence[AttendedRequest],
        distances: Tensor,
        places: Tensor,
        ids: Tensor,
        subs: Tensor,
        after_layer: AfterLayer | None = None,
    ) -> Tensor:
        self._attention.begin(requests, distances, places, ids, subs)
        buffers = self._attention.buffers
        captured = self._captured_for(buffers)
        if captured is None:
            hidden = self._run(buffers, after_layer)
        else:
            captured.graph.replay()
            hidden = captured.hidden
        return hidden[: len(ids)]

    def release(self) -> None:
        self._captured.clear()

    def _run(self, buffers: StepBuffers, after_layer: AfterLayer | None = None) -> Tensor:
        return run_layers(self._llm, self._attention, buffers.ids, buffers.subs, after_layer)

    def _captured_for(self, buffers: StepBuffers) -> CapturedLayers | None:
        """The graph over these buffers, made where there is none; None: this step goes launch by launch."""
        if not self._captures or buffers.num_rows > ROW_COUNTS[-1]:
            return None
        addresses = weight_addresses(self._weights)
        known, captured = self._captured.get(buffers.num_rows, (None, None))
        if known is buffers and captured is not None and captured.addresses == addresses:
            return captured
        if captured is not None and captured.addresses != addresses:
            self._captured.clear()
            self._num_moves += 1
        if self._num_moves >= MOST_MOVES:
            logger.info("weights that move are in no CUDA graph: steps go launch by launch")
            self._captures = False
            return None
        try:
            captured = self._capture(buffers, addresses)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning(
                "no CUDA graph of the decoding step (%s): it goes launch by launch", str(error).split("\n")[0]
            )
            self._captures = False
            return None
        self._captured[buffers.num_rows] = buffers, captured
        return captured

    def _capture(self, buffers: StepBuffers, addresses: list[int]) -> CapturedLayers:
        """What it runs beforehand is run again by the replay, with the same outcome: a step may be repeated."""
        device = buffers.ids.device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._run(buffers)  # compiles, and sets libraries up, which no capture allows
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may ask the device for its memory meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, stream=stream, capture_error_mode="thread_local"):
            hidden = self._run(buffers)
        return CapturedLayers(graph, hidden, addresses)


def weight_addresses(weights: Sequence[nn.Parameter]) -> list[int]:
    """Where they lie, quantized ones by their parts. It is asked at every step."""
    return [
        part.data_ptr()
        for weight in weights
        for part in ((weight,) if type(weight) is nn.Parameter else _parts(weight))
    ]


def _parts(tensor: Tensor) -> list[Tensor]:
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(tensor, name))]
