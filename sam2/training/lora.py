"""Low-rank adapters (LoRA, arXiv 2106.09685) on linear layers, merged into plain weights for export."""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION = ("*.attn.qkv", "*.attn.proj", "*.q_proj", "*.k_proj", "*.v_proj", "*.out_proj")
"""Linear layers of attention: in the trunk, in memory attention and in the mask decoder."""


@dataclass(frozen=True)
class LoraOptions:
    """Which layers get an adapter, and what else learns."""

    rank: int = 8
    """Inner width of an adapter."""
    alpha: float = 8.0
    """The adapter's output is scaled by alpha / rank."""
    targets: tuple[str, ...] = ATTENTION
    """Patterns of linear layers by their names."""
    train: tuple[str, ...] = ()
    """Patterns of parameters that learn besides the adapters; all others are frozen."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"the rank of an adapter is {self.rank}; it must be at least 1")


class LoraLinear(nn.Linear):
    """A linear layer with an adapter beside it; `weight` and `bias` keep their names and do not learn."""

    def __init__(self, layer: nn.Linear, options: LoraOptions) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = options.alpha / options.rank
        self.lora_a = nn.Parameter(layer.weight.new_empty(options.rank, layer.in_features))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, options.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    def merged(self) -> nn.Linear:
        """A plain layer that gives the same."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        with torch.no_grad():
            layer.weight = nn.Parameter(self.weight + self.scale * self.lora_b @ self.lora_a)
        layer.bias = self.bias
        return layer


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def add_lora(model: nn.Module, options: LoraOptions) -> list[str]:
    """Puts adapters beside the layers that `targets` names and freezes what `train` does not name.

    Returns the layers' names; outputs do not change before training. Raises ValueError where no linear layer
    is meant.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _matches(name, options.targets)
    ]
    if not names:
        raise ValueError(f"no linear layer fits the targets {', '.join(options.targets)}")
    for name, parameter in model.named_parameters():
        if not _matches(name, options.train):
            parameter.requires_grad_(False)
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        _replace(model, name, LoraLinear(layer, options))
    return names


def merge_lora(model: nn.Module) -> None:
    """Puts plain layers in place of those with adapters; outputs stay the same."""
    adapted = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLinear)]
    for name, module in adapted:
        _replace(model, name, module.merged())


def merged_copy(model: nn.Module) -> nn.Module:
    """A copy with the adapters merged; the model itself where there are none."""
    if not any(isinstance(m, LoraLinear) for m in model.modules()):
        return model
    plain = copy.deepcopy(model)
    merge_lora(plain)
    return plain
