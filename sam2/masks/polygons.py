"""Outlines of masks along the edges of their pixels, and back.

Corners have whole coordinates: pixel (x, y) is the square from (x, y) to (x + 1, y + 1). Outer rings run
clockwise on the screen (x right, y down; their shoelace sum is positive), holes the other way, and a ring's
last point is not its first again. Regions are 4-connected: squares that touch at a corner belong to different
polygons, so no ring crosses itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from sam2.masks.geometry import mask_to_box
from sam2.masks.inputs import Mask, as_mask
from sam2.masks.simplify import simplify_ring

Ring: TypeAlias = npt.NDArray[np.float64]
"""Corners (x, y) in pixels, ``float64 [K, 2]``, K >= 3, not closed by a repeated point."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected region: its outer ring (clockwise on the screen) and its holes (the other way)."""

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The outer ring, then the holes."""
        return (self.outer, *self.holes)

    @property
    def area(self) -> float:
        """Square pixels inside the outer ring and outside the holes."""
        return abs(signed_area(self.outer)) - sum(abs(signed_area(hole)) for hole in self.holes)


def signed_area(ring: npt.ArrayLike) -> float:
    """Shoelace area of a ring ``[K, 2]``; positive where it runs clockwise on the screen."""
    points = np.asarray(ring, dtype=np.float64)
    x, y = (points - points[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def mask_to_polygons(mask: npt.ArrayLike, tolerance: float = 0.0) -> list[Polygon]:
    """Polygons of a mask ``[H, W]``, the largest first; none of an empty mask.

    With ``tolerance`` 0 ``polygons_to_mask`` gives back exactly the mask. A larger one (pixels) drops corners
    by Douglas and Peucker while the outline moves by no more than that; 1 smooths the steps of slanted edges.
    An outer ring that would collapse stays as it is, a hole that would collapse goes.

    Raises:
        ValueError: not a mask, or a negative tolerance.
    """
    array = as_mask(mask)
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be 0 or more pixels, not {tolerance}")
    box = mask_to_box(array)
    if box is None:
        return []
    x0, y0, x1, y1 = box
    array = array[y0:y1, x0:x1]
    labels, _ = ndimage.label(array)
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring in _trace(array):
        x, y = ring[0].astype(int)  # the first corner in reading order: its upper edge is in this ring
        is_outer = signed_area(ring) > 0
        label = int(labels[y if is_outer else y - 1, x])
        ring = ring + np.array((x0, y0))
        simple = simplify_ring(ring, tolerance) if tolerance else ring
        if is_outer:
            outers[label] = ring if simple is None else simple
        elif simple is not None:
            holes.setdefault(label, []).append(simple)
    polygons = [Polygon(ring, tuple(holes.get(label, ()))) for label, ring in outers.items()]
    return sorted(polygons, key=lambda polygon: -polygon.area)


def polygons_to_mask(polygons: Iterable[Polygon | npt.ArrayLike], size: tuple[int, int]) -> Mask:
    """Mask ``bool [H, W]`` of the pixels whose centres lie in any polygon.

    Args:
        polygons: ``Polygon`` objects, or rings ``[K, 2]`` (each an outer one, whichever way it runs).
        size: (height, width). Points outside are allowed.

    Raises:
        ValueError: a ring has fewer than three points, another shape, or coordinates that are not finite.
    """
    outers: list[Ring] = []
    holes: list[Ring] = []
    for polygon in polygons:
        if not isinstance(polygon, Polygon):
            polygon = Polygon(as_ring(polygon))
        outers.append(_oriented(as_ring(polygon.outer), clockwise=True))
        holes.extend(_oriented(as_ring(hole), clockwise=False) for hole in polygon.holes)
    winding = _winding(outers, size)
    mask = winding != 0
    if holes:  # a simplified hole that pokes out of its outer ring turns nothing on there
        mask &= winding + _winding(holes, size) != 0
    return mask


def as_ring(points: npt.ArrayLike) -> Ring:
    """``points`` as ``float64 [K, 2]``; also from COCO's flat list x0, y0, x1, y1, ...

    Raises:
        ValueError: fewer than three points, another shape, or coordinates that are not finite.
    """
    ring = np.asarray(points, dtype=np.float64)
    if ring.ndim == 1 and ring.size % 2 == 0:
        ring = ring.reshape(-1, 2)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise ValueError(f"a ring needs at least three points [K, 2], but its shape is {list(ring.shape)}")
    if not np.isfinite(ring).all():
        raise ValueError("a ring's coordinates must be finite numbers")
    return ring


def bridge(polygons: Sequence[Polygon]) -> Ring:
    """One ring for all polygons with their holes, joined by bridges of no width (there and back again).

    For formats with a single polygon per object, such as YOLO. Rasterised it gives the same mask.

    Raises:
        ValueError: no polygon is given.
    """
    if not polygons:
        raise ValueError("there is no polygon to bridge: the mask is empty")
    parts = [_oriented(as_ring(polygon.outer), clockwise=True) for polygon in polygons]
    joined = []
    for outer, polygon in zip(parts, polygons):
        joined.append(_splice(outer, [_oriented(as_ring(hole), clockwise=False) for hole in polygon.holes]))
    return _splice(joined[0], joined[1:])


def _splice(ring: Ring, others: Sequence[Ring]) -> Ring:
    """``ring`` with each of ``others`` inserted where it comes closest."""
    if not others:
        return ring
    tree = cKDTree(ring)
    inserted: dict[int, list[Ring]] = {}
    for other in others:
        distances, nearest = tree.query(other)
        start = int(np.argmin(distances))
        at = int(nearest[start])
        inserted.setdefault(at, []).append(np.roll(other, -start, axis=0))
    pieces = []
    previous = 0
    for at in sorted(inserted):
        pieces.append(ring[previous : at + 1])
        for other in inserted[at]:
            pieces.extend((other, other[:1], ring[at : at + 1]))
        previous = at + 1
    return np.concatenate([*pieces, ring[previous:]])


def _oriented(ring: Ring, clockwise: bool) -> Ring:
    return ring if (signed_area(ring) >= 0) == clockwise else ring[::-1]


def _trace(mask: Mask) -> list[Ring]:
    """Rings of a mask, each beginning with its first corner in reading order (topmost, then leftmost).

    Corners are where two or more of the four squares around a grid point differ as at a turn. Along each grid
    line they pair up into edges, so two sorted orders of the corners hold the whole outline. A point whose
    squares touch diagonally is two corners; each takes the edges of one square.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    squares = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    y, x = np.nonzero(_IS_CORNER[squares])
    code = squares[y, x]
    twice = np.where(_IS_DIAGONAL[code], 2, 1)
    y, x, code = np.repeat(y, twice), np.repeat(x, twice), np.repeat(code, twice)
    count = len(x)
    if not count:
        return []
    # In reading order the first of a doubled corner ends the edge on its left, the second starts the one on
    # its right. The left one belongs to the left square, upper (code 9) or lower (code 6).
    second = np.zeros(count, dtype=bool)
    doubled = _IS_DIAGONAL[code]
    second[doubled] = np.arange(np.count_nonzero(doubled)) % 2 == 1
    across = np.arange(count) ^ 1
    # From top to bottom the corner of the upper square comes first.
    lower = np.where(code == 6, ~second, second)
    by_column = np.lexsort((lower, y, x))
    down = np.empty(count, dtype=np.int64)
    down[by_column[0::2]], down[by_column[1::2]] = by_column[1::2], by_column[0::2]
    # A corner is left along its row where, looking that way, the inside lies on the right.
    to_right = np.arange(count) % 2 == 0
    inside_below = np.where(to_right, code >> 3 & 1, code >> 2 & 1).astype(bool)
    along_row = to_right == inside_below
    successor = np.where(along_row, across, down).tolist()

    points = np.stack((x, y), axis=1).astype(np.float64)
    seen = bytearray(count)
    rings = []
    for first in range(count):
        if seen[first]:
            continue
        ring = []
        at = first
        while not seen[at]:
            seen[at] = 1
            ring.append(at)
            at = successor[at]
        rings.append(points[ring])
    return rings


