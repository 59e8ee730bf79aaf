"""Made things: vehicles, vessels, boxes, books, screens, furniture, tools, bags, balls, buildings, fences."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from . import shapes
from .textures import Material
from .things import Part, Rng, Style, Swing, decor, hsv, placed


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
    return [placed(p, 1.0, 0, 0.3) for p in parts]


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
        parts += [replace(p, group=-1) for p in decor(rng, style, -1)]
    if cup:
        w = float(ring[ring[:, 1] < -0.7, 0].max())
        lip = rng.uniform(0.05, 0.2)
        parts.append(Part((shapes.ellipse(0, -0.8, w, lip),), glaze))
        parts.append(Part((shapes.ellipse(0, -0.8, w * 0.9, lip * 0.8),), style.material(), group=5))
    elif rng.random() < 0.5:
        w = abs(float(ring[0, 0])) + 0.03
        parts.append(Part((shapes.round_box(-w, -1.15, w, -0.92, 0.04),), style.material(), group=6))
    return parts


def crate(rng: Rng, style: Style) -> list[Part]:
    """A box seen from a corner: three faces of one colour, lit differently, perhaps a label and tape."""
    colour = style.colour()
    contrast = rng.choice([0.0, rng.uniform(5, 30)])
    w, h, depth = rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.6)
    lean = rng.uniform(0.2, 0.9)
    front = np.array([[-w, -h * 0.2], [w * 0.4, -h * 0.2], [w * 0.4, 1], [-w, 1]])
    back = np.array([depth, -depth * lean])
    top = np.stack([front[0], front[1], front[1] + back, front[0] + back])
    side = np.stack([front[1], front[2], front[2] + back, front[1] + back])
    light = rng.permutation([1.15, 0.9, 0.65])
    faces = []
    for k, (ring, by) in enumerate(zip((front, top, side), light)):
        surface = style.material(style.shade(colour, by), contrast=contrast, span=2.0)
        faces.append(Part((ring,), surface, group=k))
    if rng.random() < 0.5:
        x, y = rng.uniform(-w, 0), rng.uniform(0, 0.6)
        label = shapes.box(x, y, x + rng.uniform(0.2, 0.6), y + rng.uniform(0.1, 0.4))
        faces.append(Part((label,), style.material(), clip=True, group=3))
    return faces


def book(rng: Rng, style: Style) -> list[Part]:
    """A flat package, book, poster or card: a sheet with a frame, a picture and writing."""
    tall = rng.uniform(0.5, 1.0)
    sheet = shapes.round_box(-0.75, -tall, 0.75, tall, rng.choice([0.0, 0.08]))
    parts = [Part((sheet,), style.material())]
    if rng.random() < 0.6:
        x0, y0 = rng.uniform(-0.65, -0.1), rng.uniform(-tall * 0.9, 0)
        inner = shapes.box(x0, y0, x0 + rng.uniform(0.4, 1.1), y0 + rng.uniform(0.3, 0.9) * tall)
        parts.append(Part((inner,), style.material(), clip=True, group=0))
    lines = int(rng.integers(1, 5))
    ink = style.material(contrast=0)
    for k in range(lines):
        y = -tall * 0.8 + 2 * tall * 0.8 * (k + rng.random()) / lines
        text = "".join(rng.choice(list("ABCDEFGHIKLMNORSTUabcdefghiklmnorstu "), int(rng.integers(3, 10))))
        half = rng.uniform(0.05, 0.14)
        if text.strip():
            parts.append(
                Part(
                    (),
                    ink,
                    stamp=shapes.glyph(text.strip()),
                    stamp_box=(-0.6, y - half, 0.6, y + half),
                    clip=True,
                )
            )
    return parts


def screen(rng: Rng, style: Style) -> list[Part]:
    """A monitor, telephone, picture frame or window."""
    tall = rng.uniform(0.45, 1.0)
    outer = shapes.round_box(-0.8, -tall, 0.8, tall, rng.uniform(0, 0.2))
    rim = rng.uniform(0.04, 0.2)
    inner = shapes.box(-0.8 + rim, -tall + rim, 0.8 - rim, tall - rim * rng.uniform(0.8, 2))
    parts = [
        Part((outer,), style.material(contrast=0)),
        Part((inner,), style.material(contrast=40, span=2), group=0),
    ]
    if rng.random() < 0.4:
        foot = np.array([[-0.1, tall], [0.1, tall], [0.15, tall + 0.3], [-0.15, tall + 0.3]])
        base = shapes.ellipse(0, tall + 0.32, 0.45, 0.08)
        parts.insert(0, Part((foot, base), style.material(contrast=0), group=1))
    if rng.random() < 0.5:
        things = tuple(shapes.simple(rng) * 0.15 + rng.uniform(-0.5, 0.5, 2) * (1, tall) for _ in range(3))
        parts.append(Part(things, style.material(), clip=True))
    return parts


def furniture(rng: Rng, style: Style) -> list[Part]:
    """A table, chair, stool, shelf or bed from a little above, on thin legs one can look through."""
    wood = style.material(span=2)
    leg = wood if rng.random() < 0.6 else style.material()
    top = rng.uniform(-0.4, 0.3)
    w, depth, lean = rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.4), rng.uniform(-0.3, 0.3)
    thick = rng.uniform(0.03, 0.09)
    legs = []
    for x, y in ((-w, 0.0), (w, 0.0), (-w + lean, -depth), (w + lean, -depth)):
        inset = 0.88
        legs.append(
            shapes.strip(np.array([[x * inset, top + y], [x * inset * rng.uniform(0.95, 1.1), 1 + y]]), thick)
        )
    parts = [Part(tuple(legs), leg, group=0)]
    plate = np.array([[-w, top], [w, top], [w + lean, top - depth], [-w + lean, top - depth]])
    if rng.random() < 0.3:
        plate = shapes.ellipse(lean / 2, top - depth / 2, w * 1.1, depth * 0.6)
    back = rng.random()
    if back < 0.5:
        high = top - depth - rng.uniform(0.5, 0.9)
        rest = np.array(
            [[-w + lean, top - depth], [w + lean, top - depth], [w + lean, high], [-w + lean, high]]
        )
        bars = int(rng.integers(0, 6))
        gaps = tuple(
            shapes.box(a + 0.04, high + 0.12, b - 0.04, top - depth - 0.08)
            for a, b in zip(
                *(np.linspace(-w + lean, w + lean, bars + 1)[s] for s in (slice(0, -1), slice(1, None)))
            )
            if bars and b - a > 0.16
        )
        parts.append(Part((rest,), leg, gaps, group=1))
    parts.append(Part((plate,), wood, group=2))
    edge = np.array([[-w, top], [w, top], [w, top + 0.07], [-w, top + 0.07]])
    parts.append(
        Part((edge,), style.material(style.shade(np.array(wood.colour, float), 0.7), contrast=0), group=2)
    )
    if back < 0.5 and rng.random() < 0.5:
        seat = (plate - plate.mean(0)) * 0.85 + plate.mean(0)
        parts.append(Part((shapes.rounded(seat),), style.material(), group=3))
    return parts


def shelf(rng: Rng, style: Style) -> list[Part]:
    """Shelves with things standing in them."""
    frame = style.material(span=2)
    rows = int(rng.integers(1, 4))
    ys = np.linspace(-1, 1, rows + 1)
    parts = [Part((shapes.box(-0.8, -1, 0.8, 1),), style.material(contrast=5), group=0)]
    for row in range(rows):
        x = -0.75
        low, high = ys[row + 1] - 0.05, ys[row] + 0.05
        while x < 0.6 and len(parts) < 22:
            width = rng.uniform(0.06, 0.3)
            tall = rng.uniform(0.4, 0.9) * (low - high)
            thing = shapes.box(x, low - tall, min(x + width, 0.74), low)
            if rng.random() < 0.3:
                thing = shapes.profile(rng) * (width * 0.8, tall / 2) + (x + width / 2, low - tall / 2)
            parts.append(Part((thing,), style.material(), clip=True, group=len(parts)))
            x += width + rng.choice([0.01, rng.uniform(0, 0.3)])
    bars = [shapes.box(-0.85, y - 0.05, 0.85, y + 0.05) for y in ys]
    bars += [shapes.box(-0.88, -1.05, -0.76, 1.05), shapes.box(0.76, -1.05, 0.88, 1.05)]
    parts.append(Part(tuple(bars), frame, group=100))
    return parts


def tool(rng: Rng, style: Style) -> list[Part]:
    """A handle with a head: spoon, hammer, brush, racket, key, lamp, broom."""
    metal = style.material(contrast=rng.choice([0.0, 10.0]))
    grip = style.material()
    bow = rng.normal(0, 0.08)
    path = np.array([[0, 1.0], [bow, 0.4], [bow, -0.1], [0, -0.55]])
    wide = rng.uniform(0.03, 0.1)
    parts = [Part((shapes.strip(path, wide),), grip, group=0)]
    holes: tuple[np.ndarray, ...] = ()
    kind = rng.integers(5)
    if kind == 0:
        head = shapes.ellipse(0, -0.75, rng.uniform(0.15, 0.35), 0.28)
    elif kind == 1:
        left, right = rng.uniform(0.2, 0.6, 2)
        head = shapes.rounded(shapes.box(-left, -0.75, right, -0.5), 1, 0.1)
    elif kind == 2:
        head = shapes.ellipse(0, -0.7, 0.33, 0.4)
        holes = ((head - head.mean(0)) * rng.uniform(0.55, 0.85) + head.mean(0),)
    elif kind == 3:
        head = shapes.star(8, 0.6) * 0.3 + np.array([0, -0.75])
    else:
        head = np.array([[-0.25, -0.95], [0.25, -0.95], [0.4, -0.5], [-0.4, -0.5]])
    parts.append(Part((head,), metal, holes, group=1))
    return parts


def bag(rng: Rng, style: Style) -> list[Part]:
    """A bag, pillow, coat or shirt: a soft quadrilateral with seams, handles or sleeves."""
    ring = (
        shapes.cloth(rng) if rng.random() < 0.5 else shapes.rounded(shapes.box(-0.8, -0.6, 0.8, 0.95), 3, 0.2)
    )
    cloth = style.material(span=2)
    parts: list[Part] = []
    kind = rng.random()
    if kind < 0.4:
        outer = shapes.ellipse(0, -0.6, rng.uniform(0.25, 0.5), rng.uniform(0.3, 0.6))
        hole = (outer - outer.mean(0)) * 0.8 + outer.mean(0)
        parts.append(Part((outer,), cloth if rng.random() < 0.5 else style.material(), (hole,), group=0))
    elif kind < 0.65:
        for side in (-1, 1):
            sleeve = shapes.capsule((side * 0.7, -0.4), (side * 1.15, rng.uniform(-0.3, 0.7)), 0.26, 0.18)
            swing = Swing((side * 0.7, -0.4), 0.3, rng.uniform(0, 6), 0.3)
            parts.append(Part((sleeve,), cloth, group=1 + (side > 0), swing=swing))
    parts.append(Part((ring,), cloth))
    if rng.random() < 0.6:
        parts += [replace(p, group=-1) for p in decor(rng, style, -1)]
    return parts


def ball(rng: Rng, style: Style) -> list[Part]:
    """A ball, fruit, coin, clock, plate or button: a disc with rings, panels or a stalk."""
    disc = shapes.ellipse(0, 0, 1, rng.choice([1.0, rng.uniform(0.75, 1)]))
    parts: list[Part] = []
    kind = rng.integers(4)
    if kind == 0:
        stalk = shapes.strip(np.array([[0, -0.8], [0.05, -1.05], [0.18, -1.25]]), 0.05)
        parts.append(Part((stalk,), style.material(hsv(0.09, 0.6, 0.3), contrast=0), group=0))
        if rng.random() < 0.5:
            leaf = shapes.turn(shapes.leaf(rng) * 0.35, 1.0) + np.array([0.35, -1.1])
            parts.append(Part((leaf,), style.material(hsv(0.3, 0.6, 0.5)), group=1))
    parts.append(Part((disc,), style.material()))
    if kind == 1:
        panels = tuple(shapes.polygon(rng, 5, 0.1) * 0.25 + rng.uniform(-0.8, 0.8, 2) for _ in range(5))
        parts.append(Part(panels, style.material(contrast=0), clip=True))
    elif kind == 2:
        for r in sorted(rng.uniform(0.2, 0.9, int(rng.integers(1, 4))), reverse=True):
            parts.append(Part((disc * r,), style.material(), group=int(r * 90)))
    elif kind == 3:
        parts += [replace(p, group=-1) for p in decor(rng, style, -1)]
    return parts


def building(rng: Rng, style: Style) -> list[Part]:
    """A house or tower: walls, roof, door, rows of windows."""
    w, h = rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.9)
    parts = [Part((shapes.box(-w, -h, w, 1),), style.material(span=2))]
    if rng.random() < 0.6:
        roof = np.array(
            [
                [-w * 1.1, -h],
                [w * 1.1, -h],
                [w * rng.uniform(0, 0.9), -h - 0.5],
                [-w * rng.uniform(0, 0.9), -h - 0.5],
            ]
        )
        parts.append(Part((roof,), style.material(span=1.5), group=0))
    columns, rows = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    xs, ys = np.linspace(-w, w, columns + 1), np.linspace(-h, 0.6, rows + 1)
    panes = tuple(
        shapes.box(x0 + 0.2 * (x1 - x0), y0 + 0.2 * (y1 - y0), x1 - 0.2 * (x1 - x0), y1 - 0.15 * (y1 - y0))
        for x0, x1 in pairwise(xs)
        for y0, y1 in pairwise(ys)
    )
    parts.append(Part(panes, style.material(hsv(0.58, 0.3, rng.uniform(0.1, 0.7))), clip=True))
    x = rng.uniform(-w * 0.6, w * 0.3)
    parts.append(Part((shapes.box(x, 0.55, x + 0.25, 1),), style.material(contrast=0), clip=True, group=1))
    return parts


def lattice(rng: Rng, style: Style) -> list[Part]:
    """A fence, ladder, net, cage or wheel: thin bars with holes between them."""
    bar = rng.uniform(0.02, 0.07)
    kind = rng.integers(3)
    if kind == 0:
        n = int(rng.integers(3, 10))
        xs = np.linspace(-1, 1, n)
        bars = [shapes.box(x - bar, -0.7, x + bar, 1) for x in xs]
        bars += [shapes.box(-1.05, y - bar, 1.05, y + bar) for y in (-0.5, 0.6)]
    elif kind == 1:
        n = int(rng.integers(3, 8))
        bars = [shapes.box(s * 0.4 - bar, -1, s * 0.4 + bar, 1) for s in (-1, 1)]
        bars += [shapes.box(-0.4, y - bar, 0.4, y + bar) for y in np.linspace(-0.85, 0.85, n)]
    else:
        n = int(rng.integers(3, 9))
        bars = [
            shapes.turn(shapes.box(-1, -bar, 1, bar), a) for a in np.linspace(0, np.pi, n, endpoint=False)
        ]
        tyre = Part(
            (shapes.ellipse(points=48),), style.material(), (shapes.ellipse(0, 0, 1 - 3 * bar, points=48),)
        )
        turning = Swing((0, 0), np.pi, 0, 0.15)
        hub = Part((shapes.ellipse(0, 0, 3 * bar),), style.material(), group=1)
        return [tyre, Part(tuple(bars), style.material(), group=0, swing=turning), hub]
    return [Part(tuple(bars), style.material(span=2))]


def cable(rng: Rng, style: Style) -> list[Part]:
    """A rope, hose, snake or wire, perhaps with something at its end."""
    path = shapes.curve(rng, 40, rng.uniform(0.5, 2.5))
    thick = rng.uniform(0.02, 0.12)
    taper = np.linspace(1, rng.uniform(0.3, 1), 40)
    parts = [Part((shapes.strip(path, thick * taper),), style.material(span=1))]
    if rng.random() < 0.4:
        parts.append(Part((shapes.simple(rng) * 3 * thick + path[0],), style.material(), group=0))
    return parts


def sign(rng: Rng, style: Style) -> list[Part]:
    """A letter or a word by itself, or on a board on a pole."""
    letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghkmnpqrst0123456789?!&@#$%")
    word = "".join(rng.choice(letters, int(rng.integers(1, 5))))
    ink = style.material()
    if rng.random() < 0.5:
        half = min(0.9, 1.3 / len(word))
        return [Part((), ink, stamp=shapes.glyph(word), stamp_box=(-1, -half, 1, half))]
    board = shapes.simple(rng, ("circle", "box", "rounded", "polygon")[rng.integers(4)]) * 0.7 + (0, -0.3)
    pole = shapes.box(-0.05, 0, 0.05, 1)
    return [
        Part((pole,), style.material(contrast=0), group=0),
        Part((board,), style.material(contrast=rng.choice([0.0, 8.0])), group=1),
        Part((), ink, stamp=shapes.glyph(word), stamp_box=(-0.4, -0.5, 0.4, -0.1), clip=True, group=1),
    ]


def bowl(rng: Rng, style: Style) -> list[Part]:
    """A dish, basket or pot with things in it; each of them is a target."""
    parts: list[Part] = []
    clay: Material = style.material()
    rim = rng.uniform(0.1, 0.3)
    parts.append(
        Part(
            (shapes.ellipse(0, 0.1, 0.95, rim),),
            style.material(style.shade(np.array(clay.colour, float), 0.6), contrast=0),
        )
    )
    same = rng.random() < 0.6
    thing = style.material()
    for k in range(int(rng.integers(2, 8))):
        r = rng.uniform(0.18, 0.36)
        x = rng.uniform(-0.65, 0.65)
        ring = shapes.blob(rng, 0.15) * r + (x, 0.05 - r * rng.uniform(0.2, 1.1))
        parts.append(Part((ring,), thing if same and rng.random() < 0.8 else style.material(), group=1 + k))
    t = np.linspace(0, np.pi, 20)
    front = np.stack([0.95 * np.cos(t), 0.1 + rim * np.sin(t)], 1)
    foot = rng.uniform(0.3, 0.7)
    body = np.concatenate([front, [[-foot, 0.95], [foot, 0.95]]])
    parts.append(Part((body,), clay, group=0))
    return parts


def shoe(rng: Rng, style: Style) -> list[Part]:
    """A shoe or boot: sole, upper, laces."""
    high = rng.uniform(0.2, 1.0)
    upper = np.array(
        [[-0.9, -high], [-0.3, -high], [-0.2, -0.05], [0.5, 0.15], [0.95, 0.4], [0.95, 0.6], [-0.95, 0.6]]
    )
    parts = [
        Part((shapes.rounded(upper, 2, 0.2),), style.material()),
        Part(
            (shapes.round_box(-1, 0.5, 1.02, 0.5 + rng.uniform(0.12, 0.35), 0.08),),
            style.material(contrast=0),
            group=0,
        ),
    ]
    laces = tuple(
        shapes.strip(
            np.array([[-0.25 + 0.15 * k, -0.1 + 0.07 * k], [0.05 + 0.15 * k, -0.12 + 0.09 * k]]), 0.03
        )
        for k in range(4)
    )
    parts.append(Part(laces, style.material(contrast=0), clip=True))
    return parts
