"""Outlines: closed rings of points float64 [K, 2] in a unit frame (x right, y down, reaching to about 1)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Rng = np.random.Generator
Ring = np.ndarray


def turn(ring: Ring, angle: float) -> Ring:
    """``ring`` turned by ``angle`` radians about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return ring @ np.array([[c, s], [-s, c]])


def ellipse(cx: float = 0, cy: float = 0, rx: float = 1, ry: float | None = None, points: int = 36) -> Ring:
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([cx + rx * np.cos(t), cy + (rx if ry is None else ry) * np.sin(t)], 1)


def box(x0: float, y0: float, x1: float, y1: float) -> Ring:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def rounded(ring: Ring, rounds: int = 2, cut: float = 0.25) -> Ring:
    """Corner cutting (Chaikin)."""
    for _ in range(rounds):
        after = np.roll(ring, -1, 0)
        ring = np.stack([(1 - cut) * ring + cut * after, cut * ring + (1 - cut) * after], 1).reshape(-1, 2)
    return ring


def round_box(x0: float, y0: float, x1: float, y1: float, radius: float) -> Ring:
    """A box whose corners are arcs of ``radius``."""
    r = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    t = np.linspace(0, np.pi / 2, 6)
    arc = np.stack([np.cos(t), np.sin(t)], 1) * r
    quarter = np.array([[0, -1], [1, 0]])
    corners = [(x1 - r, y1 - r), (x0 + r, y1 - r), (x0 + r, y0 + r), (x1 - r, y0 + r)]
    rings = []
    for corner in corners:
        rings.append(arc + corner)
        arc = arc @ -quarter
    return np.concatenate(rings)


