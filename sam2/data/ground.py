"""Grounds: plain, textured, a floor in perspective under a sky or a wall, regions, hills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from . import shapes
from .actors import Actor
from .textures import GROUND, SOFT, Material
from .things import Part, Style, hsv

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


_TONES: dict[str, tuple[tuple[float, float], ...]] = {
    "sky": ((0.53, 0.63), (0.0, 0.5), (0.5, 1.0)),
    "earth": ((0.05, 0.14), (0.1, 0.6), (0.15, 0.75)),
    "green": ((0.19, 0.38), (0.2, 0.7), (0.12, 0.65)),
    "wall": ((0.0, 1.0), (0.0, 0.25), (0.4, 0.97)),
    "wood": ((0.04, 0.1), (0.2, 0.6), (0.2, 0.75)),
    "stone": ((0.0, 1.0), (0.0, 0.12), (0.2, 0.8)),
    "water": ((0.45, 0.6), (0.1, 0.6), (0.2, 0.7)),
}
"""Hue, saturation and value that such a surface has."""


class _Painter:
    """Surfaces of one ground, of like texture and contrast."""

    def __init__(self, rng: Rng, style: Style) -> None:
        self.rng = rng
        self.style = style
        self.contrast = rng.uniform(4, 10 + 55 * style.difficulty)
        self.span = rng.uniform(0.5, 3)

    def tone(self, *names: str) -> np.ndarray:
        """A colour such a surface would have, at times any colour."""
        rng = self.rng
        if rng.random() < 0.25:
            return self.style.colour()
        ranges = _TONES[names[int(rng.integers(len(names)))]]
        return hsv(*(float(rng.uniform(low, high)) for low, high in ranges))

    def surface(self, strength: float, *names: str, angle: float | None = None) -> Material:
        texture = GROUND[self.rng.integers(len(GROUND))]
        contrast = max(self.contrast * strength, 2.0)
        return self.style.material(self.tone(*names), contrast, self.span, texture, angle)

    def soft(self, contrast: float, *names: str, span: float | None = None) -> Material:
        """Clouds, a gradient, uneven light."""
        texture = SOFT[self.rng.integers(len(SOFT))]
        wide = self.rng.uniform(1.5, 5) if span is None else span
        return self.style.material(self.tone(*names), contrast, wide, texture, 0.0)


def any_ground(rng: Rng, style: Style) -> tuple[list[Actor], float | None]:
    """The ground's pieces from back to front; the horizon's height where things stand on a floor."""
    kinds = (_bare, _textured, _outdoors, _room, _regions, _hills)
    share = _mix(style.difficulty, (0.8, 0.2, 0, 0, 0, 0), (0.08, 0.14, 0.28, 0.3, 0.08, 0.12))
    return kinds[rng.choice(len(kinds), p=share)](rng, style, _Painter(rng, style))


def _bare(rng: Rng, style: Style, painter: _Painter) -> tuple[list[Actor], float | None]:
    colour = style.colour() if rng.random() < 0.6 else painter.tone("wall")
    if rng.random() < 0.3:
        return [_sheet(style.material(colour, contrast=0))], None
    return [_sheet(style.material(colour, float(rng.uniform(3, 18)), 4.0, SOFT[0]))], None


def _textured(rng: Rng, style: Style, painter: _Painter) -> tuple[list[Actor], float | None]:
    base = painter.surface(1.0, "earth", "green", "stone", "wood", "water")
    style.ground = base
    return [_sheet(base)], None


def _regions(rng: Rng, style: Style, painter: _Painter) -> tuple[list[Actor], float | None]:
    names = ("earth", "green", "stone", "wall", "water")
    pieces = [_sheet(painter.surface(1.0, *names))]
    style.ground = pieces[0].parts[0].material
    for _ in range(int(rng.integers(1, 4))):
        edge = _ridge(rng, 0.0, rng.uniform(0, 0.15))
        edge = shapes.turn(edge, rng.uniform(0, 6.3)) + rng.uniform(0.2, 0.8, 2)
        pieces.append(_sheet(painter.surface(rng.uniform(0.2, 1), *names), edge))
    return pieces, None


def _hills(rng: Rng, style: Style, painter: _Painter) -> tuple[list[Actor], float | None]:
    horizon = rng.uniform(0.15, 0.6)
    pieces = [_sheet(painter.soft(rng.uniform(2, 40), "sky"))]
    for k in range(int(rng.integers(1, 6))):
        edge = _ridge(rng, horizon + 0.12 * k - rng.uniform(0.02, 0.1), rng.uniform(0.01, 0.12))
        pieces.append(_sheet(painter.surface(rng.uniform(0.3, 1), "green", "earth", "stone"), edge))
    style.ground = pieces[-1].parts[0].material
    return pieces, horizon


def _outdoors(rng: Rng, style: Style, painter: _Painter) -> tuple[list[Actor], float | None]:
    horizon = rng.uniform(0.15, 0.65)
    pieces = [_sheet(painter.soft(rng.uniform(2, 40), "sky"))]
    for k in range(int(rng.integers(1, 4))):
        edge = _ridge(rng, horizon + 0.04 * k - rng.uniform(0.02, 0.2), rng.uniform(0.01, 0.15))
        pieces.append(_sheet(painter.surface(rng.uniform(0.3, 1), "green", "green", "stone"), edge))
    for _ in range(int(rng.integers(0, 3))):
        x, high = rng.uniform(-0.2, 1), horizon - rng.uniform(0.08, 0.6)
        block = shapes.box(x, high, x + rng.uniform(0.1, 0.6), horizon + 0.05)
        pieces.append(
            _sheet(painter.surface(rng.uniform(0.2, 1), "wall", "stone", "earth", angle=0.0), block)
        )
    pieces.append(_floor(rng, style, painter, horizon, "green", "earth", "stone"))
    if rng.random() < 0.3:
        middle, near = rng.uniform(0.1, 0.9), rng.uniform(-0.3, 1.3)
        wide = rng.uniform(0.3, 1.0)
        road = np.array(
            [[middle - 0.03, horizon], [middle + 0.03, horizon], [near + wide, 1.6], [near - wide, 1.6]]
        )
        pieces.append(_sheet(painter.surface(0.4, "stone", "earth"), road))
    return pieces, horizon


def _room(rng: Rng, style: Style, painter: _Painter) -> tuple[list[Actor], float | None]:
    horizon = rng.uniform(0.35, 0.8)
    pieces = [_sheet(painter.surface(rng.choice([0.1, 0.2, 0.7]), "wall", angle=0.0))]
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(-0.2, 1), horizon - rng.uniform(0.15, 0.9)
        w, h = rng.uniform(0.08, 0.45), rng.uniform(0.08, 0.6)
        pieces.append(_sheet(style.material(painter.tone("wall", "wood")), shapes.box(x, y, x + w, y + h)))
        if rng.random() < 0.7:
            inner = shapes.box(x + 0.1 * w, y + 0.06 * h, x + 0.9 * w, y + 0.94 * h)
            pieces.append(_sheet(painter.soft(rng.uniform(5, 60), "sky", "wall", "green", span=1.0), inner))
    if rng.random() < 0.4:
        corner = rng.uniform(-0.1, 1.1)
        far = 1 + WORLD
        side = np.array([[corner, -WORLD], [far, -WORLD], [far, 3.0], [corner, horizon]])
        if rng.random() < 0.5:
            side = (side - (0.5, 0)) * (-1, 1) + (0.5, 0)
        pieces.append(_sheet(painter.surface(0.3, "wall"), side))
    pieces.append(_floor(rng, style, painter, horizon, "wood", "stone", "wall"))
    if rng.random() < 0.35:
        board = shapes.box(-WORLD, horizon - rng.uniform(0.01, 0.05), 1 + WORLD, horizon)
        pieces.append(_sheet(style.material(painter.tone("wall", "wood"), contrast=0), board))
    if rng.random() < 0.45:
        edge = rng.uniform(horizon, 0.85)
        left, right = rng.uniform(-0.5, 0.2), rng.uniform(0.8, 1.5)
        table = np.array([[left, edge], [right, edge], [right + 0.4, 1.7], [left - 0.4, 1.7]])
        if rng.random() < 0.4:
            table = shapes.ellipse((left + right) / 2, edge + 0.5, (right - left) * 0.6, 0.5, 60)
        pieces.append(_sheet(painter.surface(rng.uniform(0.1, 0.8), "wood", "wall", "stone"), table))
        horizon = edge
    return pieces, horizon


def _floor(rng: Rng, style: Style, painter: _Painter, horizon: float, *names: str) -> Actor:
    texture = GROUND[rng.integers(len(GROUND))]
    span, angle = rng.uniform(0.6, 2), rng.normal(0, 0.4)
    flat = style.material(painter.tone(*names), painter.contrast, span, texture, angle)
    style.ground = flat
    below = shapes.box(-WORLD, horizon, 1 + WORLD, 1 + WORLD)
    return _sheet(_tilted(flat, horizon - rng.uniform(0.03, 0.3), 1.0), below)


def _mix(d: float, easy: Sequence[float], hard: Sequence[float]) -> np.ndarray:
    return (1 - d) * np.asarray(easy) + d * np.asarray(hard)
