"""CUDA graphs: a function's kernels recorded once for each shape of its inputs, and launched together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before recording: kernels are chosen, libraries and compilers make what they need."""


Tensors = tuple[Tensor, ...]


class Recorder(Protocol):
    """Makes something that can be replayed of a function of tensors."""

    def record(self, function: Callable[..., Tensors], inputs: Sequence[Tensor]) -> Callable[[], Tensors]:
        """Runs `function` on `inputs`; what comes back runs it again on what lies in them by then, and gives
        the tensors into which results were written."""


class GraphPool:
    """CUDA graphs that share their memory: they are replayed one at a time, and results are copied at once.

    Recorded as PyTorch's notes on CUDA graphs ask: after calls on the side stream that records, with inputs
    that lie outside the graphs' memory. "thread_local": other threads may go on reading frames meanwhile.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        self._handle = torch.cuda.graph_pool_handle()

    def record(self, function: Callable[..., Tensors], inputs: Sequence[Tensor]) -> Callable[[], Tensors]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP_CALLS):
                    function(*inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            with torch.cuda.graph(
                graph, pool=self._handle, stream=self._stream, capture_error_mode="thread_local"
            ):
                outputs = function(*inputs)

        def replay() -> Tensors:
            graph.replay()
            return outputs

        return replay


class GraphedCall:
    """A function of tensors, replayed from a CUDA graph for each shape of its inputs and each variant.

    Args:
        function: tensors to a tuple of tensors. It must not read values of tensors on the host, nor make
            tensors from Python numbers or lists, and all other tensors it reads must stay where they are.
        recorder: a `GraphPool`; None calls the function plainly, as on a CPU.
    """

    def __init__(self, function: Callable[..., Tensors], recorder: Recorder | None = None) -> None:
        self.function = function
        self.recorder = recorder
        self._recorded: dict[Hashable, _Recorded] = {}

    def __call__(self, *inputs: Tensor, variant: Hashable = None) -> Tensors:
        """The function's results, the caller's to keep.

        Args:
            variant: whatever else the function depends on.
        """
        if self.recorder is None:
            return self.function(*inputs)
        key = variant, *((x.shape, x.dtype) for x in inputs)
        if key not in self._recorded:
            self._recorded[key] = _Recorded(self.function, inputs, self.recorder)
        return self._recorded[key].replay(inputs)

    def __len__(self) -> int:
        """Graphs recorded so far."""
        return len(self._recorded)


class _Recorded:
    """One recording with the tensors that it reads."""

    def __init__(self, function: Callable[..., Tensors], inputs: Tensors, recorder: Recorder) -> None:
        self._inputs = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
        self._replay = recorder.record(function, self._inputs)

    def replay(self, inputs: Tensors) -> Tensors:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        return tuple(x.clone() for x in self._replay())
