"""Muon: momentum, made orthogonal, for matrices (K. Jordan, 2024, https://kellerjordan.github.io/posts/muon/).

`torch.optim.Muon` computes in bfloat16 always, which a CPU without it emulates: 17 s a step for the packaged
model where this takes less than one. Here the precision is float32 on a CPU, and matrices of one shape go
through as one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial of degree 5 that is applied again and again; they pull singular values towards 1."""
ROUNDS = 5
"""How often."""


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values about 1 (within 0.5 to 1.5), as Newton and Schulz find them.

    Args:
        matrices: [K, A, B]; float32 on a CPU, bfloat16 elsewhere while it is computed.

    Returns:
        [K, A, B], of the same dtype.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.float() if x.device.type == "cpu" else x.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; tall matrices step further, by sqrt(A / B).

    A parameter without a gradient stays. State: each one's `momentum_buffer`, as in `torch.optim.Muon`.

    Raises:
        ValueError: a parameter that is no matrix.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon is for matrices, but a parameter has shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                past = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                alike.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(past, group["momentum"])))
            for (rows, columns), pairs in alike.items():
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                updates = orthogonal(torch.stack([update for _, update in pairs]))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-rate)
        return loss
