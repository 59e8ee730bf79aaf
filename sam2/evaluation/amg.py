"""Automatic masks: how many of a picture's true objects are among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.data.clip import Clip
from sam2.evaluation.clicks import masks_iou


@dataclass(frozen=True)
class RecallScore:
    """The best automatic mask of one object."""

    picture: str
    object_id: int
    area: int
    best_iou: float

    def row(self) -> dict[str, Any]:
        """For a table; the means of the last two are recall."""
        return {
            "picture": self.picture,
            "object": self.object_id,
            "area": self.area,
            "best_iou": self.best_iou,
            "recall_50": float(self.best_iou >= 0.5),
            "recall_75": float(self.best_iou >= 0.75),
        }


def automatic_recall(generator: SAM2AutomaticMaskGenerator, clip: Clip) -> list[RecallScore]:
    """The best IoU that any automatic mask has with each object of a picture (a clip of one frame)."""
    found = [np.asarray(a["segmentation"], dtype=bool) for a in generator.generate(clip.frames[0])]
    scores = []
    for place, object_id in enumerate(clip.object_ids):
        truth = clip.masks[0, place]
        if truth.any():
            best = max((float(masks_iou(mask, truth)) for mask in found), default=0.0)
            scores.append(RecallScore(clip.name, object_id, int(truth.sum()), best))
    return scores
