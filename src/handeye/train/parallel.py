"""One or several processes (`torchrun`), and where the weights are: whole in each (DDP), or in parts (FSDP2)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from handeye.compute.device import device_of
from handeye.train.config import Sharing


@dataclass(frozen=True)
class World:
    """Who this process is among those that train together."""

    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """The one that writes and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Added up over all processes, in place."""
        if self.ranks > 1:
            distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        if self.ranks > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[tuple[World, str]]:
    """What torchrun says, and this process's own device, which is there. Alone if nobody says anything."""
    if "WORLD_SIZE" not in os.environ:
        yield World(), device_of(device)
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = device_of(f"cuda:{local}" if device_of(device) == "cuda" else device)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()


class _Called(nn.Module):
    """What DDP and FSDP watch is a module being called; so every use of the model is a call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, what: str, batch: Mapping[str, Tensor]) -> Any:
        return getattr(self.model, what)(batch)


class Shared:
    """A model that all processes train together."""

    def __init__(self, model: nn.Module, world: World, sharing: Sharing, blocks: Sequence[nn.Module]) -> None:
        self.model, self.world = model, world
        called: nn.Module = _Called(model)
        self._synchronised: nn.Module | None = None
        if world.ranks > 1 and sharing == "fsdp":
            called = _in_parts(called, blocks)
        elif world.ranks > 1:
            # Parts that no output depends on are frozen before (Begin.frozen): nobody waits for their gradients.
            self._synchronised = nn.parallel.DistributedDataParallel(called)
        self._called = called

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        found: tuple[Tensor, dict[str, Tensor]] = (self._synchronised or self._called)("loss", batch)
        return found

    def sample_actions(self, batch: Mapping[str, Tensor]) -> Tensor:
        answered: Tensor = self._called("sample_actions", batch)
        return answered

    def last(self, last: bool) -> AbstractContextManager[object]:
        """Around one part of a batch: gradients are exchanged with the last one only."""
        if isinstance(self._synchronised, nn.parallel.DistributedDataParallel) and not last:
            return self._synchronised.no_sync()
        if self.world.ranks > 1 and self._synchronised is None:
            self._called.set_requires_gradient_sync(last)  # type: ignore[operator]
        return contextlib.nullcontext()


def _in_parts(called: nn.Module, blocks: Sequence[nn.Module]) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block)
    fully_shard(called)
    return called


# ---- single tensors, whole or in parts -------------------------------------------------------------------------------


def local(tensor: Tensor) -> Tensor:
    """What of it is here. Shares memory with it."""
    to_local = getattr(tensor, "to_local", None)
    found: Tensor = to_local() if to_local is not None else tensor
    return found


def whole(tensor: Tensor) -> Tensor:
    """All of it. Every process must ask."""
    full_tensor = getattr(tensor, "full_tensor", None)
    found: Tensor = full_tensor() if full_tensor is not None else tensor
    return found


@torch.no_grad()
def put(target: Tensor, source: Tensor) -> None:
    """A whole tensor into one that may lie in parts. Memory layouts, which decide the order of sums, stay."""
    if hasattr(target, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        placed: Any = target
        source = distribute_tensor(source.to(local(target).device), placed.device_mesh, placed.placements)
    local(target).copy_(local(source))


def as_part_of(like: Tensor, part: Tensor) -> Tensor:
    """This process's part of something, with the place that it has in a tensor that lies in parts."""
    if not hasattr(like, "device_mesh"):
        return part
    from torch.distributed.tensor import DTensor

    placed: Any = like
    return DTensor.from_local(
        part, placed.device_mesh, placed.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
