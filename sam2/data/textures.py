"""Procedural textures: a bank of tileable grey pictures, coloured by palettes and warped onto surfaces.

Every texture is a function of its index alone. It is made on first use, kept for the life of the process in a
pyramid of halved sizes, and looked up through a 3x3 matrix (screen pixel -> texel).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.spatial import cKDTree

TILE = 512
"""Side of a texture tile, in texels."""
LEVELS = 5
VARIANTS = 120
"""How many textures the bank holds."""

Rng = np.random.Generator


def _normalise(grey: np.ndarray) -> np.ndarray:
    low, high = np.percentile(grey[::4, ::4], (1.0, 99.0))
    return np.clip((grey - low) * (255.0 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(TILE, dtype=np.float32) / TILE
    return np.meshgrid(axis, axis)


def pink_noise(rng: Rng, beta: float = 1.0, stretch: float = 1.0, low: float = 0.0) -> np.ndarray:
    """Tileable noise float32 [TILE, TILE] of zero mean and unit variance whose amplitude falls as f^-beta.

    ``stretch`` > 1 draws it out along x; frequencies under ``low`` (cycles a tile) are left out.
    """
    fx = np.fft.rfftfreq(TILE, 1 / TILE).astype(np.float32)[None, :] * stretch
    fy = np.fft.fftfreq(TILE, 1 / TILE).astype(np.float32)[:, None]
    radius = np.sqrt(fx * fx + fy * fy)
    amplitude = np.where(radius > max(low, 0.5), np.maximum(radius, 0.5) ** -beta, 0)
    phase = rng.random(radius.shape, dtype=np.float32) * np.float32(2 * np.pi)
    noise = np.fft.irfft2(amplitude * np.exp(1j * phase), s=(TILE, TILE)).astype(np.float32)
    return (noise - noise.mean()) / noise.std()


def _cells(rng: Rng, count: int, flatten: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest and second nearest distance, and index of the cell, of ``count`` points on the torus."""
    half = TILE // 2
    points = rng.random((count, 2)) * (1.0, flatten)
    tree = cKDTree(points, boxsize=(1.0, flatten))
    axis = (np.arange(half) + 0.5) / half
    xs, ys = np.meshgrid(axis, axis * flatten)
    distance, index = tree.query(np.stack([xs.ravel(), ys.ravel()], 1), k=2)

    def grow(values: np.ndarray) -> np.ndarray:
        return values.reshape(half, half).repeat(2, 0).repeat(2, 1).astype(np.float32)

    return grow(distance[:, 0]), grow(distance[:, 1]), grow(index[:, 0])


def _clouds(rng: Rng) -> np.ndarray:
    return pink_noise(rng, rng.uniform(1.0, 2.2))


def _grain(rng: Rng) -> np.ndarray:
    return pink_noise(rng, rng.uniform(0.2, 0.9), low=8)


def _fibres(rng: Rng) -> np.ndarray:
    return pink_noise(rng, rng.uniform(0.6, 1.3), stretch=rng.uniform(5, 30), low=4)


def _ridges(rng: Rng) -> np.ndarray:
    return -np.abs(pink_noise(rng, rng.uniform(1.2, 2.0)))


def _spots(rng: Rng) -> np.ndarray:
    band = rng.uniform(10, 40)
    noise = pink_noise(rng, 2.0, stretch=rng.choice([1.0, 1.0, 2.5]), low=band)
    return np.tanh(4 * (noise - rng.uniform(-0.3, 0.8))) + 0.15 * pink_noise(rng, 1.0)


def _stripes(rng: Rng) -> np.ndarray:
    x, y = _grid()
    cycles = rng.integers(6, 40)
    lean = rng.integers(-4, 5)
    wave = np.sin(2 * np.pi * (cycles * x + lean * y) + rng.uniform(0, 2.5) * pink_noise(rng, 1.8))
    return np.tanh(rng.uniform(0.8, 8) * (wave - rng.uniform(-0.5, 0.5))) + 0.1 * pink_noise(rng, 0.8)


def _plaid(rng: Rng) -> np.ndarray:
    x, y = _grid()
    cycles = int(rng.integers(4, 14))
    total = np.zeros_like(x)
    for k in range(1, 4):
        a, b = rng.normal(size=2) / k
        total += a * (np.sin(2 * np.pi * cycles * k * x + k) > 0) + b * (
            np.sin(2 * np.pi * cycles * k * y) > 0
        )
    return total + 0.1 * pink_noise(rng, 0.5, low=16)


