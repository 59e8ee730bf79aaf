"""torch.compile on the model's modules, outside of them.

Each module is compiled by itself, for fixed shapes: `sam2.tracking.static` pads what a tracker asks for to a
few shapes, so that nothing is compiled after warming up.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

MODULES = ("image_encoder", "memory_attention", "memory_encoder", "sam_prompt_encoder", "sam_mask_decoder")
MOST_SHAPES = 64
"""Shapes for which one module may be compiled; PyTorch gives up at 8."""


class CompileError(RuntimeError):
    """torch.compile cannot run here; the message says what would help."""


def compile_model(
    model: SAM2Base, backend: str | Callable[..., Any] = "inductor", mode: str | None = None
) -> SAM2Base:
    """Has the model's modules compiled when they first run with a shape; see `warming_up`.

    Args:
        model: in evaluation mode, on its device.
        backend, mode: of `torch.compile`; "inductor" needs a C++ compiler on a CPU, and Triton on a GPU.

    Returns:
        The model.

    Raises:
        CompileError: this Python or PyTorch cannot compile at all.
    """
    try:
        import torch._dynamo as dynamo

        supported = dynamo.is_dynamo_supported()
    except ImportError as error:
        raise CompileError(_advice(error)) from error
    if not supported:
        version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        raise CompileError(_advice(f"PyTorch {torch.__version__} does not compile under {version}"))
    dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, MOST_SHAPES)
    for name in MODULES:
        module = getattr(model, name)
        assert isinstance(module, nn.Module)
        module.compile(backend=backend, mode=mode, fullgraph=True, dynamic=False)
    model.compile_image_encoder = True
    return model


def compilations() -> int:
    """How many graphs torch.compile made in this process so far: after warming up it stands still."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def run_stages(stages: Iterable[tuple[str, Callable[[], object]]], progress: bool = True) -> None:
    """Runs what compiles or captures, stage by stage.

    Args:
        stages: what to call, with its name for people.
        progress: tell on standard error what is under way, and how long it took, in one line.

    Raises:
        CompileError: a stage could not be compiled.
    """
    listed = list(stages)
    start = perf_counter()
    for i, (name, run) in enumerate(listed, start=1):
        if progress:
            _tell(f"warming up {i} of {len(listed)}: {name}, after {perf_counter() - start:.0f} s")
        with compiling():
            run()
    if progress:
        _tell(f"warmed up in {perf_counter() - start:.0f} s", end="\n")


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Turns what compilers raise into a CompileError that names the mend."""
    try:
        yield
    except Exception as error:
        kind = f"{type(error).__module__}.{type(error).__name__}"
        if not kind.startswith(("torch._dynamo.", "torch._inductor.", "torch._functorch.", "triton.")):
            raise
        raise CompileError(_advice(getattr(error, "inner_exception", error))) from error


def _advice(reason: object) -> str:
    first_line = next((line.strip() for line in str(reason).splitlines() if line.strip()), repr(reason))
    return (
        f"torch.compile cannot run here ({first_line}). On a CPU it needs a C++ compiler "
        "(`apt-get install g++`, or set CXX to yours), on a GPU Triton (`pip install triton`). Without "
        "either, leave out vos_optimized and compile; static=True keeps fixed shapes and CUDA graphs"
    )


def _tell(line: str, end: str = "") -> None:
    print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
