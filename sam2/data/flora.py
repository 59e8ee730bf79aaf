"""Growing things: trees, bushes, potted plants, flowers, leaves, grass, mushrooms, stones."""

from __future__ import annotations

import numpy as np

from . import shapes
from .things import Part, Rng, Style, Swing, hsv


def _green(rng: Rng, style: Style) -> np.ndarray:
    if rng.random() < 0.15:
        return style.colour()
    return hsv(rng.normal(0.27, 0.06), rng.uniform(0.25, 0.8), rng.uniform(0.15, 0.75))


def tree(rng: Rng, style: Style) -> list[Part]:
    """Trunk and branches, bare or under crowns of leaves."""
    limbs, tips = shapes.tree(rng, int(rng.integers(2, 4)))
    bark = style.material(
        hsv(rng.normal(0.08, 0.03), rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6)), contrast=25, span=1
    )
    parts = [Part(tuple(limbs), bark, group=0)]
    leaves = style.material(
        _green(rng, style), contrast=rng.uniform(20, 60), texture=18, span=rng.uniform(0.8, 3)
    )
    kind = rng.random()
    if kind < 0.55:
        crowns = tuple(shapes.rugged(rng, 0.2) * rng.uniform(0.18, 0.45) + tip for tip in tips[:8])
        parts.append(Part(crowns, leaves, group=1))
    elif kind < 0.8:
        crown = shapes.rugged(rng, 0.22, 6) * (rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.8)) + (0, -0.4)
        parts.append(Part((crown,), leaves, group=1))
    return parts


def bush(rng: Rng, style: Style) -> list[Part]:
    """A bush, hedge or heap of leaves, perhaps with blossoms."""
    leaves = style.material(
        _green(rng, style), contrast=rng.uniform(20, 60), texture=18, span=rng.uniform(1, 4)
    )
    ring = shapes.rugged(rng, 0.2, 6)
    parts = [Part((ring, *shapes.hair(rng, ring, 40, 0.15, -1.6)), leaves)]
    if rng.random() < 0.4:
        spots = tuple(
            shapes.star(5, 0.5) * 0.08 + rng.uniform(-0.7, 0.7, 2) for _ in range(int(rng.integers(4, 14)))
        )
        parts.append(Part(spots, style.material(contrast=0), clip=True))
    return parts


def plant(rng: Rng, style: Style) -> list[Part]:
    """Leaves on stalks, in a pot or out of the ground."""
    stalk = style.material(_green(rng, style), contrast=0)
    blade = style.material(_green(rng, style), contrast=15, span=1)
    parts: list[Part] = []
    lobes = int(rng.choice([0, 0, 5]))
    for k in range(int(rng.integers(4, 10))):
        lean = rng.normal(0, 0.7)
        length = rng.uniform(0.5, 1.2)
        tip = np.array([np.sin(lean), -np.cos(lean)]) * length + (0, 0.5)
        path = np.array([[0, 0.55], [tip[0] * 0.3, tip[1] * 0.5 + 0.3], tip])
        sway = Swing((0.0, 0.5), rng.uniform(0.03, 0.2), rng.uniform(0, 6), rng.uniform(0.1, 0.5))
        leaf = shapes.turn(shapes.leaf(rng, lobes) * rng.uniform(0.2, 0.45), lean + rng.normal(0, 0.4)) + tip
        parts.append(Part((shapes.strip(path, 0.025),), stalk, group=50, swing=sway))
        parts.append(Part((leaf,), blade, group=k, swing=sway))
    if rng.random() < 0.7:
        w = rng.uniform(0.3, 0.5)
        pot = np.array([[-w, 0.45], [w, 0.45], [w * rng.uniform(0.6, 1), 1], [-w * rng.uniform(0.6, 1), 1]])
        parts.append(Part((pot,), style.material(), group=60))
        parts.append(Part((shapes.box(-w * 1.1, 0.4, w * 1.1, 0.52),), style.material(), group=60))
    return parts


