"""The painter: draws posed objects from back to front and keeps which part is seen at every pixel.

Everything heavy is done by Pillow on small patches, so that a scene of a dozen objects costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .textures import Material, sample
from .things import Part

MAX_PARTS = 250
"""Parts in one picture: the picture of owners has one byte a pixel, 0 for the ground."""


DETAIL = 7.0
"""Pixels to a unit of an object under which its decorations are left out."""


@dataclass(frozen=True)
class Wobble:
    """A smooth swaying of an object's outline: displacement = sum of amplitude * sin(wave . p + phase)."""

    amplitude: np.ndarray
    """[K, 2], object units."""
    wave: np.ndarray
    """[K, 2], radians an object unit."""
    phase: np.ndarray
    """[K], radians."""

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return points + np.sin(points @ self.wave.T + self.phase) @ self.amplitude


@dataclass(frozen=True)
class Posed:
    """An object as it stands in one frame.

    ``matrix`` is the 3x3 matrix from the object's frame to pixels; ``swings`` the angle of each part's joint
    in radians (0 for a part without one); ``light`` points to where light comes from (pixels' axes).
    """

    parts: Sequence[Part]
    matrix: np.ndarray
    swings: Sequence[float]
    light: tuple[float, float]
    wobble: Wobble | None = None
    opacity: float = 1.0
    relief: float = 0.0
    """Strength of shading by the object's own roundness, 0..1."""
    gloss: float = 0.0
    """Strength of the highlight, 0..1."""
    shadow: float = 0.0
    """Darkness of the shadow thrown on what lies behind, 0..1."""
    standing: bool = False
    """The shadow lies on the ground at the object's foot instead of on a wall behind it."""
    defocus: float = 0.0
    """Radius of the object's own blur, pixels."""
    motion: tuple[float, float] = (0.0, 0.0)
    """Movement while the shutter is open, pixels."""


def _about(pivot: tuple[float, float], angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    x, y = pivot
    return np.array([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0, 0, 1]])


def _placed(thing: Posed, part: Part, angle: float) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Of one part of `thing`, its joint turned by `angle`: matrix to pixels, rings and holes in pixels."""
    local = thing.matrix if part.swing is None else thing.matrix @ _about(part.swing.pivot, angle)
    linear, origin = local[:2, :2].T, local[:2, 2]
    bend = thing.wobble
    rings = [(bend(r) if bend else r) @ linear + origin for r in part.rings]
    holes = [(bend(r) if bend else r) @ linear + origin for r in part.holes]
    return local, rings, holes


def _extent(part: Part, local: np.ndarray, rings: list[np.ndarray]) -> list[np.ndarray]:
    """`rings`, or a stamp's corners, in pixels."""
    if part.stamp is None:
        return rings
    a, b, c, d = part.stamp_box
    return [np.array([[a, b], [c, b], [c, d], [a, d]]) @ local[:2, :2].T + local[:2, 2]]


def outlines(thing: Posed) -> list[np.ndarray]:
    """Rings [K, 2] in pixels within which all of `thing` lies, holes not cut out."""
    found = []
    for part, angle in zip(thing.parts, thing.swings):
        if not part.clip:
            local, rings, _ = _placed(thing, part, angle)
            found += _extent(part, local, rings)
    return found


def _pixels_to(local: np.ndarray, x0: float, y0: float) -> np.ndarray:
    """The inverse of the affine ``local``, for pixels counted from (x0, y0)."""
    (a, b, c), (d, e, f) = local[:2].tolist()
    k = 1 / (a * e - b * d)
    x, y = x0 - c, y0 - f
    return np.array([[e * k, -b * k, (e * x - b * y) * k], [-d * k, a * k, (a * y - d * x) * k], [0, 0, 1]])


def _draw(
    rings: list[np.ndarray], holes: list[np.ndarray], x0: int, y0: int, width: int, height: int
) -> Image.Image:
    """Coverage of the rings as an "L" picture of the window at (x0, y0), drawn larger and averaged."""
    fine = 4 if width * height < 2500 else 3 if width * height < 20000 else 2
    picture = Image.new("L", (width * fine, height * fine))
    draw = ImageDraw.Draw(picture)
    offset = np.array([x0, y0])
    for ring in rings:
        draw.polygon(((ring - offset) * fine - 0.5).ravel().tolist(), fill=255)
    for ring in holes:
        draw.polygon(((ring - offset) * fine - 0.5).ravel().tolist(), fill=0)
    return picture.reduce(fine)


