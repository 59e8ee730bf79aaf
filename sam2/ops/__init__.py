"""Operations on tensors that need no parameters: one call each, tested twins behind it."""

from __future__ import annotations

from sam2.ops.boxes import batched_nms, nms
from sam2.ops.components import connected_components, fill_small_regions
from sam2.ops.runs import run_lengths

__all__ = ["batched_nms", "connected_components", "fill_small_regions", "nms", "run_lengths"]