def blob(rng: Rng, rough: float = 0.35, points: int = 64) -> Ring:
    """A smooth closed contour from Fourier terms that fall off with their order."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    orders = np.arange(2, 9)
    size = rough * rng.normal(size=7) / orders**1.3
    radius = np.exp((size[:, None] * np.cos(orders[:, None] * t + rng.uniform(0, 2 * np.pi, (7, 1)))).sum(0))
    squash = rng.uniform(0.5, 1.0)
    return turn(np.stack([radius * np.cos(t), squash * radius * np.sin(t)], 1), rng.uniform(0, np.pi))


def polygon(rng: Rng, corners: int, jag: float = 0.4) -> Ring:
    t = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * (2 * np.pi / corners)
    radius = 1 - jag * rng.random(corners)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], 1)


def star(corners: int, inner: float, phase: float = 0) -> Ring:
    t = np.arange(2 * corners) * (np.pi / corners) + phase
    radius = np.where(np.arange(2 * corners) % 2, inner, 1.0)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], 1)


def capsule(p: tuple[float, float], q: tuple[float, float], rp: float, rq: float) -> Ring:
    """The hull of two discs: a limb from ``p`` to ``q``."""
    angle = np.arctan2(q[1] - p[1], q[0] - p[0])
    t = np.linspace(np.pi / 2, 3 * np.pi / 2, 9) + angle
    arc = np.stack([np.cos(t), np.sin(t)], 1)
    return np.concatenate([arc * rp + p, -arc * rq + q])


def strip(path: np.ndarray, width: np.ndarray | float) -> Ring:
    """A band of half-width ``width`` (one number, or one a point) along ``path`` [K, 2]."""
    along = np.gradient(path, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    half = np.broadcast_to(np.asarray(width, float).reshape(-1, 1), (len(path), 1))
    return np.concatenate([path + normal * half, (path - normal * half)[::-1]])


def curve(rng: Rng, points: int = 24, bend: float = 1.0) -> np.ndarray:
    """An open, smoothly bending path [points, 2] of length about 2 through the origin."""
    t = np.linspace(0, 1, points)
    heading = rng.uniform(0, 2 * np.pi) + bend * (
        rng.normal() * 2 * t + rng.normal() * np.sin(2 * np.pi * t + rng.uniform(0, 6))
    )
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0) * (2 / points)
    return path - path.mean(0)


def arc_band(start: float, sweep: float, outer: float, inner: float) -> Ring:
    t = np.linspace(start, start + sweep, 20)
    arc = np.stack([np.cos(t), np.sin(t)], 1)
    return np.concatenate([arc * outer, arc[::-1] * inner])


def crescent(rng: Rng) -> Ring:
    t = np.linspace(0.3, 2 * np.pi - 0.3, 30)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    inner = outer[::-1] * rng.uniform(0.6, 0.85) + (rng.uniform(0.2, 0.45), 0)
    return np.concatenate([outer, inner])


def heart() -> Ring:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return np.stack([x, y], 1)


def leaf(rng: Rng, lobes: int = 0) -> Ring:
    t = np.linspace(0, 1, 24)
    half = rng.uniform(0.25, 0.5) * np.sin(np.pi * t ** rng.uniform(0.6, 1.2))
    half *= 1 + 0.25 * np.cos(2 * np.pi * lobes * t) if lobes else 1
    return np.concatenate([np.stack([half, 1 - 2 * t], 1), np.stack([-half, 1 - 2 * t], 1)[::-1]])


def profile(rng: Rng, knots: int = 5, points: int = 24) -> Ring:
    """A figure of revolution seen from the side: vase, bottle, lamp, pawn."""
    widths = rng.uniform(0.12, 0.6, knots)
    t = np.linspace(0, 1, points)
    smooth = 0.5 - 0.5 * np.cos(np.pi * ((t * (knots - 1)) % 1))
    cell = np.minimum((t * (knots - 1)).astype(int), knots - 2)
    half = widths[cell] * (1 - smooth) + widths[cell + 1] * smooth
    half[-1] = widths[-1]
    y = 2 * t - 1
    return np.concatenate([np.stack([half, y], 1), np.stack([-half, y], 1)[::-1]])


def cloth(rng: Rng) -> Ring:
    """A hanging or lying sheet: a quadrilateral with wavy sides."""
    corners = box(-0.9, -0.8, 0.9, 0.8) + rng.normal(0, 0.15, (4, 2))
    t = np.linspace(0, 1, 16, endpoint=False)[:, None]
    sides = []
    for a, b in zip(corners, np.roll(corners, -1, 0)):
        across = np.array([b[1] - a[1], a[0] - b[0]])
        wave = rng.normal(0, 0.06) * np.sin(np.pi * t) + 0.035 * np.sin(
            2 * np.pi * rng.integers(1, 5) * t + rng.uniform(0, 6)
        )
        sides.append(a + (b - a) * t + across * wave)
    return np.concatenate(sides)


def rugged(rng: Rng, rough: float = 0.25, rounds: int = 5) -> Ring:
    """A fractal outline by midpoint displacement: stone, cloud, torn paper, tree crown."""
    ring = polygon(rng, int(rng.integers(4, 7)), 0.3)
    for _ in range(rounds):
        after = np.roll(ring, -1, 0)
        edge = after - ring
        normal = np.stack([edge[:, 1], -edge[:, 0]], 1)
        middle = (ring + after) / 2 + normal * rng.normal(0, rough, (len(ring), 1))
        ring = np.stack([ring, middle], 1).reshape(-1, 2)
    return ring


def scalloped(rng: Rng, ring: Ring, bumps: int, depth: float) -> Ring:
    """``ring`` with ``bumps`` round or sharp teeth along its border."""
    dense = np.stack([ring + (np.roll(ring, -1, 0) - ring) * k / 4 for k in range(4)], 1).reshape(-1, 2)
    t = np.linspace(0, 2 * np.pi * bumps, len(dense), endpoint=False)
    wave = np.abs(np.sin(t / 2)) if rng.random() < 0.5 else np.sign(np.sin(t))
    return dense * (1 + depth * (wave[:, None] - 0.5))


def hair(rng: Rng, ring: Ring, strands: int, length: float, flow: float) -> list[Ring]:
    """Thin triangles along the border of ``ring`` (fur, grass), leaning towards ``flow`` (radians)."""
    at = rng.integers(0, len(ring), strands)
    base = ring[at]
    outward = base - ring.mean(0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
    lean = outward + 0.8 * np.array([np.cos(flow), np.sin(flow)]) + rng.normal(0, 0.25, (strands, 2))
    tip = base + lean * (length * rng.uniform(0.4, 1.2, (strands, 1)))
    side = np.stack([-lean[:, 1], lean[:, 0]], 1) * (0.12 * length)
    inner = base - outward * length * 0.3
    return list(np.stack([inner - side, tip, inner + side], 1))


def tree(rng: Rng, depth: int = 3) -> tuple[list[Ring], list[tuple[float, float]]]:
    """Branches (limbs) of a tree that grows upwards from (0, 1), and the tips of its branches."""
    limbs: list[Ring] = []
    tips: list[tuple[float, float]] = []
    stack = [
        ((0.0, 1.0), -np.pi / 2 + rng.normal(0, 0.1), rng.uniform(0.6, 0.8), rng.uniform(0.05, 0.11), depth)
    ]
    while stack:
        foot, heading, length, width, left = stack.pop()
        end = (foot[0] + length * np.cos(heading), foot[1] + length * np.sin(heading))
        limbs.append(capsule(foot, end, width, width * 0.7))
        if left == 0:
            tips.append(end)
            continue
        for _ in range(int(rng.integers(2, 4))):
            stack.append(
                (end, heading + rng.normal(0, 0.6), length * rng.uniform(0.5, 0.8), width * 0.65, left - 1)
            )
    return limbs, tips


@lru_cache(maxsize=256)
def glyph(text: str) -> Image.Image:
    """``text`` in Pillow's own font as an "L" picture that it fills."""
    font = ImageFont.load_default(96)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(picture).text((4 - left, 4 - top), text, fill=255, font=font)
    return picture


SIMPLE = ("ellipse", "circle", "box", "polygon", "blob", "rounded", "star", "heart", "rugged", "cross", "bar")


def simple(rng: Rng, kind: str | None = None) -> Ring:
    """One of ``SIMPLE``, at random unless named."""
    kind = kind or SIMPLE[rng.integers(len(SIMPLE))]
    if kind == "ellipse":
        return ellipse(0, 0, 1, rng.uniform(0.35, 0.95))
    if kind == "circle":
        return ellipse()
    if kind == "box":
        y = rng.uniform(0.3, 1)
        return round_box(-1, -y, 1, y, rng.choice([0, 0.1, 0.3]))
    if kind == "polygon":
        return polygon(rng, int(rng.integers(3, 8)))
    if kind == "blob":
        return blob(rng, rng.uniform(0.2, 0.9))
    if kind == "rounded":
        return rounded(polygon(rng, int(rng.integers(3, 8)), 0.6))
    if kind == "star":
        return star(int(rng.integers(4, 9)), rng.uniform(0.35, 0.7))
    if kind == "heart":
        return heart()
    if kind == "rugged":
        return rugged(rng, rng.uniform(0.05, 0.3))
    if kind == "cross":
        w = rng.uniform(0.2, 0.45)
        arm = np.array([[w, -w], [1, -w], [1, w], [w, w]])
        return np.concatenate([turn(arm, k * np.pi / 2) for k in range(4)])
    return box(-1, -rng.uniform(0.05, 0.2), 1, rng.uniform(0.05, 0.2))
