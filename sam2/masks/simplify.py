"""Fewer corners for an outline: Douglas and Peucker's algorithm on closed rings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def simplify_ring(ring: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.float64] | None:
    """Corners of ``ring [K, 2]`` such that every dropped one lies within ``tolerance`` pixels of the outline.

    Returns None where fewer than three corners or no area would be left.
    """
    opposite = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate((ring, ring[:1]))
    keep = np.zeros(len(closed), dtype=bool)
    keep[[0, opposite, -1]] = True
    pending = [(0, opposite), (opposite, len(ring))]
    while pending:
        start, end = pending.pop()
        if end - start < 2:
            continue
        distance = _distance_to_segment(closed[start + 1 : end], closed[start], closed[end])
        farthest = int(np.argmax(distance))
        if distance[farthest] > tolerance:
            split = start + 1 + farthest
            keep[split] = True
            pending += [(start, split), (split, end)]
    simple = ring[keep[:-1]]
    if len(simple) < 3:
        return None
    x, y = (simple - simple[0]).T
    return simple if abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) > 0 else None


def _distance_to_segment(
    points: npt.NDArray[np.float64], start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    direction = end - start
    length2 = float(direction @ direction)
    offset = points - start
    along = np.clip(offset @ direction / length2, 0, 1) if length2 else np.zeros(len(points))
    return np.hypot(*(offset - along[:, None] * direction).T)
