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

    def __init__(self, rng: Rng, difficulty: float) -> None:
        self.rng = rng
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

    def camouflage(self) -> Material:
        """The ground's own texture, elsewhere cut and a little recoloured."""
        assert self.ground is not None
        rng = self.rng
        stops = np.frombuffer(self.ground.palette, np.uint8).reshape(256, 3)[::51].astype(float)
        shift = rng.normal(0, 22, 3) + rng.normal(0, 14)
        own = placement(rng, 1.0, 0.0)
        turned = self.ground.placement.copy()
        turned[:2, 2] = own[:2, 2]
        turned[2] = (0, 0, 1)
        return replace(self.ground, placement=turned, palette=palette(stops + shift))

    def shade(self, colour: np.ndarray, by: float) -> np.ndarray:
        return np.clip(colour * by, 0, 255)


Builder = Callable[[Rng, Style], list[Part]]


def _decor(rng: Rng, style: Style, group: int) -> list[Part]:
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
            rng, ring, int(rng.integers(40, 120)), rng.uniform(0.1, 0.35), rng.uniform(0, 6.3)
        )
    elif rng.random() < 0.12:
        rings = [shapes.scalloped(rng, ring, int(rng.integers(5, 16)), rng.uniform(0.08, 0.3))]
    parts = [Part(tuple(rings), style.material(), holes)]
    if rng.random() < 0.15 + 0.4 * d:
        parts += _decor(rng, style, 0)
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


def person(rng: Rng, style: Style) -> list[Part]:
    """A clothed figure: legs, torso, arms, head with hair and face."""
    skin_tone = hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.98))
    skin = style.material(skin_tone, contrast=rng.choice([0.0, 8.0]))
    top, bottom = style.material(span=2.0), style.material(span=2.0)
    dark = style.material(hsv(rng.random(), 0.4, rng.uniform(0.05, 0.3)))
    hair = style.material(hsv(rng.normal(0.07, 0.03), 0.5, rng.uniform(0.05, 0.7)))
    w = rng.uniform(0.16, 0.26)
    speed = rng.uniform(0.15, 0.5)
    phase = rng.uniform(0, 6)
    parts: list[Part] = []
    stance = rng.uniform(0.02, 0.3)
    skirt = rng.random() < 0.25
    for side in (-1, 1):
        hip, knee = (side * w * 0.5, 0.1), (side * (w * 0.5 + stance * 0.5), 0.5)
        foot = (side * (w * 0.5 + stance * rng.uniform(0.3, 1)), 0.93)
        swing = Swing(hip, rng.uniform(0.1, 0.4), phase + (side > 0) * np.pi, speed)
        leg = (shapes.capsule(hip, knee, w * 0.5, w * 0.36), shapes.capsule(knee, foot, w * 0.36, w * 0.24))
        parts.append(Part(leg, skin if skirt else bottom, group=0, swing=swing))
        toe = (foot[0] + 0.1 * rng.choice([-1, 1]), 0.96)
        parts.append(Part((shapes.capsule(foot, toe, 0.06, 0.05),), dark, group=1 + (side > 0), swing=swing))
    torso = np.array(
        [[-w, -0.45], [w, -0.45], [w * rng.uniform(0.7, 1), 0.15], [-w * rng.uniform(0.7, 1), 0.15]]
    )
    if skirt:
        flare = rng.uniform(1.2, 2.2)
        hem = rng.uniform(0.4, 0.8)
        gown = np.array([[-w * 0.8, 0.0], [w * 0.8, 0.0], [w * flare, hem], [-w * flare, hem]])
        parts.append(Part((shapes.rounded(gown, 1, 0.1),), bottom, group=8))
    parts.append(Part((shapes.rounded(torso, 2, 0.2),), top, group=3))
    if rng.random() < 0.5 * style.difficulty:
        parts += [replace(p, group=3) for p in _decor(rng, style, 3)]
    sleeve = rng.random() < 0.6
    for side in (-1, 1):
        shoulder = (side * w * 0.95, -0.4)
        spread = rng.uniform(-0.3, 2.6) if rng.random() < 0.4 else rng.uniform(-0.2, 0.5)
        elbow = (shoulder[0] + side * 0.28 * np.sin(spread), shoulder[1] + 0.28 * np.cos(spread))
        bend = spread + rng.uniform(-0.3, 1.8)
        hand = (elbow[0] + side * 0.26 * np.sin(bend), elbow[1] + 0.26 * np.cos(bend))
        swing = Swing(shoulder, rng.uniform(0.1, 0.5), phase + (side < 0) * np.pi, speed)
        g = 4 + (side > 0)
        parts.append(
            Part(
                (shapes.capsule(elbow, hand, 0.055, 0.045), shapes.ellipse(*hand, 0.06)),
                skin,
                group=g,
                swing=swing,
            )
        )
        upper = shapes.capsule(shoulder, elbow, 0.085, 0.06)
        parts.append(Part((upper,), top if sleeve else skin, group=g, swing=swing))
    parts.append(Part((shapes.capsule((0, -0.5), (0, -0.6), 0.06, 0.06),), skin))
    r = rng.uniform(0.13, 0.17)
    nod = Swing((0, -0.55), 0.12, phase, speed * 0.5)
    if rng.random() < 0.4:
        parts.append(Part((shapes.ellipse(0, -0.68, r * 1.3, r * 1.6),), hair, group=7, swing=nod))
    parts.append(Part((shapes.ellipse(0, -0.74, r * 0.85, r * 1.15),), skin, group=6, swing=nod))
    if rng.random() < 0.6:
        eyes = tuple(shapes.ellipse(s * r * 0.35, -0.75, r * 0.12, points=10) for s in (-1, 1))
        mouth = shapes.ellipse(0, -0.66, r * 0.3, r * 0.08, 10)
        parts.append(Part((*eyes, mouth), dark, group=6, swing=nod))
    cap = shapes.ellipse(0, -0.74 - r * 0.45, r * 0.98, r * rng.uniform(0.7, 1.0))
    cap = cap[cap[:, 1] < -0.74 - r * rng.uniform(0, 0.3)]
    parts.append(Part((cap,), hair if rng.random() < 0.7 else style.material(), group=7, swing=nod))
    return parts


