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
    # All chords of one depth are looked at together: a ring needs a few steps instead of one a corner.
    starts, ends = np.array([0, opposite]), np.array([opposite, len(ring)])
    while len(starts):
        between = ends - starts - 1
        starts, ends, between = (values[between > 0] for values in (starts, ends, between))
        first = np.cumsum(between) - between
        chord = np.repeat(np.arange(len(starts)), between)
        corner = np.arange(len(chord)) - first[chord] + starts[chord] + 1
        distance = _distance_to_segment(closed[corner], closed[starts[chord]], closed[ends[chord]])
        farthest = np.maximum.reduceat(distance, first) if len(first) else distance
        split = np.flatnonzero(farthest > tolerance)
        hits = np.flatnonzero(distance == farthest[chord])
        at = corner[hits[np.searchsorted(chord[hits], split)]]
        keep[at] = True
        starts, ends = np.concatenate((starts[split], at)), np.concatenate((at, ends[split]))
    simple = ring[keep[:-1]]
    if len(simple) < 3:
        return None
    x, y = (simple - simple[0]).T
    return simple if abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) > 0 else None


def _distance_to_segment(
    points: npt.NDArray[np.float64], start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How far each of ``points [K, 2]`` is from its segment ``start [K, 2]`` to ``end [K, 2]``."""
    direction = end - start
    length2 = (direction**2).sum(axis=1)
    offset = points - start
    along = np.clip((offset * direction).sum(axis=1) / np.where(length2 > 0, length2, 1), 0, 1)
    return np.hypot(*(offset - along[:, None] * direction).T)
