"""Objects moved away from one another until none hides another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from .actors import Actor
from .render import Posed, outlines

GRID = 128
"""Side of the pictures in which objects are held apart, pixels."""
TRIES = 12
"""Places tried for an object before it is left out."""

Rng = np.random.Generator


def apart(
    actors: Sequence[Actor], poses: Callable[[int, Actor], Sequence[Posed]], rng: Rng
) -> dict[int, Actor]:
    """Those of `actors` for which there is room, by their place in the row, moved where they were in the way.

    One after another keeps its place if in no frame it comes within about 1.5% of the picture's side of
    those before it; otherwise it is put at random places (what stands moves sideways only), and is left out
    where `TRIES` of them are taken too. So scenes without occlusion hold fewer objects than others. Outlines
    count without their holes. Outside the picture objects may overlap, and its edge still cuts them.

    poses: place in the row and actor to its pose in each frame of T, in pixels of a picture of side `GRID`.
    """
    kept: dict[int, Actor] = {}
    taken: np.ndarray | None = None
    for number, actor in enumerate(actors):
        for attempt in range(TRIES + 1):
            if attempt:
                x, y = rng.uniform(0.02, 0.98, 2)
                actor = replace(actor, x=float(x), y=actor.y if actor.standing else float(y))
            mine = np.stack([_outline(pose) for pose in poses(number, actor)])
            if taken is None or not (mine & taken).any():
                taken = mine if taken is None else taken | mine
                kept[number] = actor
                break
    return kept


def _outline(pose: Posed) -> np.ndarray:
    """bool [GRID, GRID]: where the object is, with a rim of 1.5 pixels, so that nothing is too thin."""
    picture = Image.new("1", (GRID, GRID))
    draw = ImageDraw.Draw(picture)
    for ring in outlines(pose):
        points = ring.ravel().tolist()
        draw.polygon(points, fill=1)
        draw.line([*points, *points[:2]], fill=1, width=3)
    return np.asarray(picture)
