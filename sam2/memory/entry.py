"""What is remembered of one object on one frame, and what one frame reads of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class MemoryEntry:
    """One frame's memory of B objects (B is 1 while tracking, the batch in training).

    Invariant: all tensors share B and the device.
    """

    frame_idx: int
    is_conditioning: bool
    """The frame was prompted (or corrected, where corrections condition)."""
    features: Tensor | None
    """Spatial memory [B, K, H, W], bfloat16 while tracking; None where it was not encoded."""
    obj_ptr: Tensor
    """Object pointer [B, C]."""
    object_score_logits: Tensor
    """Presence logits [B, 1]."""
    trusted: bool = True
    """A policy that judges frames lets this one serve as a recent memory."""
    anchor: bool = False
    """A policy found that this frame tells the object from a distractor."""

    @property
    def nbytes(self) -> int:
        """Bytes held by the tensors."""
        tensors = (self.features, self.obj_ptr, self.object_score_logits)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """One object on one frame.

    Invariant: `logits` is what a person is shown, holes already filled.
    """

    logits: Tensor
    """Low-resolution mask logits [1, 1, S / 4, S / 4]."""
    predicted_iou: Tensor
    """[1]"""
    object_score_logits: Tensor
    """Presence logits [1, 1]."""


@dataclass(frozen=True)
class MemorySelection:
    """What one frame attends to.

    Invariant: every entry in `spatial` has features; positions index the temporal encoding, 0 for
    conditioning frames and 1 (oldest) to `num_maskmem - 1` (the frame before) for recent ones.
    """

    spatial: tuple[tuple[int, MemoryEntry], ...] = ()
    """(temporal position, entry)"""
    pointers: tuple[tuple[int, MemoryEntry], ...] = ()
    """(time distance in frames, entry)"""
    pointer_span: int = 15
    """The distance that counts as 1 in the temporal encoding of pointers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(spatial memories, pointers): selections of equal shape run as one batch."""
        return len(self.spatial), len(self.pointers)

    @property
    def is_empty(self) -> bool:
        """Nothing is remembered."""
        return not self.spatial and not self.pointers
