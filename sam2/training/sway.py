"""Clips made of one picture, in which memory learns to give back whatever mask it was given.

In clips of moving objects a model does without reading memory closely: it finds the object again by its
looks, as from a click, and answers its own idea of where that ends. A picture under a swaying camera,
and targets whose borders no looks explain, leave it only the remembered mask. Such targets are pointed at by
their masks alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from sam2.data.targets import Painting, Target

Crop = tuple[int, int, int]
"""Top, left and side, pixels of the scene."""

CUTS = 4
"""Pieces cut off the parts of a scene, at most."""
SMALLEST = 80
"""Pixels of the smallest part that is cut, and of the smallest piece and remainder."""
STILL = 0.2
"""Share of clips in which the camera does not move."""
SHIFT = (0.004, 0.12)
"""Bounds of a frame's typical shift, as a share of the crop's side."""
GROWTH = 0.4
"""Typical logarithm of the change of side, over the shift."""


def swaying(first: Crop, full: int, frames: int, rng: np.random.Generator) -> list[Crop]:
    """Crops of a scene of side `full` by a camera that wanders off `first` and comes nearer or goes back."""
    if rng.random() < STILL:
        return [first] * frames
    low, high = np.log(SHIFT)
    shift = float(np.exp(rng.uniform(low, high)))
    drift = rng.normal(0, shift, 3) * (rng.random() < 0.5)
    top, left, side = first
    y, x, log_side = top + side / 2, left + side / 2, math.log(side)
    crops = [first]
    for _ in range(frames - 1):
        dy, dx, dz = drift + rng.normal(0, shift, 3)
        log_side = min(max(log_side + GROWTH * dz, math.log(max(first[2] / 2, 16))), math.log(full))
        side = min(round(math.exp(log_side)), full)
        y, x = (float(np.clip(v, side / 2, full - side / 2)) for v in (y + dy * side, x + dx * side))
        top, left = (int(np.clip(round(v - side / 2), 0, full - side)) for v in (y, x))
        crops.append((top, left, side))
    return crops


def cut_up(painting: Painting, rng: np.random.Generator) -> tuple[Painting, list[tuple[int, ...]]]:
    """A still with some of its parts cut in two along straight lines, and the owner numbers of new pieces.

    Targets stay what they were: the pieces are theirs. Owner numbers beyond 255 there are not; where all are
    taken, nothing is cut.
    """
    owners = painting.owners.copy()
    area = np.bincount(owners.ravel(), minlength=256)
    taken = {n for target in painting.targets for n in target.owners} | set(np.flatnonzero(area).tolist())
    free = [n for n in range(255, 0, -1) if n not in taken]
    large = np.flatnonzero(area >= 2 * SMALLEST)
    heirs: dict[int, list[int]] = {}
    for number in rng.permutation(large[large > 0])[:CUTS].tolist():
        if not free:
            break
        rows, columns = np.nonzero(owners[0] == number)
        angle = rng.uniform(0, 2 * np.pi)
        along = rows * math.sin(angle) + columns * math.cos(angle)
        beyond = along > np.quantile(along, rng.uniform(0.25, 0.75))
        if min(beyond.sum(), len(beyond) - beyond.sum()) < SMALLEST:
            continue
        piece = free.pop()
        owners[0, rows[beyond], columns[beyond]] = piece
        heirs.setdefault(number, []).append(piece)
    targets = tuple(
        replace(target, owners=(*target.owners, *(h for n in target.owners for h in heirs.get(n, ()))))
        for target in painting.targets
    )
    pieces: list[tuple[int, ...]] = [(piece,) for mine in heirs.values() for piece in mine]
    return replace(painting, owners=owners, targets=targets), pieces


def anything(
    targets: Sequence[Target], pieces: Sequence[tuple[int, ...]], shown: np.ndarray, rng: np.random.Generator
) -> tuple[int, ...] | None:
    """Owner numbers of a region that no looks explain: a piece, an object less one, several things together.

    shown: pixels by owner number, [256]. None where too little shows.
    """

    def much(owners: Iterable[int]) -> bool:
        return bool(shown[list(owners)].sum() >= SMALLEST)

    things = [t.owners for t in targets if much(t.owners)]
    if not things:
        return None
    chosen = set(things[int(rng.integers(len(things)))])
    draw = rng.random()
    if draw < 0.35:
        seen = [piece for piece in pieces if much(piece)]
        if seen:
            chosen = set(seen[int(rng.integers(len(seen)))])
    elif draw < 0.7:
        inside = [piece for piece in pieces if set(piece) < chosen and much(chosen - set(piece))]
        if inside:
            chosen -= set(inside[int(rng.integers(len(inside)))])
    if draw > 0.6:
        chosen |= set(things[int(rng.integers(len(things)))])
    return tuple(sorted(chosen))