def _stamped(part: Part, picture: Image.Image, to_local: np.ndarray, width: int, height: int) -> Image.Image:
    """`picture`, which fills the box of the part's stamp."""
    left, top, right, bottom = part.stamp_box
    sx, sy = picture.width / (right - left), picture.height / (bottom - top)
    fit = np.array([[sx, 0, -left * sx], [0, sy, -top * sy], [0, 0, 1]]) @ to_local
    scale = float(np.sqrt(abs(np.linalg.det(fit[:2, :2]))))
    if scale > 2:
        shrink = min(int(scale), 16)
        picture = picture.reduce(shrink)
        fit = np.diag([1 / shrink, 1 / shrink, 1]) @ fit
    return picture.transform(
        (width, height), Image.Transform.AFFINE, fit[:2].ravel().tolist(), Image.Resampling.BILINEAR
    )


def smear(picture: Image.Image, dx: float, dy: float) -> Image.Image:
    """``picture`` averaged along the segment (dx, dy) in pixels; its border is taken to be empty."""
    length = max(abs(dx), abs(dy))
    step = 0.5
    while length * step >= 0.5:
        shift = (round(dx * step), round(dy * step))
        if shift != (0, 0):
            picture = Image.blend(picture, ImageChops.offset(picture, *shift), 0.5)
        step /= 2
    return picture


