"""Where tensors are: on a processor both places are its memory."""

import torch

from models.engines.turns.placement import HostPlacement, placement_of


def test_a_processors_memory_counts_as_far_as_it_is_said_to() -> None:
    placement = placement_of(torch.device("cpu"), 1000)
    assert isinstance(placement, HostPlacement)
    assert (placement.name, placement.total_bytes) == ("cpu", 1000)
    assert 2**28 < placement_of(torch.device("cpu")).total_bytes < 2**48, "all that the machine has"


def test_copies_are_apart_from_what_they_are_of() -> None:
    placement = placement_of(torch.device("cpu"))
    tensor = torch.arange(4.0)
    for copy in (placement.place(tensor), placement.host_copy(tensor)):
        assert torch.equal(copy, tensor) and copy.data_ptr() != tensor.data_ptr()
    memory = placement.host_memory(100)
    assert memory.dtype == torch.uint8 and memory.shape == (100,)
    placement.settle()
