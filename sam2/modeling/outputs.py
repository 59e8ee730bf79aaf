"""What the model's steps take and give.

Shapes: B objects, C channels of the model, H x W the image embedding (stride 16), S the input size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch.nn.functional as F
from torch import Tensor

NO_OBJ_SCORE = -1024.0
"""Mask logit of an absent object."""
LOGIT_LIMIT = 32.0
"""Low-resolution logits handed back, to be handed in again as `mask_input`, are clamped to +- this."""


@dataclass(frozen=True)
class FrameFeatures:
    """Features of one frame, or of a batch of pictures.

    Invariant: `maps` and `encodings` have the same levels, finest first; the last has stride 16.
    """

    maps: list[Tensor]
    """[B, C', H', W'] a level; the finer ones already went through the decoder's convolutions."""
    encodings: list[Tensor]
    """Position encodings [B, C, H', W'] a level; only the last is read."""

    @property
    def embedding(self) -> Tensor:
        """The features of stride 16 [B, C, H, W]."""
        return self.maps[-1]

    @property
    def high_res(self) -> list[Tensor] | None:
        """Features of strides 4 and 8 for the mask decoder, or None where the model has none."""
        return self.maps[:-1] or None

    @property
    def nbytes(self) -> int:
        """Bytes of the maps (encodings are shared tables)."""
        return sum(t.numel() * t.element_size() for t in self.maps)


@dataclass(frozen=True)
class FrameOutput:
    """What the model says of B objects on one frame.

    As the model gives it, `low_res_masks` is the one of `low_res_multimasks` with the highest predicted IoU.
    """

    low_res_multimasks: Tensor
    """Logits of every mask offered [B, M, S / 4, S / 4]."""
    ious: Tensor
    """Predicted IoU of every mask offered [B, M]."""
    low_res_masks: Tensor
    """Logits of the best mask [B, 1, S / 4, S / 4]."""
    obj_ptr: Tensor
    """Object pointers [B, C]."""
    object_score_logits: Tensor
    """Presence logits [B, 1]."""
    raw_multimasks: Tensor | None = None
    """In training: `low_res_multimasks` as they were before absent objects were blanked, which would stop
    the gradient."""
    tokens: Tensor | None = None
    """The decoder's token of every mask offered [B, M, C], or one for all [B, 1, C]."""
    exact_masks: Tensor | None = None
    """Logits [B, 1, S, S] where the masks were given, not predicted."""

    def high_res_masks(self, image_size: int) -> Tensor:
        """Logits of the best mask at the model's input size [B, 1, S, S]."""
        return self.exact_masks if self.exact_masks is not None else enlarge(self.low_res_masks, image_size)

    def in_float32(self) -> FrameOutput:
        """The same in float32, whatever the model ran in."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        parts.update((name, part.float()) for name, part in parts.items() if part is not None)
        return FrameOutput(**parts)


def take_rows(out: FrameOutput, rows: Tensor) -> FrameOutput:
    """The objects `rows`, int [B'], of a tracked frame's output; one may come several times."""
    return FrameOutput(
        out.low_res_multimasks[rows],
        out.ious[rows],
        out.low_res_masks[rows],
        out.obj_ptr[rows],
        out.object_score_logits[rows],
        tokens=None if out.tokens is None else out.tokens[rows],
    )


def enlarge(logits: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Mask logits [B, M, h, w] resized bilinearly to `size` (one side, or height and width)."""
    target = (size, size) if isinstance(size, int) else size
    return F.interpolate(logits, size=target, mode="bilinear", align_corners=False)