def flower(rng: Rng, style: Style) -> list[Part]:
    """A blossom on a stem: petals around a heart, leaves below."""
    stem = style.material(_green(rng, style), contrast=0)
    petal = style.material(contrast=rng.choice([0.0, 15.0]))
    bend = rng.normal(0, 0.2)
    sway = Swing((0.0, 1.0), 0.15, rng.uniform(0, 6), rng.uniform(0.1, 0.4))
    path = np.array([[0, 1], [bend * 0.5, 0.3], [bend, -0.4]])
    parts = [Part((shapes.strip(path, 0.04),), stem, group=0, swing=sway)]
    for side in (-1, 1):
        foot = np.array([side * 0.25 + bend * 0.4, 0.4])
        leaf = shapes.turn(shapes.leaf(rng) * 0.35, side * rng.uniform(0.6, 1.3)) + foot
        parts.append(Part((leaf,), stem, group=0, swing=sway))
    n = int(rng.integers(4, 14))
    shape = shapes.leaf(rng) * (rng.uniform(0.5, 1.1), 0.35) + (0, -0.42)
    petals = tuple(
        shapes.turn(shape, 2 * np.pi * k / n) * (1, rng.uniform(0.7, 1)) + (bend, -0.45) for k in range(n)
    )
    parts.append(Part(petals, petal, group=1, swing=sway))
    parts.append(
        Part((shapes.ellipse(bend, -0.45, rng.uniform(0.1, 0.28)),), style.material(), group=1, swing=sway)
    )
    return parts


def leaf(rng: Rng, style: Style) -> list[Part]:
    """One large leaf or feather with its vein."""
    ring = shapes.leaf(rng, int(rng.choice([0, 0, 4, 7])))
    green = _green(rng, style)
    parts = [Part((ring, shapes.box(-0.03, 0.8, 0.03, 1.3)), style.material(green, contrast=15, span=1.5))]
    vein = style.material(style.shade(green, rng.choice([0.7, 1.3])), contrast=0)
    ribs = [shapes.strip(np.array([[0, 0.95], [0, -0.95]]), 0.02)]
    for k in np.linspace(-0.6, 0.7, 5):
        ribs += [shapes.strip(np.array([[0, k], [s * 0.5, k - 0.3]]), 0.012) for s in (-1, 1)]
    parts.append(Part(tuple(ribs), vein, clip=True))
    return parts


def mushroom(rng: Rng, style: Style) -> list[Part]:
    """A cap on a stalk: mushroom, umbrella, lamp."""
    w = rng.uniform(0.06, 0.3)
    t = np.linspace(np.pi, 2 * np.pi, 20)
    cap = np.stack([rng.uniform(0.6, 1) * np.cos(t), rng.uniform(0.5, 0.9) * np.sin(t)], 1)
    parts = [
        Part((shapes.rounded(shapes.box(-w, -0.1, w, 1), 1, 0.15),), style.material(), group=0),
        Part((cap,), style.material(), group=1),
    ]
    if rng.random() < 0.5:
        spots = tuple(
            shapes.ellipse(rng.uniform(-0.6, 0.6), rng.uniform(-0.7, 0), rng.uniform(0.05, 0.14))
            for _ in range(6)
        )
        parts.append(Part(spots, style.material(contrast=0), clip=True, group=1))
    return parts


def stone(rng: Rng, style: Style) -> list[Part]:
    """A stone, cloud or lump with a rugged outline and a rough surface."""
    ring = shapes.rugged(rng, rng.uniform(0.05, 0.2))
    base = (
        hsv(rng.random(), rng.uniform(0, 0.2), rng.uniform(0.25, 0.8))
        if rng.random() < 0.7
        else style.colour()
    )
    return [Part((ring,), style.material(base, contrast=rng.uniform(10, 50), span=rng.uniform(1, 4)))]


def tuft(rng: Rng, style: Style) -> list[Part]:
    """Grass, reeds, hair: many thin blades from one foot."""
    blades = []
    for _ in range(int(rng.integers(8, 40))):
        x = rng.normal(0, 0.25)
        tip = np.array([x + rng.normal(0, 0.5), -rng.uniform(0, 1)])
        path = np.array([[x, 1.0], [x + 0.3 * (tip[0] - x), 0.4], tip])
        blades.append(shapes.strip(path, np.array([0.04, 0.03, 0.004])))
    sway = Swing((0.0, 1.0), 0.15, 0.0, 0.3)
    return [Part(tuple(blades), style.material(_green(rng, style), contrast=12), swing=sway)]
