"""Where layers wait: in a file whose pages are given back, or in memory."""

import sys
from pathlib import Path

import pytest
import torch

from models.checkpoints.loading import load_chat
from models.engines.offload.host_layers import HostLayers, can_pin, pieces
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.model import CPMBee


def test_layers_of_a_file_are_read_again_after_they_were_let_go(chat_folder: Path) -> None:
    host = HostLayers(load_chat(chat_folder).model.llm.layers)
    assert host.is_mapped and len(host) == 5
    before = [parameter.clone() for parameter in host.parameters(3)]
    for _ in range(2):
        host.release(3)
        assert all(torch.equal(now, then) for now, then in zip(host.parameters(3), before, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")
def test_a_layer_that_was_let_go_takes_no_memory(tmp_path: Path) -> None:
    config = CPMBeeConfig(10, dim_model=512, dim_ff=1024, num_layers=2, num_heads=8, dim_head=64)
    file = tmp_path / "layers.pt"
    torch.save(CPMBee(config).layers.state_dict(), file)
    layers = CPMBee(config).layers.requires_grad_(False)
    mapped = torch.load(file, mmap=True, weights_only=True)
    for name, tensor in mapped.items():
        layers.get_parameter(name).data = tensor
    host = HostLayers(layers)
    layer_bytes = sum(parameter.nbytes for parameter in host.parameters(0))
    for parameter in host.parameters(0):
        parameter.sum()
    held = resident_file_bytes()
    host.release(0)
    assert held - resident_file_bytes() > 0.9 * layer_bytes


def resident_file_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile:")) * 1024


def test_layers_in_memory_keep_what_they_hold() -> None:
    config = CPMBeeConfig(10, dim_model=64, dim_ff=128, num_layers=2, num_heads=2, dim_head=32)
    layers = CPMBee(config).layers.requires_grad_(False)
    before = [parameter.clone() for parameter in layers[1].parameters()]
    host = HostLayers(layers)
    assert not host.is_mapped
    host.release(1)
    assert all(torch.equal(now, then) for now, then in zip(host.parameters(1), before, strict=True))


@pytest.mark.slow
def test_pieces_are_the_whole_and_no_larger_than_what_is_pinned_without_waste() -> None:
    flat = torch.arange(20_000_000, dtype=torch.float32)
    parts = pieces(flat)
    assert torch.equal(torch.cat(list(parts)), flat)
    assert {part.nbytes for part in parts[:-1]} == {2**25} and parts[-1].nbytes <= 2**25


def test_no_more_is_pinned_than_the_host_has() -> None:
    assert can_pin(1) and not can_pin(1 << 60)
