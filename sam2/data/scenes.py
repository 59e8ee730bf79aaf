"""Generated scenes: a ground, objects in depth order, light, and a camera's faults; stills are made here.

Everything follows from the seed alone. Sizes of objects follow a power law, as dead leaves and the world do, and a
scene's difficulty (0..1) sets how many there are, how alike, how textured, how hidden, how badly photographed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from . import shapes
from .clip import Clip
from .render import MAX_PARTS, Canvas, Posed
from .textures import GROUND, Material
from .things import Builder, Part, Style, plain
from .vocabulary import VOCABULARY

Rng = np.random.Generator

WORLD = 3.0
"""Half the side of the ground, in pictures: the camera may look that far beyond the picture's edge."""


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


@dataclass(frozen=True)
class Photograph:
    """What camera and file do to the picture; all zero and one: nothing."""

    blur: float = 0.0
    """Pixels at a picture of 128."""
    noise: float = 0.0
    """Standard deviation, grey levels."""
    quality: int = 100
    """JPEG quality; 100: not compressed."""
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    lift: float = 0.0
    """Haze: grey levels added to black, white staying white."""
    vignette: float = 0.0
    """Share of light lost in the corners."""
    grain_at: tuple[int, int] = (0, 0)


@dataclass
class Scene:
    actors: list[Actor]
    light: tuple[float, float]
    photograph: Photograph
    aspect: float = 1.0
    """Width of a world unit over its height: square pictures are often squeezed ones."""
    targets_of_ground: bool = True
    style: Style | None = field(default=None, repr=False)


def _rng(seed: int, stream: int) -> Rng:
    return np.random.Generator(np.random.PCG64((seed, stream)))


# --- the ground ---------------------------------------------------------------------------------------------------


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


def _ground(rng: Rng, style: Style) -> tuple[list[Actor], float | None]:
    """The pieces of the ground from back to front, and the height of the horizon where things stand on a floor."""
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


# --- the objects --------------------------------------------------------------------------------------------------


def _actor(rng: Rng, style: Style, builder: Builder, size: float, horizon: float | None) -> Actor:
    d = style.difficulty
    parts = builder(rng, style)
    hidden = rng.random() < 0.22 * d and style.ground is not None
    if hidden:
        parts = [replace(p, material=style.camouflage()) if rng.random() < 0.8 else p for p in parts]
    free = builder is plain
    actor = Actor(
        parts,
        rng.uniform(0.02, 0.98),
        rng.uniform(0.02, 0.98),
        size,
        angle=rng.uniform(0, 6.3) if free else rng.normal(0, 0.12 + 0.25 * (rng.random() < 0.2)),
        squash=float(np.exp(rng.normal(0, 0.15))),
        flip=bool(rng.random() < 0.5),
        depth=float(np.exp(rng.normal(0, 0.15))),
    )
    actor.relief = rng.uniform(0, 0.9) if rng.random() < 0.25 + 0.5 * d else 0.0
    actor.gloss = rng.uniform(0.1, 0.9) if rng.random() < 0.25 * d + 0.05 else 0.0
    actor.shadow = rng.uniform(0.15, 0.7) if rng.random() < 0.2 + 0.5 * d else 0.0
    actor.opacity = rng.uniform(0.35, 0.8) if rng.random() < 0.06 * d else 1.0
    if horizon is not None and rng.random() < 0.75:
        actor.standing = True
        foot = rng.uniform(horizon + 0.02, 1.05)
        actor.scale = size * (0.35 + 0.65 * (foot - horizon) / (1.05 - horizon))
        actor.y = foot - actor.scale * actor.squash
        actor.depth = float(np.clip(1.6 - (foot - horizon) / (1.05 - horizon), 0.5, 1.6))
    return actor


def _sizes(rng: Rng, count: int, d: float) -> np.ndarray:
    """Radii in pictures: p(r) ~ r^-3 between bounds, easy scenes having large objects alone."""
    small, large = 0.14 - 0.105 * d, 0.34
    u = rng.random(count)
    power = 2.0 * d
    if power < 1e-3:
        return small + (large - small) * u
    return (small**-power + u * (large**-power - small**-power)) ** (-1 / power)


