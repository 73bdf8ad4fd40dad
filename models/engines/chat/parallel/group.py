"""The ranks as a group whose members compute together: sums, broadcasts and gathers of tensors.

NCCL between GPUs, gloo between processors' processes.
"""

import os
import socket
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from models.networks.cpm_bee.sharding import Shard

_LOOPBACKS = ("lo", "lo0")  # Linux, macOS
_GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"


class Group:
    """One rank's end. Every member makes the same calls in the same order; each raises RuntimeError where one is gone
    or does not come within the group's timeout."""

    def __init__(self, shard: Shard, members: dist.ProcessGroup) -> None:
        self.shard = shard
        self._members = members

    def sum(self, x: Tensor) -> Tensor:
        """Of all members' tensors of that shape, in place of each."""
        x = x.contiguous()
        self._members.allreduce([x]).wait()
        return x

    def broadcast(self, x: Tensor) -> Tensor:
        """Rank 0's, in place of the others'."""
        x = x.contiguous()
        self._members.broadcast(x, 0).wait()
        return x

    def gather(self, x: Tensor) -> list[Tensor]:
        """Every member's, by rank: for rank 0; the others get none."""
        gathered = [torch.empty_like(x) for _ in range(self.shard.size)] if self.shard.rank == 0 else []
        options = dist.GatherOptions()
        options.rootRank = 0
        self._members.gather([gathered] if gathered else [], [x.contiguous()], options).wait()
        return gathered


def join(shard: Shard, device: torch.device, store_file: Path, timeout_s: float) -> Group:
    """Waits until all members are there. A process is in one group at a time, until `leave`.

    Args:
        store_file: of a folder that this group has for itself, so that no port has to be chosen.

    Raises:
        RuntimeError: they are not within the timeout.
    """
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.set_device(device)
    else:  # all on one machine: its name may stand for an address that nobody reaches
        loopback = next((name for _, name in socket.if_nameindex() if name in _LOOPBACKS), None)
        if loopback is not None:
            os.environ.setdefault(_GLOO_INTERFACE, loopback)
    dist.init_process_group(
        "nccl" if is_cuda else "gloo",
        store=dist.FileStore(str(store_file), shard.size),  # type: ignore[attr-defined]
        rank=shard.rank,
        world_size=shard.size,
        timeout=timedelta(seconds=timeout_s),
        device_id=device if is_cuda else None,
    )
    members = dist.group.WORLD
    assert members is not None
    return Group(shard, members)


def leave() -> None:
    """Ends this process' part, whether or not the others are there."""
    if not dist.is_initialized():
        return
    if dist.get_backend() == "nccl":  # whose usual end waits for all
        dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()