_IS_DIAGONAL = np.isin(np.arange(16), (6, 9))
# A corner: an odd number of the four squares inside, or two that touch diagonally.
_IS_CORNER = np.array([bin(code).count("1") % 2 == 1 for code in range(16)]) | _IS_DIAGONAL


def _winding(rings: Sequence[Ring], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    """How often the rings run clockwise around the centre of each pixel, ``int32 [H, W]``."""
    height, width = size
    winding = np.zeros((height, width), dtype=np.int32)
    if not rings:
        return winding
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upward = starts[:, 1] > ends[:, 1]
    top = np.where(upward[:, None], ends, starts)  # from the top in both directions: bridges cancel exactly
    bottom = np.where(upward[:, None], starts, ends)
    first = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom[:, 1] - 0.5), 0, height).astype(np.int64)
    rows_per_edge = last - first
    edge = np.repeat(np.arange(len(first)), rows_per_edge)
    if not len(edge):
        return winding
    begun = np.cumsum(rows_per_edge) - rows_per_edge
    row = np.arange(len(edge)) - begun[edge] + first[edge]
    span = bottom[edge] - top[edge]
    x = top[edge, 0] + (row + 0.5 - top[edge, 1]) * span[:, 0] / span[:, 1]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    y0, y1 = int(row.min()), int(row.max()) + 1
    counts = np.bincount(
        (row - y0) * (width + 1) + column,
        weights=np.where(upward[edge], 1, -1),
        minlength=(y1 - y0) * (width + 1),
    )
    turns = counts.astype(np.int32).reshape(y1 - y0, width + 1)
    np.cumsum(turns[:, :-1], axis=1, out=winding[y0:y1])
    return winding
