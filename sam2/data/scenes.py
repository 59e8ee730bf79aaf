"""Generated scenes: a ground, objects in depth order, light, and a camera's faults; stills are made here.

Everything follows from the seed alone. Sizes of objects follow a power law, as dead leaves and the world do;
difficulty (0..1) sets how many there are, how alike, how textured, how hidden, how badly photographed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .actors import Actor, posed
from .apart import GRID, apart
from .clip import Clip
from .cutouts import Cutouts
from .ground import any_ground
from .photograph import Photograph, any_photograph, exposed, photograph
from .render import MAX_PARTS, Canvas, Posed
from .targets import Painting, painting
from .textures import SOFT, VARIANTS, Material, palette, placement
from .things import Builder, Style, plain
from .vocabulary import VOCABULARY
from .without import checked, plainer, unlettered

Rng = np.random.Generator


@dataclass
class Scene:
    actors: list[Actor]
    light: tuple[float, float]
    photograph: Photograph
    aspect: float = 1.0
    """Width of a world unit over its height: square pictures are often squeezed ones."""
    focus: float = 0.0
    """What is farther than this is out of focus; 0: nothing is."""
    haze: float = 0.0
    """Blur of what is out of focus, pixels at a picture of 128."""
    shade: Material | None = None
    """Shadows of things out of sight (leaves, blinds, clouds), over world units; their darkness as greys."""


def stream_rng(seed: int, stream: int) -> Rng:
    return np.random.Generator(np.random.PCG64((seed, stream)))


def _actor(rng: Rng, style: Style, builder: Builder, size: float, horizon: float | None) -> Actor:
    d = style.difficulty
    parts = builder(rng, style)
    hidden = rng.random() < 0.22 * d and style.ground is not None
    if hidden:
        parts = [
            replace(p, material=style.camouflage(p.material)) if rng.random() < 0.8 else p for p in parts
        ]
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
    small, large = 0.14 - 0.1 * d, 0.34
    u = rng.random(count)
    power = 2.0 * d
    if power < 1e-3:
        return small + (large - small) * u
    return (small**-power + u * (large**-power - small**-power)) ** (-1 / power)


def make_scene(
    seed: int, difficulty: float, without: tuple[str, ...] = (), cutouts: Cutouts | None = None
) -> Scene:
    """The scene of ``seed``: what there is and where, whatever the size it will be drawn at.

    ``without``: names of ``without.NAMES``. ``cutouts``: pictures in place of some of its objects.
    """
    rng = stream_rng(seed, 0)
    d = float(difficulty)
    style = Style(rng, d, hides="camouflage" not in without)
    pieces, horizon = any_ground(rng, style)
    style.avoid = np.array(pieces[-1].parts[0].material.colour, float)
    most = 6 + 14 * d
    least = 2 + 1 * d
    count = round(least * (most / least) ** rng.random())
    sizes = _sizes(rng, count, d)
    if rng.random() < 0.8 * d:
        heroes = rng.integers(count, size=int(rng.integers(1, 5)))
        sizes[heroes] = rng.uniform(0.18, 0.55, len(heroes))
    actors = []
    for size in sizes:
        builder = plain if rng.random() < 0.7 - 0.45 * d else VOCABULARY[rng.integers(len(VOCABULARY))]
        actors.append(_actor(rng, style, builder, float(size), horizon))
    if cutouts is not None:
        _replace(actors, cutouts, stream_rng(seed, 4), d)
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
    deep = rng.random() < 0.35 * d
    for actor in kept:
        if actor.depth < 0.75 and rng.random() < 0.2 * d:
            actor.defocus = rng.uniform(0.5, 3)
    scene = Scene(
        pieces + kept[::-1],
        (float(np.cos(angle)), float(np.sin(angle))),
        any_photograph(rng, d),
        aspect=float(np.exp(rng.normal(0, 0.18 * d))),
        focus=rng.uniform(0.8, 1.4) if deep else 0.0,
        haze=rng.uniform(0.6, 3.5) if deep else 0.0,
        shade=_shade(rng) if rng.random() < 0.3 * d else None,
    )
    return _plainer(scene, seed, without) if without else scene


def _replace(actors: list[Actor], cutouts: Cutouts, rng: Rng, d: float) -> None:
    """Puts cutouts in the place of some of ``actors``; pictures have light and dark of their own."""
    for place, actor in enumerate(actors):
        if rng.random() < cutouts.share:
            parts = cutouts.parts(rng, contrast=10 + 50 * d)
            actors[place] = replace(actor, parts=parts, relief=0.5 * actor.relief)


def _plainer(scene: Scene, seed: int, without: tuple[str, ...]) -> Scene:
    """``scene`` without what is named; "camouflage" was heeded when it was drawn."""
    scene = replace(scene, actors=[plainer(actor, without) for actor in scene.actors])
    if "shading" in without:
        scene.shade = None
    if "glyphs" in without and scene.shade is not None:
        scene.shade = unlettered(scene.shade)
    if "blur" in without:
        scene.focus = scene.haze = 0.0
        scene.photograph = replace(scene.photograph, blur=0.0)
    if "occlusion" in without:
        view = camera_matrix(GRID, scene.aspect)
        pieces = [a for a in scene.actors if a.stuff]
        nearest_first = [a for a in reversed(scene.actors) if not a.stuff]
        free = apart(
            nearest_first,
            lambda _, a: [posed(a, view @ a.matrix(), scene.light, GRID)],
            stream_rng(seed, 2),
        )
        scene.actors = pieces + list(free.values())[::-1]
    return scene


def _shade(rng: Rng) -> Material:
    dark = rng.uniform(60, 190)
    knee = rng.uniform(0.2, 0.6)
    level = dark * np.clip((np.linspace(0, 1, 9) - knee) * rng.uniform(1, 6) + 0.5, 0, 1)
    texture = SOFT[rng.integers(len(SOFT))] if rng.random() < 0.6 else int(rng.integers(VARIANTS))
    return Material(texture, placement(rng, rng.uniform(0.6, 4)), palette(np.repeat(level[:, None], 3, 1)))


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


def camera_matrix(size: int, aspect: float = 1.0) -> np.ndarray:
    """3x3, world units to pixels of a square picture, the middle staying in the middle."""
    a = float(np.sqrt(aspect))
    return np.array([[size * a, 0, size * (1 - a) / 2], [0, size / a, size * (1 - 1 / a) / 2], [0, 0, 1]])


def check_arguments(size: int, difficulty: float, without: tuple[str, ...] = ()) -> None:
    """Raise ValueError for a size or a difficulty that no scene can have, or an unknown name in `without`."""
    checked(without)
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must be between 0 and 1, not {difficulty}")
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")


def paint_still(
    seed: int,
    size: int = 128,
    difficulty: float = 0.5,
    without: tuple[str, ...] = (),
    cutouts: Cutouts | None = None,
) -> Painting:
    """``generate_still`` in the compact form, with all its targets and their kinds.

    ``without``: names of ``without.NAMES``, things that the scene shall not have. ``cutouts``: pictures in
    place of some of its objects.
    """
    check_arguments(size, difficulty, without)
    scene = make_scene(seed, difficulty, without, cutouts)
    canvas, numbers = paint_unmoved(scene, size)
    frame = photograph(canvas.picture, exposed(scene.photograph, canvas.picture))
    return painting(frame[None], np.array(canvas.owner)[None], scene.actors, numbers, f"still-{seed}")


def paint_unmoved(scene: Scene, size: int) -> tuple[Canvas, list[range]]:
    """``scene`` at ``size`` pixels with everything in its place; the owner numbers of each actor."""
    view = camera_matrix(size, scene.aspect)
    poses = [posed(a, view @ a.matrix(), scene.light, size) for a in scene.actors]
    return paint_posed(scene, scene.actors, poses, view, size)


def paint_posed(
    scene: Scene, actors: Sequence[Actor], poses: Sequence[Posed], view: np.ndarray, size: int
) -> tuple[Canvas, list[range]]:
    """``actors`` standing as in ``poses``; focus and shadows are those of ``scene``, through ``view``."""
    canvas = Canvas(size)
    numbers = []
    sharp = scene.focus == 0
    for actor, pose in zip(actors, poses):
        if not sharp and not actor.stuff and actor.depth < scene.focus:
            canvas.defocus(scene.haze * size / 128)
            sharp = True
        numbers.append(canvas.paint(pose))
    if scene.shade is not None:
        canvas.darken(scene.shade, np.linalg.inv(view))
    return canvas, numbers


def generate_still(seed: int, size: int = 128, difficulty: float = 0.5, max_targets: int = 32) -> Clip:
    """One generated picture with its targets; the same arguments always give the same clip of one frame.

    ``size``: side in pixels; ``difficulty``: 0 (few, large, plain objects) to 1 (the world).
    Targets are objects as far as they are seen, their parts, groups and pieces of the ground; they overlap.
    Raises ValueError where ``difficulty`` is not in 0..1 or ``size`` is under 16.
    """
    return paint_still(seed, size, difficulty).clip(max_targets)
