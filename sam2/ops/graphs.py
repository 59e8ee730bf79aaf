"""CUDA graphs: a function's kernels recorded once for each shape of its inputs, and launched together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before recording: kernels are chosen, libraries and compilers make what they need."""


class GraphPool:
    """Memory that recorded graphs share. They are replayed one at a time, and their results are copied at
    once, so that they may use the same."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.handle = torch.cuda.graph_pool_handle()


class GraphedCall:
    """A function of tensors, replayed from a CUDA graph for each shape of its inputs and each variant.

    Args:
        function: tensors to a tuple of tensors. It must not read values of tensors on the host, nor make
            tensors from Python numbers or lists, and all other tensors it reads must stay where they are.
        pool: where graphs keep their tensors; None calls the function plainly, as on a CPU.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], pool: GraphPool | None = None) -> None:
        self.function = function
        self.pool = pool
        self._recorded: dict[Hashable, _Recorded] = {}

    def __call__(self, *inputs: Tensor, variant: Hashable = None) -> tuple[Tensor, ...]:
        """The function's results, the caller's to keep.

        Args:
            variant: whatever else the function depends on.
        """
        if self.pool is None:
            return self.function(*inputs)
        key = variant, *((x.shape, x.dtype) for x in inputs)
        if key not in self._recorded:
            self._recorded[key] = _Recorded(self.function, inputs, self.pool)
        return self._recorded[key].replay(inputs)

    def __len__(self) -> int:
        """Graphs recorded so far."""
        return len(self._recorded)


class _Recorded:
    """One graph with the tensors that it reads and writes.

    Recorded as PyTorch's notes on CUDA graphs ask: after calls on the side stream that records, with inputs
    of its own outside the graphs' memory. "thread_local": other threads may go on reading frames meanwhile.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], pool: GraphPool
    ) -> None:
        self._inputs = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
        with torch.cuda.device(pool.device):
            pool.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(pool.stream):
                for _ in range(WARM_UP_CALLS):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(pool.stream)
            self._graph: Any = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                self._graph, pool=pool.handle, stream=pool.stream, capture_error_mode="thread_local"
            ):
                self._outputs = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return tuple(x.clone() for x in self._outputs)
