"""An object in the world: its parts, where it stands and how it is lit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .render import Posed, Wobble
from .things import Part


@dataclass
class Actor:
    """An object in the world: its parts, where it stands (world units: the picture is 0..1), how it looks."""

    parts: list[Part]
    x: float
    y: float
    scale: float
    angle: float = 0.0
    squash: float = 1.0
    flip: bool = False
    opacity: float = 1.0
    relief: float = 0.0
    gloss: float = 0.0
    shadow: float = 0.0
    standing: bool = False
    defocus: float = 0.0
    depth: float = 1.0
    """Distance, 1 for the plane the camera's motion is stated in; nearer (smaller) moves more."""
    stuff: bool = False
    """A piece of the ground (sky, floor, hill), which fills its region and throws no shadow."""
    group: int = -1
    """Actors of one non-negative group also make one target together."""

    def matrix(self) -> np.ndarray:
        """3x3, the object's frame to world units."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        k = -1.0 if self.flip else 1.0
        turn = np.array([[c, -s], [s, c]]) @ np.diag([k, self.squash]) * self.scale
        return np.array([[*turn[0], self.x], [*turn[1], self.y], [0, 0, 1]])


def posed(
    actor: Actor,
    matrix: np.ndarray,
    light: tuple[float, float],
    size: int,
    swings: Sequence[float] | None = None,
    wobble: Wobble | None = None,
    motion: tuple[float, float] = (0.0, 0.0),
) -> Posed:
    """``actor`` ready to paint at ``size`` pixels; ``matrix`` is the 3x3 matrix from its frame to pixels."""
    return Posed(
        actor.parts,
        matrix,
        swings if swings is not None else [0.0] * len(actor.parts),
        light,
        wobble,
        opacity=actor.opacity,
        relief=actor.relief,
        gloss=actor.gloss,
        shadow=actor.shadow,
        standing=actor.standing,
        defocus=actor.defocus * size / 128,
        motion=motion,
    )
