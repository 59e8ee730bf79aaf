"""Grounds: plain, textured, a floor in perspective under a sky or a wall, regions, hills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from . import shapes
from .actors import Actor
from .textures import GROUND, Material
from .things import Part, Style

Rng = np.random.Generator

WORLD = 3.0
"""Half the side of the ground, in pictures: the camera may look that far beyond the picture's edge."""


def _sheet(material: Material, ring: np.ndarray | None = None) -> Actor:
    far = shapes.box(-WORLD, -WORLD, 1 + WORLD, 1 + WORLD) if ring is None else ring
    return Actor([Part((far,), material)], 0, 0, 1.0, stuff=True)


def _tilted(material: Material, horizon: float, height: float) -> Material:
    """``material`` laid on the ground plane seen under the horizon at world y = ``horizon``."""
    h = horizon
    plane = np.array([[1.0, 0, -0.5], [0, 0, height], [0, 1 / 0.6, -h / 0.6]])
    return replace(material, placement=material.placement @ plane)


def _ridge(rng: Rng, level: float, rough: float) -> np.ndarray:
    """The region under a fractal line at about world y = ``level``."""
    x = np.linspace(-WORLD, 1 + WORLD, 160)
    k = np.arange(1, 24)
    waves = rng.normal(size=23) / k ** rng.uniform(1.0, 1.8)
    y = level + rough * (waves[:, None] * np.sin(k[:, None] * x * 0.9 + rng.uniform(0, 6.3, (23, 1)))).sum(0)
    return np.concatenate([np.stack([x, y], 1), [[1 + WORLD, 1 + WORLD], [-WORLD, 1 + WORLD]]])


def any_ground(rng: Rng, style: Style) -> tuple[list[Actor], float | None]:
    """The ground's pieces from back to front; the horizon's height where things stand on a floor."""
    d = style.difficulty
    kind = rng.choice(
        ["plain", "texture", "outdoors", "room", "regions", "hills"],
        p=_mix(d, [0.8, 0.2, 0, 0, 0, 0], [0.06, 0.16, 0.3, 0.26, 0.1, 0.12]),
    )
    contrast = rng.uniform(4, 10 + 60 * d)
    span = rng.uniform(0.5, 3)

    def surface(strength: float = 1.0, **kw: float) -> Material:
        index = GROUND[rng.integers(len(GROUND))]
        return style.material(
            contrast=max(contrast * strength, 2.0), texture=index, span=kw.get("span", span)
        )

    if kind == "plain":
        colour = style.colour()
        other = np.clip(colour + rng.normal(0, 25, 3), 0, 255)
        smooth = style.material(colour, contrast=0)
        if rng.random() < 0.7:
            smooth = style.material(
                (colour + other) / 2, contrast=float(rng.uniform(3, 14)), texture=0, span=4.0
            )
        return [_sheet(smooth)], None
    if kind == "texture":
        base = surface()
        style.ground = base
        return [_sheet(base)], None
    if kind == "regions":
        pieces = [_sheet(surface())]
        style.ground = pieces[0].parts[0].material
        for _ in range(int(rng.integers(1, 4))):
            edge = _ridge(rng, 0.0, rng.uniform(0, 0.15))
            edge = shapes.turn(edge, rng.uniform(0, 6.3)) + rng.uniform(0.2, 0.8, 2)
            pieces.append(_sheet(surface(rng.uniform(0.2, 1)), edge))
        return pieces, None
    horizon = rng.uniform(0.15, 0.65)
    sky = style.material(
        contrast=rng.uniform(2, 30),
        texture=0 if rng.random() < 0.7 else 23,
        span=rng.uniform(1, 4),
        angle=0.0,
    )
    pieces = [_sheet(sky)]
    if kind == "room":
        pieces = [_sheet(surface(rng.choice([0.1, 0.4, 1.0])))]
        for _ in range(int(rng.integers(0, 4))):
            x, y = rng.uniform(-0.2, 1), horizon - rng.uniform(0.1, 0.5)
            w, h = rng.uniform(0.08, 0.4), rng.uniform(0.08, 0.5)
            frame = shapes.box(x, y, x + w, y + h)
            pieces.append(_sheet(style.material(), frame))
            inner = shapes.box(x + 0.1 * w, y + 0.06 * h, x + 0.9 * w, y + 0.94 * h)
            if rng.random() < 0.7:
                pieces.append(_sheet(style.material(), inner))
        if rng.random() < 0.4:
            corner = rng.uniform(-0.1, 1.1)
            side = np.array([[corner, -WORLD], [1 + WORLD, -WORLD], [1 + WORLD, 3.0], [corner, horizon]])
            pieces.append(_sheet(surface(0.5), side))
    else:
        for k in range(int(rng.integers(1, 4 if kind == "outdoors" else 6))):
            level = horizon + (0.04 * k if kind == "outdoors" else 0.12 * k) - rng.uniform(0.02, 0.12)
            pieces.append(_sheet(surface(rng.uniform(0.3, 1)), _ridge(rng, level, rng.uniform(0.01, 0.12))))
        if kind == "hills":
            style.ground = pieces[-1].parts[0].material
            return pieces, horizon
    floor = shapes.box(-WORLD, horizon, 1 + WORLD, 1 + WORLD)
    flat = style.material(
        contrast=contrast,
        texture=GROUND[rng.integers(len(GROUND))],
        span=rng.uniform(0.6, 2),
        angle=rng.normal(0, 0.4),
    )
    style.ground = flat
    pieces.append(_sheet(_tilted(flat, horizon - rng.uniform(0.03, 0.3), 1.0), floor))
    return pieces, horizon


def _mix(d: float, easy: Sequence[float], hard: Sequence[float]) -> np.ndarray:
    return (1 - d) * np.asarray(easy) + d * np.asarray(hard)