def animal(rng: Rng, style: Style) -> list[Part]:
    """A four-legged animal from the side, perhaps furry or patterned."""
    coat = style.material(span=rng.uniform(1, 4))
    if style.ground is not None and rng.random() < 0.3 * style.difficulty:
        coat = style.camouflage()
    limb = coat if rng.random() < 0.6 else style.material()
    dark = style.material(np.array([20.0, 16, 14]), contrast=0)
    long, tall = rng.uniform(0.5, 0.75), rng.uniform(0.2, 0.36)
    legs = rng.uniform(0.25, 0.7)
    ground = tall + legs
    width = rng.uniform(0.05, 0.11)
    phase, speed = rng.uniform(0, 6), rng.uniform(0.2, 0.6)
    parts: list[Part] = []
    for k, x in enumerate((-long * 0.75, long * 0.55, -long * 0.55, long * 0.75)):
        hip = (x, tall * 0.4)
        foot = (x + rng.normal(0, 0.07), ground)
        swing = Swing(hip, 0.35, phase + k * np.pi * 0.8, speed)
        parts.append(Part((shapes.capsule(hip, foot, width * 1.6, width * 0.8),), limb, group=k, swing=swing))
    tail = np.array([[-long * 0.9, -tall * 0.3], [-long - 0.2, -tall * rng.uniform(-1, 2)]])
    tail = np.concatenate([tail, [[-long - rng.uniform(0.2, 0.45), -tall * rng.uniform(-3, 3)]]])
    parts.append(
        Part(
            (shapes.strip(tail, rng.uniform(0.02, 0.08) * np.array([1.4, 1, 0.6])),),
            limb,
            group=4,
            swing=Swing((-long * 0.9, -tall * 0.3), 0.5, phase, speed * 1.7),
        )
    )
    body = shapes.ellipse(0, 0, long, tall) * (1 + 0.08 * rng.normal(size=(36, 1)).cumsum(0) / 6)
    rings = [body]
    if rng.random() < 0.5:
        rings += shapes.hair(rng, body, 70, rng.uniform(0.08, 0.2), np.pi * 0.7)
    parts.append(Part(tuple(rings), coat))
    if rng.random() < 0.4:
        parts += [replace(p, group=-1) for p in _decor(rng, style, -1)]
    neck = rng.uniform(0.1, 0.7)
    head = (long + neck * 0.6, -tall * 0.5 - neck)
    nod = Swing((long * 0.8, -tall * 0.4), 0.2, phase, speed * 0.6)
    parts.append(
        Part((shapes.capsule((long * 0.75, -tall * 0.2), head, tall * 0.65, tall * 0.4),), coat, swing=nod)
    )
    r = rng.uniform(0.15, 0.24)
    snout = (head[0] + r * rng.uniform(0.8, 1.8), head[1] + r * 0.4)
    for side in (-1, 1):
        ear = np.array([[-0.5, -0.4], [0.2, -0.6], [side * 0.4 - 0.2, -rng.uniform(1.1, 2)]]) * r + head
        parts.append(Part((shapes.rounded(ear, 1),), limb, group=5, swing=nod))
    parts.append(
        Part(
            (shapes.ellipse(*head, r), shapes.capsule(head, snout, r * 0.7, r * 0.4)),
            coat,
            group=5,
            swing=nod,
        )
    )
    face = (shapes.ellipse(head[0] + r * 0.25, head[1] - r * 0.2, r * 0.14), shapes.ellipse(*snout, r * 0.25))
    parts.append(Part(face, dark, group=5, swing=nod))
    return [_scaled(p, 0.8) for p in parts]