def _photograph(rng: Rng, d: float) -> Photograph:
    def maybe(chance: float) -> bool:
        return bool(rng.random() < chance * d)

    cast = np.exp(rng.normal(0, 0.07 * d, 3))
    dark = maybe(0.12)
    exposure = rng.uniform(0.2, 0.55) if dark else float(np.exp(rng.normal(0, 0.12 * d)))
    return Photograph(
        blur=rng.uniform(0.2, 1.2) if maybe(0.3) else 0.0,
        noise=rng.uniform(6, 18) if dark else rng.uniform(1, 9) if maybe(0.6) else 0.0,
        quality=int(rng.integers(25, 90)) if maybe(0.35) else 100,
        gain=tuple(float(v) for v in cast * exposure),  # type: ignore[arg-type]
        gamma=float(np.exp(rng.normal(0, 0.15 * d))),
        lift=rng.uniform(10, 70) if maybe(0.12) else 0.0,
        vignette=rng.uniform(0.1, 0.5) if maybe(0.3) else 0.0,
        grain_at=(int(rng.integers(0, 256)), int(rng.integers(0, 256))),
    )


def make_scene(seed: int, difficulty: float) -> Scene:
    """The scene of ``seed``: what there is and where, whatever the size it will be drawn at."""
    rng = _rng(seed, 0)
    d = float(difficulty)
    style = Style(rng, d)
    pieces, horizon = _ground(rng, style)
    style.avoid = np.array(pieces[-1].parts[0].material.colour, float)
    most = 6 + 14 * d
    least = 2 + 1 * d
    count = int(round(least * (most / least) ** rng.random()))
    sizes = _sizes(rng, count, d)
    if rng.random() < 0.5 * d:
        sizes[rng.integers(count)] = rng.uniform(0.25, 0.6)
    actors = []
    for size in sizes:
        builder = plain if rng.random() < 0.7 - 0.45 * d else VOCABULARY[rng.integers(len(VOCABULARY))]
        actors.append(_actor(rng, style, builder, float(size), horizon))
    if count >= 3 and rng.random() < 0.25 * d:
        actors += _look_alikes(rng, actors[int(rng.integers(count))])
    actors.sort(key=lambda a: -a.depth)
    used = sum(len(p.parts) for p in pieces)
    kept = []
    for actor in reversed(actors):
        used += len(actor.parts)
        if used <= MAX_PARTS:
            kept.append(actor)
    angle = rng.normal(-np.pi / 2, 0.7)
    return Scene(
        pieces + kept[::-1],
        (float(np.cos(angle)), float(np.sin(angle))),
        _photograph(rng, d),
        aspect=float(np.exp(rng.normal(0, 0.18 * d))),
        style=style,
    )


def _look_alikes(rng: Rng, model: Actor) -> list[Actor]:
    """Copies of one object beside it: a row, a pile, a flock; together they are one more target."""
    model.group = 0
    copies = []
    for k in range(1, int(rng.integers(2, 6))):
        beside = rng.normal(0, 1.1, 2) if not model.standing else np.array([1.3 * k, 0.0])
        copies.append(
            replace(
                model,
                x=model.x + model.scale * beside[0] * 1.2,
                y=model.y + model.scale * beside[1] * 1.2,
                angle=model.angle + rng.normal(0, 0.1),
                scale=model.scale * float(np.exp(rng.normal(0, 0.05))),
            )
        )
    return copies


# --- the picture --------------------------------------------------------------------------------------------------


def camera_matrix(size: int, aspect: float = 1.0) -> np.ndarray:
    """3x3, world units to pixels of a square picture, the middle staying in the middle."""
    a = float(np.sqrt(aspect))
    return np.array([[size * a, 0, size * (1 - a) / 2], [0, size / a, size * (1 - 1 / a) / 2], [0, 0, 1]])


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(77)).normal(0, 256, (1024, 1024, 3)).astype(np.int16)


@lru_cache(maxsize=8)
def _vignette(size: int) -> Image.Image:
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return Image.fromarray(np.minimum((axis[:, None] + axis) * 127.5, 255).astype(np.uint8))


def photograph(picture: Image.Image, how: Photograph) -> np.ndarray:
    """uint8 [H, W, 3]: ``picture`` as a camera and a file would give it."""
    size = picture.width
    if how.blur:
        picture = picture.filter(ImageFilter.BoxBlur(how.blur * size / 128))
    if how.vignette:
        picture.paste((0, 0, 0), (0, 0), _vignette(size).point([int(v * how.vignette) for v in range(256)]))
    if how.gain != (1.0, 1.0, 1.0) or how.gamma != 1.0 or how.lift:
        level = 255 * (np.arange(256) / 255) ** how.gamma
        level = how.lift + level * (255 - how.lift) / 255
        table = np.concatenate([np.clip(level * g, 0, 255) for g in how.gain]).astype(int).tolist()
        picture = picture.point(table)
    if how.noise:
        x, y = how.grain_at
        grain = _grain()[y : y + size, x : x + size]
        if grain.shape[0] < size or grain.shape[1] < size:
            grain = _grain().take(range(y, y + size), 0, mode="wrap").take(range(x, x + size), 1, mode="wrap")
        noisy = np.asarray(picture).astype(np.int16)
        noisy += (grain * np.int16(round(how.noise))) >> 8
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if how.quality < 100:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=how.quality)
        picture = Image.open(file)
    return np.array(picture)


