"""An exponential moving average of the weights: steadier than the last step's, and what is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def _held(value: Tensor) -> Tensor:
    """What this process holds of a tensor that may be split (FSDP2)."""
    return value.to_local() if isinstance(value, DTensor) else value


class Ema:
    """The average of a model's parameters and floating-point buffers, kept on their device.

    decay: weight of the past in each update; at the start min(decay, (1 + n) / (10 + n)) after n updates, so
    that the random first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the EMA's decay is {decay}; it must be at least 0 and below 1")
        self.decay = decay
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after an optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = model.state_dict()
        moving = [name for name, value in self.average.items() if value.is_floating_point()]
        mine = [_held(self.average[n]) for n in moving]
        torch._foreach_lerp_(mine, [_held(now[n].detach()) for n in moving], 1 - decay)

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"average": self.average, "updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """From a checkpoint."""
        saved, updates = state["average"], state["updates"]
        assert isinstance(saved, dict)
        assert isinstance(updates, int)
        for name, value in self.average.items():
            value.copy_(saved[name])
        self.updates = updates

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model holds the averaged weights inside, its own again afterwards."""
        own: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)
