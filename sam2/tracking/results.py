"""What tracking hands back for one frame. Shapes: N objects, S the model's input size, H x W the video."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam2.modeling.outputs import enlarge


@dataclass(frozen=True)
class FrameResult:
    """Masks of all objects on one frame.

    Invariant: the first axis of every tensor follows `obj_ids`.
    """

    frame_idx: int
    obj_ids: list[int]
    low_res_logits: Tensor
    """[N, 1, S / 4, S / 4]"""
    predicted_iou: Tensor
    """[N]"""
    object_score_logits: Tensor
    """Presence logits [N]."""
    video_size: tuple[int, int]
    """(height, width) in pixels."""
    non_overlap: bool = False
    timestamp: float | None = None
    """Seconds since the first frame, where the source says."""

    @property
    def logits(self) -> Tensor:
        """Mask logits at the size of the video [N, 1, H, W], made at each call."""
        if not self.obj_ids:
            return self.low_res_logits.new_zeros(0, 1, *self.video_size)
        logits = enlarge(self.low_res_logits, self.video_size)
        return keep_strongest(logits) if self.non_overlap else logits

    @property
    def masks(self) -> Tensor:
        """Masks at the size of the video, bool [N, H, W]."""
        return self.logits[:, 0] > 0


def keep_strongest(logits: Tensor) -> Tensor:
    """Leaves each pixel of [N, 1, H, W] to the object with the highest logit, others at -10 or less."""
    if logits.shape[0] < 2:
        return logits
    winner = logits.argmax(dim=0, keepdim=True)
    index = torch.arange(logits.shape[0], device=logits.device)[:, None, None, None]
    return torch.where(winner == index, logits, logits.clamp(max=-10.0))
