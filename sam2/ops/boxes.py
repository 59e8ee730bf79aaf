"""Non-maximum suppression, exact and vectorised.

Boxes are float [N, 4], x0 y0 x1 y1; the area of a box is (x1 - x0) * (y1 - y0).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Boxes compared at a time: a comparison matrix is at most BLOCK x BLOCK, whatever N is.
BLOCK = 1024


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Walks the boxes from the highest score down (equal scores in their given order) and drops each
    whose intersection over union with one kept before it is above `iou_threshold`.

    Args:
        boxes: float [N, 4], pixels.
        scores: float [N].

    Returns:
        int64 [K]: indices of the kept boxes, by falling score.

    Raises:
        ValueError: where shapes do not fit.
    """
    return batched_nms(boxes, scores, torch.zeros_like(scores, dtype=torch.int64), iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, categories: Tensor, iou_threshold: float) -> Tensor:
    """`nms` in which only boxes of equal category (int [N]) suppress one another."""
    n = len(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (n,) or categories.shape != (n,):
        raise ValueError(
            "boxes, scores and categories must be [N, 4], [N] and [N], got "
            f"{list(boxes.shape)}, {list(scores.shape)} and {list(categories.shape)}"
        )
    order = scores.argsort(descending=True, stable=True)
    boxes, categories = boxes[order], categories[order]
    alive = torch.ones(n, dtype=torch.bool, device=boxes.device)
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        beats = _overlaps(boxes[block], categories[block], boxes[block], categories[block], iou_threshold)
        alive[block] = _greedy(beats.triu(1), alive[block])
        kept = alive[block].nonzero()[:, 0] + start
        for later in range(block.stop, n, BLOCK):
            rest = slice(later, min(later + BLOCK, n))
            hit = _overlaps(boxes[kept], categories[kept], boxes[rest], categories[rest], iou_threshold)
            alive[rest] &= ~hit.any(0)
    return order[alive]


def _greedy(beats: Tensor, candidates: Tensor) -> Tensor:
    """Which candidates survive, where `beats[i, j]` (i < j alone) says that i, if kept, drops j.

    The survivors are the one fixed point of "kept unless a kept one beats it": after k rounds the
    first k are right, and in practice a few rounds settle all.
    """
    kept = candidates
    while True:
        again = candidates & ~(beats & kept[:, None]).any(0)
        if torch.equal(again, kept):
            return kept
        kept = again


def _overlaps(a: Tensor, a_kind: Tensor, b: Tensor, b_kind: Tensor, threshold: float) -> Tensor:
    """bool [A, B]: of one category, and intersection over union above the threshold."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(2)
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = area_a[:, None] + area_b[None, :] - intersection
    return (intersection / union > threshold) & (a_kind[:, None] == b_kind[None, :])