def _scaled(part: Part, by: float, dx: float = 0, dy: float = 0, group: int | None = None) -> Part:
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


def flyer(rng: Rng, style: Style) -> list[Part]:
    """A fish or a bird: body, tail, fins or wings, eye."""
    coat, wing = style.material(), style.material()
    slim = rng.uniform(0.25, 0.6)
    phase, speed = rng.uniform(0, 6), rng.uniform(0.3, 1.0)
    tail = np.array(
        [[-0.5, 0], [-1.05, -slim * rng.uniform(0.5, 1.4)], [-0.85, 0], [-1.05, slim * rng.uniform(0.3, 1.2)]]
    )
    fin = np.array([[0.25, -slim * 0.4], [-0.4, -slim * 0.3], [-0.5, -slim * rng.uniform(1.2, 3)]])
    parts = [
        Part((tail,), wing, group=0, swing=Swing((-0.5, 0), 0.3, phase, speed)),
        Part((fin,), wing, group=1, swing=Swing((0, -slim * 0.3), 0.5, phase, speed)),
        Part(
            (
                shapes.strip(
                    np.array([[-0.75, 0], [-0.3, 0.02], [0.2, 0], [0.6, 0], [0.8, 0]]),
                    slim * np.array([0.15, 0.6, 0.75, 0.5, 0.12]),
                ),
            ),
            coat,
        ),
    ]
    parts[2] = replace(parts[2], rings=(shapes.rounded(parts[2].rings[0], 2),))
    if rng.random() < 0.6:
        parts += [replace(p, group=-1) for p in _decor(rng, style, -1)]
    low = fin * (0.8, -0.5) + (0.1, slim * 0.1)
    parts.append(Part((low,), wing, group=2, swing=Swing((0.1, 0.1), 0.5, phase + 2, speed)))
    parts.append(
        Part(
            (shapes.ellipse(0.55, -slim * 0.12, 0.06),), style.material(np.array([15.0, 15, 15]), contrast=0)
        )
    )
    if rng.random() < 0.5:
        beak = np.array([[0.72, -slim * 0.15], [1.0, 0.02], [0.72, slim * 0.12]])
        parts.append(Part((beak,), style.material(), group=3))
    return parts


