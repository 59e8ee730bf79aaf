"""Objects put together from parts: people, animals, vehicles, vessels, plain shapes.

A builder draws an object in its own frame (x right, y down, about -1..1; what stands, stands on y = 1) and
answers its parts from back to front.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from . import shapes
from .textures import SOFT, VARIANTS, Material, palette, placement

Rng = np.random.Generator


@dataclass(frozen=True)
class Swing:
    """A part's turning to and fro about a joint: ``amplitude`` radians, ``speed`` radians a frame."""

    pivot: tuple[float, float]
    amplitude: float
    phase: float
    speed: float


@dataclass(frozen=True)
class Part:
    """A piece of one material: the union of ``rings`` without ``holes``, or a ``stamp`` in its box."""

    rings: tuple[np.ndarray, ...]
    material: Material
    holes: tuple[np.ndarray, ...] = ()
    stamp: Image.Image | None = None
    stamp_box: tuple[float, float, float, float] = (-1, -1, 1, 1)
    picture: Image.Image | None = None
    """RGB, of the stamp's size: what the stamp shows, in place of the material."""
    clip: bool = False
    """Seen only where it lies on the parts drawn before it (a label, a stripe, a pupil)."""
    group: int = -1
    """Parts of one non-negative group make a target of their own; -1: only of the whole."""
    swing: Swing | None = None


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB float64 [3] in 0..255; all inputs in 0..1, hue wraps."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return 255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))


