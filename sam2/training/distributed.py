"""The processes that `torchrun` started: which one this is, and what they tell one another."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class World:
    """Which process this is, of how many."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Writes files and reports."""
        return self.rank == 0


def join(device: torch.device) -> World:
    """The processes that torchrun started, or this one alone.

    One group serves all runs of a process, to its end: a second one would find the first one's addresses in
    torchrun's store.
    """
    if "WORLD_SIZE" not in os.environ:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), dist.get_world_size())


def share_weights(model: nn.Module, here: World) -> None:
    """All processes start from the first one's weights."""
    if here.size > 1:
        for value in model.state_dict().values():
            dist.broadcast(value, 0)


def mean_values(values: dict[str, float], here: World) -> dict[str, float]:
    """The mean over processes of what each measured."""
    if here.size == 1:
        return values
    gathered: list[dict[str, float] | None] = [None] * here.size
    dist.all_gather_object(gathered, values)
    names = {name for part in gathered if part for name in part}
    found = {n: [part[n] for part in gathered if part and n in part] for n in sorted(names)}
    return {name: sum(parts) / len(parts) for name, parts in found.items()}


def any_of(flags: list[bool], here: World, device: torch.device) -> list[bool]:
    """For each flag, whether any process raised it."""
    if here.size == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]
