"""J (region IoU) and F (boundary accuracy) of video masks, by the rules of the DAVIS and SA-V evaluators.

F compares boundaries: a predicted boundary pixel is right where a true one lies within 0.8% of the picture's
diagonal, and the other way round (Perazzi et al., CVPR 2016, section 5.1). The first frame holds the prompt,
and the last is left out too; an object counts from the first remaining frame that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolMask = NDArray[np.bool_]


@dataclass(frozen=True)
class JF:
    """Scores of one object over one clip, in percent."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return 0.5 * (self.j + self.f)


def region_similarity(pred: BoolMask, truth: BoolMask) -> float:
    """IoU in [0, 1] of two masks [H, W]; 1 where both are empty."""
    union = int(np.count_nonzero(pred | truth))
    return float(np.count_nonzero(pred & truth) / union) if union else 1.0


def mask_boundary(mask: BoolMask) -> BoolMask:
    """Pixels that differ from their right, lower or lower-right neighbour: [H, W] -> [H, W]."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def _near(boundary: BoolMask, radius: int) -> BoolMask:
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~boundary)
    return distance <= radius


def boundary_accuracy(pred: BoolMask, truth: BoolMask, tolerance: float = 0.008) -> float:
    """F measure in [0, 1] of the boundaries of two masks [H, W].

    tolerance: as a share of the diagonal, rounded up to whole pixels. Both boundaries empty gives 1.
    """
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    pred_edge, truth_edge = mask_boundary(pred), mask_boundary(truth)
    pred_count, truth_count = int(np.count_nonzero(pred_edge)), int(np.count_nonzero(truth_edge))
    if not pred_count or not truth_count:
        return float(pred_count == truth_count)
    precision = np.count_nonzero(pred_edge & _near(truth_edge, radius)) / pred_count
    recall = np.count_nonzero(truth_edge & _near(pred_edge, radius)) / truth_count
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def object_jf(
    pred: Sequence[BoolMask] | NDArray[Any], truth: Sequence[BoolMask] | NDArray[Any], skip: int = 1
) -> JF:
    """J and F of one object: masks [T, H, W] each.

    skip: frames left out at either end (1 by the evaluators' default). Of the rest, those before the object's
    first appearance in `truth` do not count, later ones without it do. Raises ValueError where the two differ
    in length or size, or where no frame is left to score.
    """
    if len(pred) != len(truth):
        raise ValueError(f"{len(pred)} predicted frames but {len(truth)} true ones")
    scored = range(skip, len(truth) - skip)
    first = next((t for t in scored if np.any(truth[t])), None)
    if first is None:
        raise ValueError(
            f"nothing to score: the object is in none of the {len(scored)} frames left of {len(truth)}"
            f" when {skip} at each end are skipped"
        )
    j, f = [], []
    for t in range(first, scored.stop):
        a, b = np.asarray(pred[t], dtype=bool), np.asarray(truth[t], dtype=bool)
        if a.shape != b.shape:
            raise ValueError(f"frame {t}: the predicted mask is {a.shape}, the true one {b.shape}")
        j.append(region_similarity(a, b))
        f.append(boundary_accuracy(a, b))
    return JF(100 * float(np.mean(j)), 100 * float(np.mean(f)))


def clip_jf(pred: NDArray[Any], truth: NDArray[Any], skip: int = 1) -> dict[int, JF]:
    """J and F of every object of a clip given as label maps [T, H, W] (0 is background).

    Objects are those with a pixel in a scored frame of `truth`; ids predicted besides are ignored.
    """
    scored = truth[skip : len(truth) - skip]
    return {int(i): object_jf(pred == i, truth == i, skip) for i in np.unique(scored) if i != 0}
