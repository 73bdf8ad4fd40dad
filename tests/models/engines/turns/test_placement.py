"""Where tensors are: on a processor both places are its memory."""

import pytest
import torch

from models.engines.turns.placement import CudaPlacement, HostPlacement, placement_of


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA: needs a GPU")
def test_a_gpus_copies_are_page_locked_and_its_memory_is_free_again() -> None:
    placement = placement_of(torch.device("cuda"))
    assert isinstance(placement, CudaPlacement) and placement.device.index is not None
    assert placement.name.startswith("cuda-") and len(placement.name) > 30
    assert placement.total_bytes == torch.cuda.get_device_properties(0).total_memory
    assert placement.host_memory(3 << 20).is_pinned() and placement.host_memory(0).numel() == 0
    tensor = placement.place(torch.arange(64.0 * 2**20))
    copy = placement.host_copy(tensor)
    placement.settle()
    assert copy.is_pinned() and torch.equal(copy, tensor.cpu())
    before, _ = torch.cuda.mem_get_info()
    tensor.untyped_storage().resize_(0)
    placement.settle()
    assert torch.cuda.mem_get_info()[0] - before >= 256 << 20
