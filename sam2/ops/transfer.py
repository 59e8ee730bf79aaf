"""From the host to a device, without the host waiting for it."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; the tensor itself where it is there already.

    On CUDA it goes through pinned memory, in a stream of its own: beside what was computed so far, not after
    it.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    beside, current = _stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(beside):
        moved = tensor.pin_memory().to(device, non_blocking=True)
    current.wait_stream(beside)
    moved.record_stream(current)
    return moved


@functools.cache
def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)
