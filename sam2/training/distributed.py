"""Several processes under `torchrun`: gradients are summed once an optimiser step.

Not `DistributedDataParallel`: stills leave the memory's parameters without a gradient and clips do not,
which with accumulation it either refuses or lets drift apart. Here a parameter that no process used stays
untouched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET = 25 * 2**20
"""Bytes of gradients that travel together."""


@dataclass(frozen=True)
class World:
    """Which process this is, of how many."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Writes files and reports."""
        return self.rank == 0


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started, or this one alone."""
    if "WORLD_SIZE" not in os.environ:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def share_weights(model: nn.Module, here: World) -> None:
    """All processes start from the first one's weights."""
    if here.size > 1:
        for value in model.state_dict().values():
            dist.broadcast(value, 0)


def sum_gradients(parameters: list[nn.Parameter], here: World) -> None:
    """Sums gradients over all processes; a parameter that none used keeps no gradient."""
    if here.size == 1:
        return
    used = torch.tensor(
        [p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device
    )
    dist.all_reduce(used, dist.ReduceOp.MAX)
    touched = [p for p, u in zip(parameters, used.tolist()) if u]
    gradients: list[Tensor] = []
    for p in touched:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        gradients.append(p.grad)
    bucket: list[Tensor] = []
    filled = 0
    for i, gradient in enumerate(gradients):
        bucket.append(gradient)
        filled += gradient.numel() * gradient.element_size()
        if filled >= BUCKET or i == len(gradients) - 1:
            flat = torch.cat([g.flatten() for g in bucket])
            dist.all_reduce(flat)
            for g, part in zip(bucket, flat.split([g.numel() for g in bucket])):
                g.copy_(part.view_as(g))
            bucket, filled = [], 0


def mean_values(values: dict[str, float], here: World) -> dict[str, float]:
    """The mean over processes of what each measured."""
    if here.size == 1:
        return values
    gathered: list[dict[str, float] | None] = [None] * here.size
    dist.all_gather_object(gathered, values)
    names = {name for part in gathered if part for name in part}
    found = {n: [part[n] for part in gathered if part and n in part] for n in sorted(names)}
    return {name: sum(parts) / len(parts) for name, parts in found.items()}