def _squares(rng: Rng) -> np.ndarray:
    x, y = _grid()
    n = int(rng.choice([8, 16, 32]))
    ij = (np.floor(x * n) + np.floor(y * n)) % 2
    return ij + 0.12 * pink_noise(rng, 1.0)


def _dots(rng: Rng) -> np.ndarray:
    x, y = _grid()
    n = int(rng.integers(6, 28))
    stagger = 0.5 * (np.floor(y * n) % 2)
    u, v = (x * n + stagger) % 1 - 0.5, (y * n) % 1 - 0.5
    return np.tanh(12 * (rng.uniform(0.18, 0.38) - np.hypot(u, v))) + 0.1 * pink_noise(rng, 1.0)


def _bricks(rng: Rng) -> np.ndarray:
    x, y = _grid()
    rows = int(rng.choice([8, 12, 16, 24]))
    columns = max(rows // int(rng.choice([1, 2, 3])), 2)
    row = np.floor(y * rows)
    u, v = (x * columns + 0.5 * (row % 2)) % 1, (y * rows) % 1
    joint = rng.uniform(0.04, 0.12)
    brick = (u > joint * columns / rows) & (v > joint)
    tone = rng.random((rows, columns)).astype(np.float32)
    pick = tone[row.astype(int) % rows, np.floor(x * columns + 0.5 * (row % 2)).astype(int) % columns]
    return np.where(brick, 0.9 + rng.uniform(0.1, 0.9) * pick, rng.uniform(-0.2, 1.2)) + 0.12 * pink_noise(
        rng, 0.9
    )


def _planks(rng: Rng) -> np.ndarray:
    _, y = _grid()
    rows = int(rng.choice([4, 6, 8, 12]))
    tone = rng.random(rows).astype(np.float32)[np.floor(y * rows).astype(int)]
    seam = (y * rows) % 1 < 0.04
    return 0.6 * tone + 0.25 * pink_noise(rng, 1.0, stretch=16, low=2) - 1.0 * seam


def _wood(rng: Rng) -> np.ndarray:
    _, y = _grid()
    bend = pink_noise(rng, 2.2, stretch=4)
    return np.sin(2 * np.pi * rng.integers(5, 14) * y + 2.2 * bend) + 0.5 * pink_noise(
        rng, 0.9, stretch=20, low=4
    )


def _marble(rng: Rng) -> np.ndarray:
    x, y = _grid()
    return np.sin(2 * np.pi * rng.integers(2, 8) * (x + y) + 2.5 * pink_noise(rng, 1.7)) ** 3


def _pebbles(rng: Rng) -> np.ndarray:
    near, second, index = _cells(rng, int(rng.integers(60, 900)), rng.choice([0.4, 1.0]))
    tone = rng.random(int(index.max()) + 1).astype(np.float32)
    edge = np.clip((second - near) / (0.3 * near.max()), 0, 1)
    return edge * (0.6 + rng.uniform(0, 0.8) * tone[index.astype(int)]) + 0.05 * pink_noise(rng, 0.8)


def _cracks(rng: Rng) -> np.ndarray:
    near, second, _ = _cells(rng, int(rng.integers(30, 250)))
    return np.minimum((second - near) * rng.uniform(15, 60), 1) + 0.2 * pink_noise(rng, 1.1)


def _patches(rng: Rng) -> np.ndarray:
    _, _, index = _cells(rng, int(rng.integers(20, 400)))
    return rng.random(int(index.max()) + 1).astype(np.float32)[index.astype(int)]


def _weave(rng: Rng) -> np.ndarray:
    x, y = _grid()
    n = int(rng.choice([16, 24, 32, 48]))
    over = (np.floor(x * n) + np.floor(y * n)) % 2
    u, v = np.abs((x * n) % 1 - 0.5), np.abs((y * n) % 1 - 0.5)
    return np.where(over > 0, 1 - 1.4 * u, 1 - 1.4 * v) + 0.3 * over + 0.1 * pink_noise(rng, 0.7)


def _scales(rng: Rng) -> np.ndarray:
    x, y = _grid()
    n = int(rng.choice([8, 12, 20, 30]))
    row = np.floor(y * n)
    u, v = (x * n + 0.5 * (row % 2)) % 1 - 0.5, (y * n) % 1
    return np.hypot(u, v * 0.8) + 0.08 * pink_noise(rng, 1.0)


def _strewn(rng: Rng) -> np.ndarray:
    """Dead leaves: small overlapping ellipses or blades of power-law size, as foliage and litter look."""
    picture = Image.new("L", (TILE, TILE), 128)
    draw = ImageDraw.Draw(picture)
    blade = rng.random() < 0.5
    count = int(rng.integers(900, 2200))
    radius = 5.0 * rng.random(count) ** -0.55
    centre = rng.random((count, 2)) * TILE
    angle = rng.uniform(0, np.pi, count) if not blade else rng.normal(np.pi / 2, 0.5, count)
    tone = rng.integers(0, 255, count)
    corners = np.array([[1, 0], [0.5, 0.5], [-0.5, 0.5], [-1, 0], [-0.5, -0.5], [0.5, -0.5]])
    corners = corners * (1.6, rng.uniform(0.12, 0.3)) if blade else corners * (1.0, rng.uniform(0.5, 0.9))
    for r, (cx, cy), a, grey in zip(np.minimum(radius, 60), centre, angle, tone):
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        ring = corners @ turn * r + (cx, cy)
        for dx in (0, TILE if cx < 64 else -TILE if cx > TILE - 64 else 0):
            for dy in (0, TILE if cy < 64 else -TILE if cy > TILE - 64 else 0):
                draw.polygon((ring + np.array([dx, dy])).ravel().tolist(), fill=int(grey))
    soft = np.asarray(picture.filter(ImageFilter.BoxBlur(0.7)), np.float32)
    return soft / 64 + 0.2 * pink_noise(rng, 1.0)


def _writing(rng: Rng) -> np.ndarray:
    picture = Image.new("L", (TILE, TILE), 230)
    draw = ImageDraw.Draw(picture)
    size = int(rng.choice([16, 22, 32, 64]))
    font = ImageFont.load_default(size)
    letters = np.array(list("abcdefghijklmnoprstuvwxyz     ABEHIMNORST0123456789.,"))
    for top in range(0, TILE - size, int(size * rng.uniform(1.1, 1.6))):
        line = "".join(rng.choice(letters, 3 * TILE // size))
        draw.text((4, top), line[: int(rng.integers(len(line) // 2, len(line)))], fill=20, font=font)
    return np.asarray(picture, np.float32)


def _windows(rng: Rng) -> np.ndarray:
    x, y = _grid()
    columns, rows = int(rng.choice([4, 6, 8, 12])), int(rng.choice([4, 6, 8, 12]))
    u, v = (x * columns) % 1, (y * rows) % 1
    margin = rng.uniform(0.12, 0.3)
    pane = (u > margin) & (u < 1 - margin) & (v > margin) & (v < 1 - 0.6 * margin)
    tone = rng.random((rows, columns)).astype(np.float32)
    pick = tone[np.floor(y * rows).astype(int), np.floor(x * columns).astype(int)]
    return np.where(pane, 0.5 * pick, 1.0) + 0.05 * pink_noise(rng, 1.2)


def _folds(rng: Rng) -> np.ndarray:
    return np.abs(pink_noise(rng, 2.4, stretch=rng.uniform(0.3, 3))) + 0.06 * pink_noise(rng, 0.4, low=20)


_KINDS: tuple[Callable[[Rng], np.ndarray], ...] = (
    *(_clouds, _grain, _fibres, _ridges, _spots, _stripes, _plaid, _squares, _dots, _bricks, _planks, _wood),
    *(
        _marble,
        _pebbles,
        _cracks,
        _patches,
        _weave,
        _scales,
        _strewn,
        _writing,
        _windows,
        _folds,
        _strewn,
        _clouds,
    ),
)


@lru_cache(maxsize=VARIANTS)
def texture(index: int) -> tuple[tuple[np.ndarray, Image.Image], ...]:
    """Texture ``index`` (under VARIANTS): a pyramid of uint8 [TILE >> level] * 2, as arrays and pictures."""
    rng = np.random.Generator(np.random.PCG64((7919, index)))
    top = Image.fromarray(_normalise(np.asarray(_KINDS[index % len(_KINDS)](rng), np.float32)))
    pictures = [top] + [top.reduce(1 << level) for level in range(1, LEVELS)]
    return tuple((np.asarray(picture), picture) for picture in pictures)


GROUND = tuple(
    i for i in range(VARIANTS) if _KINDS[i % len(_KINDS)].__name__ not in ("_writing", "_windows", "_dots")
)
SOFT = tuple(
    i for i in range(VARIANTS) if _KINDS[i % len(_KINDS)].__name__ in ("_clouds", "_folds", "_ridges")
)

WRITING = tuple(i for i in range(VARIANTS) if _KINDS[i % len(_KINDS)].__name__ == "_writing")


@dataclass(frozen=True)
class Material:
    """How a surface looks: a texture placed in the surface's own coordinates, and a palette.

    ``placement`` is the 3x3 matrix from surface coordinates to texels of the full tile.
    ``palette`` is 768 bytes: RGB for each grey level. ``index`` < 0 is plain colour (``palette``'s middle).
    """

    index: int
    placement: np.ndarray
    palette: bytes

    @property
    def colour(self) -> tuple[int, int, int]:
        middle = self.palette[384:387]
        return middle[0], middle[1], middle[2]


def palette(stops: np.ndarray) -> bytes:
    """768 bytes from ``stops`` [K, 3] (RGB in 0..255), evenly spaced over the grey levels."""
    if len(stops) == 1:
        return stops.clip(0, 255).astype(np.uint8).tobytes() * 256
    at = np.linspace(0, 255, len(stops))
    grey = np.arange(256)
    return (
        np.stack([np.interp(grey, at, stops[:, c]) for c in range(3)], 1)
        .clip(0, 255)
        .astype(np.uint8)
        .tobytes()
    )


def placement(rng: Rng, span: float, angle: float | None = None, stretch: float = 1.0) -> np.ndarray:
    """A random placement in which one tile covers ``span`` surface units, turned by ``angle`` radians."""
    turn = rng.uniform(0, 2 * np.pi) if angle is None else angle
    c, s = np.cos(turn) * TILE / span, np.sin(turn) * TILE / span
    u, v = rng.random(2) * TILE
    return np.array([[c, -s * stretch, u], [s, c * stretch, v], [0, 0, 1.0]])


def _level(scale: float) -> int:
    return min(max(round(math.log2(max(scale, 1e-6))), 0), LEVELS - 1)


def _sample_flat(index: int, m: np.ndarray, width: int, height: int) -> Image.Image:
    level = _level(math.sqrt(abs(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])))
    size = TILE >> level
    array, picture = texture(index)[level]
    a, b, c, d, e, f = (m[:2] / (1 << level)).ravel().tolist()
    us = (c, c + a * width, c + b * height, c + a * width + b * height)
    vs = (f, f + d * width, f + e * height, f + d * width + e * height)
    u0, v0 = math.floor(min(us)) - 1, math.floor(min(vs)) - 1
    u1, v1 = int(max(us)) + 3, int(max(vs)) + 3
    shift_u, shift_v = (u0 // size) * size, (v0 // size) * size
    if u1 - shift_u <= size and v1 - shift_v <= size:
        c, f = c - shift_u, f - shift_v
    else:
        rows = np.arange(v0, v1) % size
        columns = np.arange(u0, u1) % size
        picture = Image.fromarray(array[rows][:, columns])
        c, f = c - u0, f - v0
    return picture.transform(
        (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )


def _sample_tilted(index: int, m: np.ndarray, width: int, height: int) -> Image.Image:
    """A plane in perspective: nearest texels, each band of rows from the level its distance asks for."""
    out = np.empty((height, width), np.uint8)
    x = np.arange(width, dtype=np.float32) + 0.5
    step = max(height // 8, 4)
    for top in range(0, height, step):
        y = np.arange(top, min(top + step, height), dtype=np.float32)[:, None] + 0.5
        w = m[2, 0] * x + m[2, 1] * y + m[2, 2]
        inverse = 1 / np.where(np.abs(w) < 1e-4, 1e-4, w)
        u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * inverse
        v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * inverse
        across = np.abs(u[:, -1] - u[:, 0]).mean() + np.abs(v[:, -1] - v[:, 0]).mean()
        level = _level(float(across) / max(width - 1, 1) * 1.5)
        size = TILE >> level
        array = texture(index)[level][0]
        mask = size - 1
        shrink = np.float32(1 / (1 << level))
        column = (u * shrink).astype(np.int32) & mask
        row = (v * shrink).astype(np.int32) & mask
        out[top : top + step] = array[row, column]
    return Image.fromarray(out)


def sample(material: Material, to_surface: np.ndarray, width: int, height: int) -> Image.Image:
    """RGB picture of ``material``; ``to_surface``: 3x3, from its pixels to surface coordinates."""
    if material.index < 0:
        return Image.new("RGB", (width, height), material.colour)
    m = material.placement @ to_surface
    if abs(m[2, 0]) + abs(m[2, 1]) < 1e-9:
        grey = _sample_flat(material.index, m / m[2, 2], width, height)
    else:
        grey = _sample_tilted(material.index, m, width, height)
    grey.putpalette(material.palette)
    return grey.convert("RGB")