def posed(
    actor: Actor, matrix: np.ndarray, light: tuple[float, float], swings: Sequence[float], size: int
) -> Posed:
    """``actor`` ready to paint; ``matrix`` is the 3x3 matrix from its frame to pixels."""
    return Posed(
        actor.parts,
        matrix,
        swings,
        light,
        opacity=actor.opacity,
        relief=actor.relief,
        gloss=actor.gloss,
        shadow=actor.shadow,
        standing=actor.standing,
        defocus=actor.defocus * size / 128,
    )


@dataclass(frozen=True)
class Target:
    """Owner numbers that together are one target."""

    owners: tuple[int, ...]
    kind: str
    """"whole", "part", "group" or "ground"."""


def targets_of(scene: Scene, numbers: Sequence[range]) -> list[Target]:
    """All targets of a scene whose actors received the owner numbers ``numbers``, in the actors' order."""
    found: list[Target] = []
    together: dict[int, list[int]] = {}
    for actor, mine in zip(scene.actors, numbers):
        if actor.stuff:
            if scene.targets_of_ground:
                found.append(Target(tuple(mine), "ground"))
            continue
        found.append(Target(tuple(mine), "whole"))
        if actor.group >= 0:
            together.setdefault(actor.group, []).extend(mine)
        parts: dict[int, list[int]] = {}
        for number, part in zip(mine, actor.parts):
            if part.group >= 0:
                parts.setdefault(part.group, []).append(number)
        found += [Target(tuple(p), "part") for p in parts.values() if len(p) < len(mine)]
    found += [Target(tuple(owners), "group") for owners in together.values()]
    return found


def smallest_area(size: int) -> int:
    """Pixels a target must show to count: 16, or a thousandth of the picture."""
    return max(16, size * size // 1000)


def select_targets(targets: Sequence[Target], areas: np.ndarray, size: int, limit: int) -> list[int]:
    """Indices of the targets that show enough, wholes first, at most ``limit``; ``areas`` [256] by owner number."""
    order = {"whole": 0, "group": 1, "part": 2, "ground": 3}
    least, most = smallest_area(size), 0.9 * size * size
    seen: set[tuple[int, ...]] = set()
    kept = []
    for index in sorted(range(len(targets)), key=lambda i: order[targets[i].kind]):
        owners = tuple(n for n in targets[index].owners if areas[n])
        if owners in seen or not least <= areas[list(owners)].sum() <= most:
            continue
        seen.add(owners)
        kept.append(index)
    return sorted(kept[:limit])


def masks_of(targets: Sequence[Target], owner: np.ndarray) -> np.ndarray:
    """bool [N, H, W] from the owner picture uint8 [H, W]."""
    masks = np.empty((len(targets), *owner.shape), np.bool_)
    for mask, target in zip(masks, targets):
        low, high = min(target.owners), max(target.owners)
        if high - low + 1 == len(target.owners):
            np.less_equal(owner - np.uint8(low), np.uint8(high - low), out=mask)
        else:
            table = np.zeros(256, np.bool_)
            table[list(target.owners)] = True
            np.take(table, owner, out=mask)
    return masks


def generate_still(seed: int, size: int = 128, difficulty: float = 0.5, max_targets: int = 32) -> Clip:
    """One generated picture with its targets; the same arguments always give the same clip of one frame.

    ``size``: side in pixels; ``difficulty``: 0 (few, large, plain objects on a plain ground) to 1 (the full world).
    Targets are objects as far as they are seen, their parts, groups and pieces of the ground, and may overlap.
    Raises ValueError where ``difficulty`` is not in 0..1 or ``size`` is under 16.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must be between 0 and 1, not {difficulty}")
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")
    scene = make_scene(seed, difficulty)
    canvas = Canvas(size)
    view = camera_matrix(size, scene.aspect)
    numbers = []
    for actor in scene.actors:
        still = [0.0] * len(actor.parts)
        numbers.append(canvas.paint(posed(actor, view @ actor.matrix(), scene.light, still, size)))
    owner = np.asarray(canvas.owner)
    targets = targets_of(scene, numbers)
    areas = np.bincount(owner.ravel(), minlength=256)
    kept = [targets[i] for i in select_targets(targets, areas, size, max_targets)]
    frame = photograph(canvas.picture, scene.photograph)
    return Clip(frame[None], masks_of(kept, owner)[None], tuple(range(1, len(kept) + 1)), f"still-{seed}")