class Style:
    """The look of one scene: its colours, how strong its textures are, the ground to hide on."""

    def __init__(self, rng: Rng, difficulty: float, hides: bool = True) -> None:
        """hides: objects may be of the ground's own material."""
        self.rng = rng
        self.hides = hides
        self.difficulty = difficulty
        self.hues = rng.random(3) if rng.random() < 0.5 else None
        self.vivid = rng.uniform(0.5, 1.3)
        self.ground: Material | None = None
        self.avoid: np.ndarray | None = None

    def colour(self) -> np.ndarray:
        """A colour that fits the scene, and while the scene is easy one that stands off from the ground."""
        rng = self.rng
        best, best_gap = np.zeros(3), -1.0
        for _ in range(4):
            if self.hues is None or rng.random() < 0.3:
                hue = rng.random() if rng.random() < 0.6 else rng.normal(0.08, 0.05)
            else:
                hue = rng.choice(self.hues) + rng.normal(0, 0.03)
            saturation = min(rng.beta(1.2, 2.2) * self.vivid, 1.0)
            tone = hsv(hue, saturation, rng.beta(1.6, 1.2) * 0.95 + 0.05)
            if self.avoid is None:
                return tone
            gap = float(np.abs(tone - self.avoid).max())
            if gap > best_gap:
                best, best_gap = tone, gap
            if gap > 110 * (1 - self.difficulty) + 10:
                break
        return best

    def material(
        self,
        colour: np.ndarray | None = None,
        contrast: float | None = None,
        span: float | None = None,
        texture: int | None = None,
        angle: float | None = None,
        stretch: float = 1.0,
    ) -> Material:
        """A surface of about ``colour``; ``contrast`` in grey levels (0: plain), ``span`` units to a tile."""
        rng, d = self.rng, self.difficulty
        colour = self.colour() if colour is None else colour
        if contrast is None:
            contrast = rng.uniform(4, 12 + 60 * d) if rng.random() < 0.25 + 0.55 * d else 0.0
        if contrast == 0:
            return Material(-1, np.eye(3), palette(colour[None]))
        if texture is None:
            easy = rng.random() < 0.6 - 0.35 * d
            texture = SOFT[rng.integers(len(SOFT))] if easy else int(rng.integers(VARIANTS))
        span = 4.0 * rng.random() ** 1.5 + 0.8 if span is None else span
        return Material(texture, placement(rng, span, angle, stretch), palette(self._stops(colour, contrast)))

    def _stops(self, colour: np.ndarray, contrast: float) -> np.ndarray:
        rng = self.rng
        count = int(rng.integers(3, 6))
        light = np.linspace(-1, 1, count) if rng.random() < 0.8 else rng.uniform(-1, 1, count)
        stops = colour + contrast * light[:, None] * rng.uniform(0.75, 1.1, 3)
        stops += rng.normal(0, 0.22 * contrast, (count, 3))
        if contrast > 20 and rng.random() < 0.25:
            stops[count // 2 :] = self.colour()
        return stops

    def camouflage(self, own: Material) -> Material:
        """The ground's own texture, elsewhere cut and a little recoloured; `own` where nothing hides."""
        assert self.ground is not None
        rng = self.rng
        stops = np.frombuffer(self.ground.palette, np.uint8).reshape(256, 3)[::51].astype(float)
        shift = rng.normal(0, 22, 3) + rng.normal(0, 14)
        place = placement(rng, 1.0, 0.0)
        turned = self.ground.placement.copy()
        turned[:2, 2] = place[:2, 2]
        turned[2] = (0, 0, 1)
        # Drawn in either case, so that whatever is drawn after it stays the same.
        hidden = replace(self.ground, placement=turned, palette=palette(stops + shift))
        return hidden if self.hides else own

    def shade(self, colour: np.ndarray, by: float) -> np.ndarray:
        return np.clip(colour * by, 0, 255)


Builder = Callable[[Rng, Style], list[Part]]


def decor(rng: Rng, style: Style, group: int) -> list[Part]:
    """Bands, spots, a patch or a label on whatever was drawn before."""
    kind = rng.integers(5)
    material = style.material()
    if kind == 0:
        y = rng.uniform(-0.6, 0.4)
        band = shapes.turn(
            shapes.box(-1.6, y, 1.6, y + rng.uniform(0.1, 0.5)), rng.choice([0.0, rng.normal(0, 0.5)])
        )
        return [Part((band,), material, clip=True, group=group)]
    if kind == 1:
        n = int(rng.integers(2, 7))
        radius = rng.uniform(0.06, 0.2)
        spots = tuple(
            shapes.ellipse(x, y, radius * rng.uniform(0.7, 1.3)) for x, y in rng.uniform(-0.8, 0.8, (n, 2))
        )
        return [Part(spots, material, clip=True)]
    if kind == 2:
        patch = shapes.simple(rng) * rng.uniform(0.25, 0.6) + rng.uniform(-0.5, 0.5, 2)
        return [Part((patch,), material, clip=True, group=group)]
    if kind == 3:
        text = "".join(rng.choice(list("ABCDEFGHKLMNOPRSTUVXYZ0123456789&%#"), int(rng.integers(1, 6))))
        w = rng.uniform(0.3, 0.7)
        return [Part((), material, stamp=shapes.glyph(text), stamp_box=(-w, -0.25, w, 0.25), clip=True)]
    n = int(rng.integers(3, 7))
    ys = np.linspace(-1, 1, 2 * n)
    angle = rng.uniform(0, np.pi)
    bands = tuple(shapes.turn(shapes.box(-1.6, a, 1.6, b), angle) for a, b in zip(ys[::2], ys[1::2]))
    return [Part(bands, material, clip=True)]


def plain(rng: Rng, style: Style) -> list[Part]:
    """One outline, perhaps with holes, fur or decoration."""
    ring = shapes.simple(rng)
    d = style.difficulty
    holes: tuple[np.ndarray, ...] = ()
    rings = [ring]
    if rng.random() < 0.12 + 0.1 * d:
        holes = (shapes.simple(rng) * rng.uniform(0.25, 0.6) + rng.uniform(-0.15, 0.15, 2),)
    elif rng.random() < 0.25 * d:
        rings += shapes.hair(
            rng, ring, int(rng.integers(60, 160)), rng.uniform(0.05, 0.25), rng.uniform(0, 6.3)
        )
    elif rng.random() < 0.12:
        rings = [shapes.scalloped(rng, ring, int(rng.integers(5, 16)), rng.uniform(0.08, 0.3))]
    parts = [Part(tuple(rings), style.material(), holes)]
    if rng.random() < 0.15 + 0.4 * d:
        parts += decor(rng, style, 0)
    return parts


def assembly(rng: Rng, style: Style) -> list[Part]:
    """Several simple outlines stuck together."""
    parts = []
    for k in range(int(rng.integers(2, 5))):
        size = rng.uniform(0.25, 0.6)
        ring = shapes.turn(shapes.simple(rng), rng.uniform(0, 6.3)) * size
        if k:
            ring = ring + shapes.turn(np.array([[0.55, 0.0]]), rng.uniform(0, 6.3))
        swing = Swing((0, 0), rng.uniform(0, 0.4), rng.uniform(0, 6), rng.uniform(0.1, 0.6)) if k else None
        parts.append(Part((ring,), style.material(), group=k, swing=swing))
    return parts


def placed(part: Part, by: float, dx: float = 0, dy: float = 0, group: int | None = None) -> Part:
    """``part`` scaled about the origin, then moved; ``group`` replaces its own where given."""
    shift = np.array([dx, dy])
    x0, y0, x1, y1 = part.stamp_box
    swing = part.swing
    if swing is not None:
        swing = replace(swing, pivot=(swing.pivot[0] * by + dx, swing.pivot[1] * by + dy))
    return replace(
        part,
        rings=tuple(r * by + shift for r in part.rings),
        holes=tuple(r * by + shift for r in part.holes),
        stamp_box=(x0 * by + dx, y0 * by + dy, x1 * by + dx, y1 * by + dy),
        swing=swing,
        group=part.group if group is None else group,
    )
