"""The precision in which a model runs: autocast, entered and left here and nowhere else."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def dtype_of(name: str) -> torch.dtype:
    """The precision of a name such as "bfloat16".

    Raises:
        ValueError: none of `DTYPES`.
    """
    for dtype in DTYPES:
        if str(dtype) == f"torch.{name}":
            return dtype
    raise ValueError(f"precision {name!r} is unknown; say float32, bfloat16 or float16")


def checked_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """`dtype`, where a model can run in it.

    Raises:
        ValueError: neither None nor one of `DTYPES`.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be None, float32, bfloat16 or float16 of torch, got {dtype!r}")
    return dtype


def precision(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """What a model's steps run in.

    Args:
        dtype: float32 also inside a caller's autocast; bfloat16 or float16 by autocast; None leaves what the
            caller has in force.
    """
    if dtype is None:
        return contextlib.nullcontext()
    if dtype == torch.float32:
        return torch.autocast(device.type, enabled=False)
    # uncached: weights that were cast once and kept would dangle in captured graphs
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


def resolved(device: torch.device, dtype: torch.dtype | None) -> torch.dtype:
    """`dtype`, or that of a caller's autocast where it is None; float32 without either."""
    if dtype is not None:
        return dtype
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
