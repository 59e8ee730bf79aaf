"""Pieces of a mask that lie apart: what a small model takes for the object beside it, more often than not.

Shapes: h x w the low-resolution mask.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam2.ops import connected_components

DROPPED = -10.0
"""Logit of what is let go."""
CRUMB = 0.1
"""Pieces smaller than this share of the largest say nothing of how far apart an object's pieces lie."""


def gap_within(mask: Tensor) -> float:
    """How far the furthest piece of a mask bool [h, w] lies from the box of its largest, as a share of that
    box's longer side; crumbs do not count. 0 for a mask of one piece, or none."""
    labels, areas = connected_components(mask[None, None])
    return max((gap for _, gap, share in _others(labels, areas) if share >= CRUMB), default=0.0)


def close_together(logits: Tensor, max_gap: float) -> Tensor:
    """The mask without pieces that lie further from the box of its largest than `max_gap` times the longer
    side of that box.

    Args:
        logits: float [1, 1, h, w]; stays as it is.

    Returns:
        Logits [1, 1, h, w], `DROPPED` where a piece was let go.
    """
    labels, areas = connected_components(logits > 0)
    far = [label for label, gap, _ in _others(labels, areas) if gap > max_gap]
    if not far:
        return logits
    return logits.masked_fill(torch.isin(labels, torch.tensor(far, device=labels.device)), DROPPED)


def _others(labels: Tensor, areas: Tensor) -> list[tuple[int, float, float]]:
    """Of each piece but the largest: its label, its gap, and its area as a share of the largest."""
    of: NDArray[np.int32] = labels[0, 0].cpu().numpy()
    size: NDArray[np.int32] = areas[0, 0].cpu().numpy()
    if of.max(initial=0) <= 1:
        return []
    largest = int(of.flat[size.argmax()])
    rows, columns = np.nonzero(of == largest)
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    found: list[tuple[int, float, float]] = []
    for label in range(1, int(of.max()) + 1):
        if label != largest:
            y, x = np.nonzero(of == label)
            beyond = [
                np.maximum(np.maximum(ends.min() - at, at - ends.max()), 1) - 1
                for at, ends in ((y, rows), (x, columns))
            ]
            gap = float(np.maximum(*beyond).min()) / side
            found.append((label, gap, len(y) / len(rows)))
    return found