def vehicle(rng: Rng, style: Style) -> list[Part]:
    """A car, van, bus or cart from the side."""
    paint = style.material(contrast=rng.choice([0.0, 6.0]))
    glass = style.material(hsv(0.57, 0.25, rng.uniform(0.08, 0.6)), contrast=12, span=3)
    rubber = style.material(hsv(0.6, 0.1, rng.uniform(0.05, 0.2)), contrast=0)
    rim = style.material(hsv(0.6, 0.05, rng.uniform(0.4, 0.95)), contrast=0)
    low, waist, top = 0.35, rng.uniform(-0.15, 0.1), -rng.uniform(0.35, 0.75)
    back, front = rng.uniform(-0.95, -0.5), rng.uniform(0.1, 0.9)
    hood = rng.uniform(-0.05, 0.2)
    body = np.array(
        [
            [-1, low],
            [-1, waist - hood * 0.3],
            [back, waist],
            [back + 0.15, top],
            [front - 0.25, top],
            [front, waist],
            [0.95, waist + hood],
            [1, low],
        ]
    )
    parts = [Part((shapes.rounded(body, 2, 0.12),), paint)]
    count = int(rng.integers(1, 5))
    left, right = back + 0.22, front - 0.16
    edges = np.linspace(left, right, count + 1)
    for k in range(count):
        pane = shapes.box(edges[k] + 0.03, top + 0.08, edges[k + 1] - 0.03, waist - 0.02)
        pane[1, 0] -= 0.08 if k == count - 1 else 0
        parts.append(Part((pane,), glass, clip=True, group=10 + k))
    trim = shapes.box(-1, 0.1, 1, rng.uniform(0.13, 0.3))
    if rng.random() < 0.5:
        parts.append(Part((trim,), style.material(), clip=True))
    lamps = (
        shapes.ellipse(0.93, waist + hood + 0.12, 0.06, 0.05),
        shapes.ellipse(-0.96, waist + 0.15, 0.05, 0.07),
    )
    parts.append(Part(lamps, style.material(hsv(rng.uniform(0, 0.15), 0.6, 0.95), contrast=0), clip=True))
    r = rng.uniform(0.17, 0.26)
    for k, x in enumerate((-0.6 + rng.uniform(-0.1, 0.1), 0.6 + rng.uniform(-0.1, 0.1))):
        parts.append(Part((shapes.ellipse(x, low, r),), rubber, group=k))
        spokes = tuple(
            shapes.turn(shapes.box(-0.02, -r * 0.6, 0.02, r * 0.6), a) + np.array([x, low])
            for a in (0, 1.05, 2.1)
        )
        turning = Swing((x, low), np.pi, 0, 0.2)
        parts.append(Part((shapes.ellipse(x, low, r * 0.6),), rim, group=k))
        parts.append(Part(spokes, rubber, group=k, swing=turning))
    return [_scaled(p, 1.0, 0, 0.3) for p in parts]


def vessel(rng: Rng, style: Style) -> list[Part]:
    """A bottle, vase, jug, cup, lamp: a turned body with bands, label, lid, handle."""
    ring = shapes.profile(rng, int(rng.integers(3, 7)))
    cup = rng.random() < 0.35
    if cup:
        a, b = rng.uniform(0.45, 0.8), rng.uniform(0.35, 0.8)
        ring = shapes.rounded(np.array([[-a, -0.8], [a, -0.8], [b, 0.95], [-b, 0.95]]), 1, 0.08)
    glaze = style.material()
    parts: list[Part] = []
    if rng.random() < (0.75 if cup else 0.3):
        right = float(ring[:, 0].max())
        outer = shapes.ellipse(right * 0.9, -0.1, 0.4, rng.uniform(0.3, 0.55))
        hole = (outer - outer.mean(0)) * rng.uniform(0.5, 0.75) + outer.mean(0)
        parts.append(Part((outer,), glaze if rng.random() < 0.6 else style.material(), (hole,), group=0))
    if rng.random() < 0.25:
        path = np.array([[-0.2, 0.3], [-0.7, 0.0], [-0.8, -0.5], [-1.05, -0.7]])
        parts.append(Part((shapes.strip(path, np.array([0.12, 0.08, 0.06, 0.05])),), glaze, group=1))
    parts.append(Part((ring,), glaze))
    for k in range(int(rng.integers(0, 3))):
        y = rng.uniform(-0.8, 0.7)
        band = shapes.box(-1, y, 1, y + rng.uniform(0.05, 0.5))
        parts.append(Part((band,), style.material(span=1.5), clip=True, group=2 + k))
    if rng.random() < 0.3:
        parts += [replace(p, group=-1) for p in _decor(rng, style, -1)]
    if cup:
        w = float(ring[ring[:, 1] < -0.7, 0].max())
        lip = rng.uniform(0.05, 0.2)
        parts.append(Part((shapes.ellipse(0, -0.8, w, lip),), glaze))
        parts.append(Part((shapes.ellipse(0, -0.8, w * 0.9, lip * 0.8),), style.material(), group=5))
    elif rng.random() < 0.5:
        w = abs(float(ring[0, 0])) + 0.03
        parts.append(Part((shapes.round_box(-w, -1.15, w, -0.92, 0.04),), style.material(), group=6))
    return parts
