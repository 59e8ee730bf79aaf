"""Masks of everything in a picture, in slices short enough for somebody to wait meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.masks import rle
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.studio.engine import Offer
from sam2.tracking.passes import mask_iou
from sam2.utils.amg import build_point_grid

GRID, COARSE = 16, 8
"""Points a side that automatic masks are asked at, and every how many of them a first look takes."""
SLICE = 0.2
"""Seconds that a slice of automatic masks should take: somebody may wait for a click meanwhile."""
MOST_POINTS, MOST_PIXELS = 32, 2**25
"""Points that one slice asks at most, and pixels of the picture times points: masks come in its size."""
GOOD, STABLE = 0.5, 0.7
"""Predicted IoU and stability of an automatic mask. Low, since a person chooses: next to none of the default
model's masks reach the usual 0.8 and 0.95."""
SAME = 0.8
"""Automatic masks of at least this IoU are one."""


@torch.inference_mode()
def everything(predictor: SAM2VideoPredictor, picture: np.ndarray) -> Iterator[tuple[int, int, list[Offer]]]:
    """Masks of everything in a picture, some points of a grid a step: (done, total, new masks)."""
    generator = SAM2AutomaticMaskGenerator(
        predictor,
        points_per_batch=MOST_POINTS,
        pred_iou_thresh=GOOD,
        stability_score_thresh=STABLE,
        output_mode="coco_rle",
    )
    ask = generator.begin(picture)
    grid = build_point_grid(GRID)
    # a coarse look at all of the picture first, then the points between
    points = np.concatenate([grid[first::COARSE] for first in range(COARSE)])
    yield 0, len(points), []
    step = max(1, max(picture.shape[:2]) // 256)
    taken: list[Tensor] = []
    most = max(1, min(MOST_POINTS, MOST_PIXELS // (picture.shape[0] * picture.shape[1])))
    done, count = 0, 1
    while done < len(points):
        began = time.perf_counter()
        new = []
        for one in ask(points[done : done + count]):
            small = torch.from_numpy(rle.decode(one["segmentation"])[::step, ::step].copy())
            if all(mask_iou(small, other) < SAME for other in taken):
                taken.append(small)
                new.append(Offer(str(one["segmentation"]["counts"]), round(one["predicted_iou"], 4)))
        done = min(done + count, len(points))
        fitting = count * SLICE / (time.perf_counter() - began)
        count = int(min(max(fitting, 1), 2 * count, most))
        yield done, len(points), new
