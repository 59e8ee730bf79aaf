"""AdamW with layer-wise learning rates on the trunk, and the schedule of the learning rate."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

SCHEDULES = ("cosine", "linear", "constant", "trapezoid")


@dataclass(frozen=True)
class OptimOptions:
    """The optimiser and its schedule."""

    lr: float = 4e-4
    """Peak learning rate."""
    trunk_lr: float | None = None
    """Peak learning rate at the trunk's last layer; `lr` where it is not given."""
    layer_decay: float = 1.0
    """Each earlier layer of the trunk learns so many times as fast as the next (below 1 keeps a good one)."""
    weight_decay: float = 0.1
    """AdamW's, on the weights of linear and convolution layers only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    schedule: str = "cosine"
    """After the warm-up: `cosine`, `linear`, `constant`, or `trapezoid` (constant, the last fifth linear)."""
    warmup: int = 100
    """Optimiser steps over which the rate rises linearly from 0."""
    final: float = 0.01
    """The rate at the end, as a share of the peak."""
    clip: float | None = 0.1
    """Largest norm of the gradient; larger ones are scaled down."""
    freeze: tuple[str, ...] = ()
    """Patterns (`image_encoder.trunk.*`) of parameters that stay as they are."""

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; it must be one of {', '.join(SCHEDULES)}")
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}; it must be above 0")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; it must be above 0 and at most 1")


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Stops the gradient of every parameter whose name fits a pattern; returns the names.

    Raises ValueError for a pattern that fits none.
    """
    names = [name for name, _ in model.named_parameters()]
    frozen = set()
    for pattern in patterns:
        hit = fnmatch.filter(names, pattern)
        if not hit:
            raise ValueError(f"freeze: no parameter is called {pattern!r} (names look like {names[0]!r})")
        frozen.update(hit)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return sorted(frozen)


def _decayed(model: nn.Module) -> set[str]:
    """Names of the weights that decay: neither biases, norms, position tables nor learnt tokens do."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, layers)}


def _trunk_share(name: str, trunk: Any, decay: float) -> float:
    layer = trunk.get_layer_id(name)
    return float(decay ** max(0, trunk.get_num_layers() - layer))


def parameter_groups(model: nn.Module, options: OptimOptions) -> list[dict[str, Any]]:
    """Parameters that learn, grouped by rate and decay; each group carries its peak rate as `peak_lr`.

    model: a SAM2Base (its trunk at `image_encoder.trunk`) or anything else, whose rates are then all equal.
    """
    trunk = getattr(getattr(model, "image_encoder", None), "trunk", None)
    trunk_lr = options.lr if options.trunk_lr is None else options.trunk_lr
    decayed = _decayed(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        lr = options.lr
        if trunk is not None and name.startswith("image_encoder.trunk."):
            lr = trunk_lr * _trunk_share(name, trunk, options.layer_decay)
        decay = options.weight_decay if name in decayed else 0.0
        group = groups.setdefault(
            (lr, decay), {"params": [], "names": [], "lr": lr, "peak_lr": lr, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("every parameter is frozen: nothing is left to train")
    return list(groups.values())


def make_optimizer(model: nn.Module, options: OptimOptions) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; fused where the parameters are on a GPU."""
    first = next(model.parameters())
    fused = first.is_cuda
    # split tensors (FSDP2) are dear to dispatch: all of them in one call
    foreach = True if isinstance(first, DTensor) and not fused else None
    groups = [{k: v for k, v in g.items() if k != "names"} for g in parameter_groups(model, options)]
    return torch.optim.AdamW(groups, betas=options.betas, fused=fused, foreach=foreach)


def rate_at(step: int, total: int, options: OptimOptions) -> float:
    """Share of the peak rate at optimiser step `step` of `total`, from 0."""
    if step < options.warmup:
        return (step + 1) / (options.warmup + 1)
    progress = min(1.0, (step - options.warmup) / max(1, total - options.warmup))
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "trapezoid":
        progress = max(0.0, (progress - 0.8) / 0.2)
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if options.schedule == "cosine" else 1 - progress
    return options.final + (1 - options.final) * shape


def set_rate(optimizer: torch.optim.Optimizer, step: int, total: int, options: OptimOptions) -> float:
    """Sets every group's rate for a step; returns the share of the peak."""
    share = rate_at(step, total, options)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
    return share