class Canvas:
    """A picture being painted, and the number of the part on top at every pixel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.picture = Image.new("RGB", (size, size))
        self.owner = Image.new("L", (size, size))
        self.painted = 0

    def paint(self, thing: Posed) -> range:
        """Paint ``thing`` over all before it; answers the owner numbers its parts received."""
        first = self.painted + 1
        self.painted += len(thing.parts)
        assert self.painted <= MAX_PARTS
        placed = []
        tiny = abs(np.linalg.det(thing.matrix[:2, :2])) < DETAIL**2
        low, high = np.full(2, 1e9), np.full(2, -1e9)
        for number, (part, angle) in enumerate(zip(thing.parts, thing.swings), first):
            if tiny and part.clip:
                continue
            local, rings, holes = _placed(thing, part, angle)
            placed.append((number, part, local, rings, holes))
            if part.clip:
                continue
            for ring in _extent(part, local, rings):
                np.minimum(low, ring.min(0), out=low)
                np.maximum(high, ring.max(0), out=high)
        pad = 2 + int(2 * thing.defocus + max(abs(thing.motion[0]), abs(thing.motion[1])))
        reach = int(0.4 * self.size) if thing.shadow else pad
        x0, y0 = (max(int(v) - pad, -reach) for v in low)
        x1, y1 = (min(int(v) + pad + 1, self.size + reach) for v in high)
        if x1 - x0 < 3 or y1 - y0 < 3:
            return range(first, self.painted + 1)
        self._paint_window(thing, placed, x0, y0, x1 - x0, y1 - y0)
        return range(first, self.painted + 1)

    def defocus(self, radius: float) -> None:
        """Blur all that was painted so far by ``radius`` pixels."""
        self.picture = self.picture.filter(ImageFilter.BoxBlur(radius))

    def darken(self, shade: Material, to_surface: np.ndarray) -> None:
        """Throw a shadow on all that was painted: ``shade``'s greys are its darkness at each place."""
        grey = sample(shade, to_surface, self.size, self.size).convert("L")
        self.picture.paste((6, 6, 16), (0, 0), grey)

    def _paint_window(
        self,
        thing: Posed,
        placed: list[tuple[int, Part, np.ndarray, list[np.ndarray], list[np.ndarray]]],
        x0: int,
        y0: int,
        width: int,
        height: int,
    ) -> None:
        whole: Image.Image | None = None
        patch: Image.Image | None = None
        owner, solid = Image.new("L", (width, height)), Image.new("1", (width, height))
        to_local = np.eye(3)
        for number, part, local, rings, holes in placed:
            u0, v0, w, h = 0, 0, width, height
            if rings and len(placed) > 1:
                points = np.concatenate(rings) if len(rings) > 1 else rings[0]
                a, b = points.min(0), points.max(0)
                u0, v0 = max(int(a[0]) - 2 - x0, 0), max(int(a[1]) - 2 - y0, 0)
                w, h = min(int(b[0]) + 3 - x0, width) - u0, min(int(b[1]) + 3 - y0, height) - v0
                if w <= 0 or h <= 0:
                    continue
            window = (u0, v0, u0 + w, v0 + h)
            if part.stamp is not None or part.material.index >= 0:
                to_local = _pixels_to(local, x0 + u0 + 0.5, y0 + v0 + 0.5)
            if part.stamp is not None:
                cover = _stamped(part, part.stamp, to_local, w, h)
            else:
                cover = _draw(rings, holes, x0 + u0, y0 + v0, w, h)
            if part.clip:
                if whole is None:
                    continue
                cover = ImageChops.multiply(cover, whole.crop(window))
            if patch is None or whole is None:
                patch = Image.new("RGB", (width, height), part.material.colour)
                whole = Image.new("L", (width, height))
            if part.picture is not None:
                patch.paste(_stamped(part, part.picture, to_local, w, h), window, cover)
            elif part.material.index < 0:
                patch.paste(part.material.colour, window, cover)
            else:
                patch.paste(sample(part.material, to_local, w, h), window, cover)
            if not part.clip:
                whole.paste(ImageChops.lighter(whole.crop(window), cover), window)
            seen = cover.convert("1", dither=Image.Dither.NONE)
            owner.paste(number, window, seen)
            solid.paste(255, window, seen)
        if patch is None or whole is None:
            return
        if thing.relief or thing.gloss:
            _relief(patch, whole, thing)
        if thing.defocus > 0.3:
            patch = patch.filter(ImageFilter.BoxBlur(thing.defocus))
            whole = whole.filter(ImageFilter.BoxBlur(thing.defocus))
        if max(abs(thing.motion[0]), abs(thing.motion[1])) >= 1:
            patch, whole = smear(patch, *thing.motion), smear(whole, *thing.motion)
        if thing.shadow:
            self._shadow(whole, thing, x0, y0)
        if thing.opacity < 1:
            whole = Image.blend(Image.new("L", whole.size), whole, thing.opacity)
        self.picture.paste(patch, (x0, y0), whole)
        self.owner.paste(owner, (x0, y0), solid)

    def _shadow(self, whole: Image.Image, thing: Posed, x0: int, y0: int) -> None:
        width, height = whole.size
        shrink = 4 if max(width, height) > 64 else 2
        small = whole.reduce(shrink)
        lx, _ = thing.light
        if thing.standing:
            flat = max(int(small.height * 0.35), 2)
            lean = -lx * 1.2
            wide = small.width + int(abs(lean) * flat) + 1
            left = min(lean, 0.0) * flat
            # The foot stays, the head falls away from the light.
            cast = small.transform(
                (wide, flat),
                Image.Transform.AFFINE,
                (1, lean, left - lean * flat, 0, small.height / flat, 0),
                Image.Resampling.BILINEAR,
            )
            box_x, box_y = x0 + int(left * shrink), y0 + height - int(flat * shrink * 0.9)
        else:
            cast = small
            away = 0.05 * min(width, height) + 1
            box_x, box_y = x0 - int(lx * away), y0 - int(thing.light[1] * away)
        margin = max(min(cast.size) // 6, 1)
        soft = Image.new("L", (cast.width + 2 * margin, cast.height + 2 * margin))
        soft.paste(cast, (margin, margin))
        soft = Image.blend(
            Image.new("L", soft.size), soft.filter(ImageFilter.GaussianBlur(margin * 0.4)), thing.shadow
        )
        soft = soft.resize((soft.width * shrink, soft.height * shrink), Image.Resampling.BILINEAR)
        self.picture.paste((8, 8, 14), (box_x - margin * shrink, box_y - margin * shrink), soft)


def _relief(patch: Image.Image, whole: Image.Image, thing: Posed) -> None:
    """Shade ``patch`` as if its silhouette bulged: a lit side, a dark side, a highlight."""
    width, height = whole.size
    shrink = max(int(np.ceil(max(width, height) / 40)), 1)
    small = whole.reduce(shrink)
    radius = max(min(small.size) * 0.16, 1.0)
    swollen = Image.new("L", (small.width + 8, small.height + 8))
    swollen.paste(small, (4, 4))
    high = np.asarray(
        swollen.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius)), np.float32
    )
    gy, gx = np.gradient(high, axis=0), np.gradient(high, axis=1)
    facing = -(gx * thing.light[0] + gy * thing.light[1])[4:-4, 4:-4]
    facing *= 1.0 / (np.abs(facing).max() + 1e-3)
    dark = (np.clip(-facing, 0, 1) * (170 * thing.relief)).astype(np.uint8)
    lit = np.clip(facing, 0, 1)
    light = lit * (90 * thing.relief)
    if thing.gloss:
        light = light + lit**6 * (200 * thing.gloss)
    size = (small.width * shrink, small.height * shrink)
    for tone, mask in (((0, 0, 8), dark), ((255, 252, 244), np.minimum(light, 255).astype(np.uint8))):
        grown = Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)
        patch.paste(tone, (0, 0), grown)
