"""Measuring on a card: synchronised medians, counted work, the card's own limits. Runs on a CPU too."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

REPEATS = 3
"""Calls that warm up, and the fewest that are timed; one each where no time is given, as in the miniature."""


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Frees what nobody holds, and begins to watch the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """The most memory held by tensors since `release`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def held_bytes(device: torch.device) -> int | None:
    """Memory held by tensors now; None on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else None


def median_seconds(call: Callable[[], Any], device: torch.device, seconds: float) -> tuple[float, int]:
    """Median time of a call, each waited for, and how many were timed: for `seconds`, at least `REPEATS`."""
    fewest = REPEATS if seconds else 1
    for _ in range(fewest):
        call()
    synchronize(device)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < fewest or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times), len(times)


def taking_turns(
    calls: dict[str, Callable[[], Any]], device: torch.device, seconds: float
) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that a card that warms up slows all alike."""
    fewest = REPEATS if seconds else 1
    for call in calls.values():
        for _ in range(fewest):
            call()
    synchronize(device)
    times: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + seconds * len(calls)
    while len(next(iter(times.values()))) < fewest or time.perf_counter() < until:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            synchronize(device)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


# ---------------------------------------------------------------- work


@dataclasses.dataclass(frozen=True)
class Work:
    """What a call does, counted on plain layers."""

    flops: int
    """Of matrix products, convolutions and attention; a multiplication and an addition are two."""
    bytes: int
    """Read and written by all operations but views, each going through memory: an upper bound."""


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(t.numel() * t.element_size() for t in _tensors((args, kwargs or {}, out)))
        return out


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def work_of(call: Callable[[], Any]) -> Work:
    """Counts a call; with plain layers on a CPU, whose fused ones PyTorch cannot count."""
    with torch.backends.mkldnn.flags(enabled=False):
        counter = FlopCounterMode(display=False)
        with counter:
            call()
        traffic = _Traffic()
        with traffic:
            call()
    return Work(counter.get_total_flops(), traffic.bytes)


# ---------------------------------------------------------------- the card


@dataclasses.dataclass(frozen=True)
class Card:
    """What the card can do, measured: the roof under which the rest stands."""

    bf16_flops: float
    """A second, of a product of square bfloat16 matrices."""
    tf32_flops: float
    """The same in float32 with TF32 where there is."""
    copy_bytes: float
    """A second, read and written by a copy."""

    @classmethod
    def measure(cls, device: torch.device, seconds: float) -> Card:
        """Some seconds of products and copies."""
        on_card = device.type == "cuda"
        side = 8192 if on_card else 256
        rates = []
        for dtype in (torch.bfloat16, torch.float32):
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")
            try:
                taken, _ = median_seconds(lambda a=a, b=b: a @ b, device, seconds)  # type: ignore[misc]
            finally:
                torch.set_float32_matmul_precision(before)
            rates.append(2 * side**3 / taken)
        source = torch.empty(2**31 if on_card else 2**24, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        taken, _ = median_seconds(lambda: target.copy_(source), device, seconds)
        return cls(rates[0], rates[1], 2 * source.numel() / taken)

    def shares(self, work: Work, seconds: float) -> dict[str, float]:
        """Achieved rates, and their shares of the card's."""
        return {
            "gflop": round(work.flops / 1e9, 1),
            "tflops": round(work.flops / seconds / 1e12, 3),
            "share_of_matrix_rate": round(work.flops / seconds / self.bf16_flops, 4),
            "gbytes_per_s": round(work.bytes / seconds / 1e9, 1),
            "share_of_copy_rate": round(work.bytes / seconds / self.copy_bytes, 4),
        }
