"""Generated clips: the objects of a scene moving before a moving camera, hidden, gone and back again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .actors import Actor, posed
from .apart import GRID, apart
from .clip import Clip
from .cutouts import Cutouts
from .photograph import exposed, photograph
from .render import MAX_PARTS, Canvas, Posed, Wobble
from .scenes import Scene, camera_matrix, check_arguments, make_scene, paint_posed, paint_unmoved, stream_rng
from .targets import Painting, painting

Rng = np.random.Generator

GROUND_DEPTH = 1.2


@dataclass(frozen=True)
class Track:
    """How one object moves; all zero: it stands still. Times are frames, lengths world units."""

    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    sway: np.ndarray = field(default_factory=lambda: np.zeros(2))
    sway_speed: float = 0.0
    phase: float = 0.0
    hop: float = 0.0
    """Height of its jumps."""
    growth: float = 0.0
    """Relative change of size a frame."""
    spin: float = 0.0
    """Radians a frame."""
    rock: float = 0.0
    tempo: float = 0.0
    """Speed of limbs, as a share of their own."""
    bend: float = 0.0
    """Size of the outline's wobble, object units."""
    bend_wave: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    bend_speed: float = 0.0

    def move(self, actor: Actor, t: float) -> Actor:
        """``actor`` at frame ``t``."""
        angle = self.sway_speed * t + self.phase
        way = np.array([np.sin(angle) - np.sin(self.phase), np.cos(0.7 * angle) - np.cos(0.7 * self.phase)])
        x, y = np.array([actor.x, actor.y]) + self.velocity * t + self.sway * way
        jump = self.hop * abs(np.sin(angle))
        return replace(
            actor,
            x=float(x),
            y=float(y - jump),
            scale=actor.scale * float(np.exp(np.clip(self.growth * t, -1.2, 0.9))),
            angle=actor.angle + self.spin * t + self.rock * float(np.sin(angle)),
        )

    def wobble(self, t: float) -> Wobble | None:
        if not self.bend:
            return None
        phase = np.array([self.phase, 2.1 * self.phase]) + self.bend_speed * t * np.array([1.0, 1.3])
        amplitude = self.bend * np.array([[0.6, 1.0], [1.0, -0.5]])
        return Wobble(amplitude, self.bend_wave, phase)


@dataclass(frozen=True)
class Camera:
    """Where the camera looks in each frame: [T] arrays of centre (world units), zoom, roll (radians)."""

    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray
    roll: np.ndarray

    def matrix(self, t: int, depth: float, size: int, aspect: float) -> np.ndarray:
        """3x3, world units at ``depth`` to pixels of frame ``t``."""
        near = 1 / depth
        c, s = np.cos(self.roll[t]), np.sin(self.roll[t])
        z = self.zoom[t] ** near
        turn = np.array([[c, -s], [s, c]]) * z
        centre = np.array([0.5 + self.x[t] * near, 0.5 + self.y[t] * near])
        shift = 0.5 - turn @ centre
        look = np.array([[*turn[0], shift[0]], [*turn[1], shift[1]], [0, 0, 1]])
        return camera_matrix(size, aspect) @ look


def _any_track(rng: Rng, actor: Actor, d: float, deform: bool) -> Track:
    kind = rng.random()
    if kind < 0.3:
        return Track(tempo=float(rng.random() < 0.3), phase=rng.uniform(0, 6.3))
    speed = 0.003 * (8 + 10 * d) ** rng.random()
    heading = rng.uniform(0, 2 * np.pi)
    if actor.standing:
        heading = rng.choice([0.0, np.pi]) + rng.normal(0, 0.2)
    velocity = speed * np.array([np.cos(heading), np.sin(heading)])
    # Towards the picture, most of the time: what starts at the edge should cross it.
    if rng.random() < 0.7 and velocity @ np.array([0.5 - actor.x, 0.5 - actor.y]) < 0:
        velocity = -velocity
    track = Track(
        velocity=velocity,
        phase=rng.uniform(0, 6.3),
        spin=rng.normal(0, 0.08) if rng.random() < 0.3 and not actor.standing else 0.0,
        rock=rng.uniform(0, 0.25) if rng.random() < 0.4 else 0.0,
        sway_speed=rng.uniform(0.1, 0.6),
        growth=rng.normal(0, 0.012 + 0.02 * d) if rng.random() < 0.5 else 0.0,
        tempo=rng.uniform(0.4, 1.6),
    )
    if kind > 0.65:
        wide = rng.uniform(0.05, 0.2 + 0.5 * d)
        sway = wide * np.array([1.0, 0.15 if actor.standing else rng.uniform(0.1, 1)])
        track = replace(track, velocity=0.3 * velocity, sway=sway, sway_speed=rng.uniform(0.06, 0.4))
    elif kind > 0.55:
        track = replace(track, hop=rng.uniform(0.05, 0.3), sway_speed=rng.uniform(0.15, 0.5))
    if deform and rng.random() < 0.6:
        track = replace(
            track,
            bend=rng.uniform(0.02, 0.12),
            bend_wave=rng.normal(0, 1.6, (2, 2)),
            bend_speed=rng.uniform(0.1, 0.7),
        )
    return track


def _any_camera(rng: Rng, length: int, d: float) -> tuple[Camera, int | None]:
    """A camera's path, and the frame at which it jumps (a cut), if any."""
    t = np.arange(length, dtype=float)
    still = rng.random() < 1 - 0.75 * d
    size = np.zeros(4) if still else rng.normal(0, (0.012, 0.006, 0.008, 0.006)) * (rng.random(4) < 0.6)
    wave = np.sin(np.outer(rng.uniform(0.1, 0.5, 4), t) + rng.uniform(0, 6.3, (4, 1)))
    shake = rng.normal(0, (0.006, 0.006, 0.004, 0.004), (length, 4)).T * (rng.random() < 0.35 * d)
    weave = np.array([[0.03], [0.02], [0.03], [0.02]]) * (wave - wave[:, :1]) * (not still)
    x, y, zoom, roll = size[:, None] * t + weave + shake
    cut: int | None = None
    if length >= 4 and rng.random() < 0.08 * d:
        cut = int(rng.integers(length // 3, length - 1))
        x[cut:] += rng.normal(0, 0.15)
        y[cut:] += rng.normal(0, 0.1)
        zoom[cut:] += rng.uniform(-0.2, 0.5)
    return Camera(x, y, np.exp(zoom), roll), cut


def _passers_by(rng: Rng, scene: Scene, length: int, d: float) -> list[tuple[Actor, Track]]:
    """Made for the clip: something close that passes before all, a look-alike that crosses its model."""
    free = [a for a in scene.actors if not a.stuff]
    room = MAX_PARTS - sum(len(a.parts) for a in scene.actors)
    extra: list[tuple[Actor, Track]] = []
    if rng.random() < 0.1 + 0.3 * d:
        model = free[int(rng.integers(len(free)))]
        crossing = int(rng.integers(1, max(length, 2)))
        side = rng.choice([-1.0, 1.0])
        start = 0.5 + side * rng.uniform(0.7, 1.0)
        scale = rng.uniform(0.15, 0.45)
        speed = (rng.uniform(0.3, 0.7) - start) / crossing
        y = rng.uniform(0.2, 0.9)
        actor = replace(model, x=start, y=y, scale=scale, depth=0.45, standing=False, group=-1)
        extra.append((actor, Track(np.array([speed, 0.0]), tempo=1.0, phase=rng.uniform(0, 6))))
    if rng.random() < 0.35 * d:
        model = free[int(rng.integers(len(free)))]
        gap = rng.choice([-1.0, 1.0]) * rng.uniform(2, 4) * model.scale
        meet = rng.uniform(0.3, 0.8) * length
        actor = replace(model, x=model.x + gap, y=model.y + 0.2 * model.scale, depth=model.depth * 0.98)
        extra.append((actor, Track(np.array([-gap / meet, 0.0]), tempo=1.0, phase=rng.uniform(0, 6))))
    kept = []
    for actor, track in extra:
        room -= len(actor.parts)
        if room >= 0:
            kept.append((actor, track))
    return kept


def _lamp(rng: Rng, length: int, d: float) -> np.ndarray:
    """Exposure of each frame, [T], around 1."""
    t = np.arange(length)
    slow = rng.normal(0, 0.15) * np.sin(rng.uniform(0.05, 0.4) * t + rng.uniform(0, 6.3))
    flicker = rng.normal(0, 0.04, length) * (rng.random() < 0.2)
    return np.exp((slow + flicker) * (rng.random() < 0.5 * d))


def _pose(
    actor: Actor, track: Track, camera: Camera, scene: Scene, size: int, t: int, shutter: float
) -> Posed:
    """``actor`` at frame ``t``; ``shutter`` is the share of a frame's time that it stays open."""
    depth = GROUND_DEPTH if actor.stuff or actor.standing else actor.depth
    matrix = camera.matrix(t, depth, size, scene.aspect) @ track.move(actor, t).matrix()
    smear = (0.0, 0.0)
    if shutter and t and not actor.stuff:
        past = camera.matrix(t - 1, depth, size, scene.aspect) @ track.move(actor, t - 1).matrix()
        dx, dy = (matrix[:2, 2] - past[:2, 2]) * shutter
        if max(abs(dx), abs(dy)) < 0.15 * size:
            smear = (float(dx), float(dy))
    swings = [
        0.0
        if part.swing is None or not track.tempo
        else part.swing.amplitude * float(np.sin(part.swing.phase + part.swing.speed * track.tempo * t))
        for part in actor.parts
    ]
    return posed(actor, matrix, scene.light, size, swings, track.wobble(t), smear)


def _apart(
    cast: list[tuple[Actor, Track]], camera: Camera, scene: Scene, length: int, rng: Rng
) -> list[tuple[Actor, Track]]:
    """Those of ``cast`` that find room all through the clip, their starts moved where they meet."""

    def poses(number: int, actor: Actor) -> list[Posed]:
        return [_pose(actor, cast[number][1], camera, scene, GRID, t, 0.0) for t in range(length)]

    free = apart([actor for actor, _ in cast], poses, rng)
    return [(actor, cast[number][1]) for number, actor in free.items()]


def _paint(
    actors: Sequence[Actor],
    tracks: Sequence[Track],
    camera: Camera,
    scene: Scene,
    size: int,
    t: int,
    shutter: float,
) -> tuple[Canvas, list[range]]:
    """Frame ``t``; ``shutter`` as for ``_pose``."""
    poses = [_pose(actor, track, camera, scene, size, t, shutter) for actor, track in zip(actors, tracks)]
    return paint_posed(scene, actors, poses, camera.matrix(t, GROUND_DEPTH, size, scene.aspect), size)


def paint_clip(
    seed: int,
    size: int = 128,
    length: int = 8,
    difficulty: float = 0.5,
    without: tuple[str, ...] = (),
    cutouts: Cutouts | None = None,
) -> Painting:
    """``generate_clip`` in the compact form, with all its targets and their kinds.

    ``without``: names of ``without.NAMES``, things that the clip shall not have. ``cutouts``: pictures in
    place of some of its objects.
    """
    check_arguments(size, difficulty, without)
    if length < 1:
        raise ValueError(f"length must be at least 1 frame, not {length}")
    scene = make_scene(seed, difficulty, without, cutouts)
    rng = stream_rng(seed, 1)
    d = difficulty
    ground = [a for a in scene.actors if a.stuff]
    cast = [(a, _any_track(rng, a, d, len(a.parts) <= 3)) for a in scene.actors if not a.stuff]
    cast += _passers_by(rng, scene, length, d)
    camera, cut = _any_camera(rng, length, d)
    if "occlusion" in without:
        cast = _apart(cast, camera, scene, length, stream_rng(seed, 3))
    cast.sort(key=lambda pair: -pair[0].depth)
    actors = ground + [a for a, _ in cast]
    tracks = [Track()] * len(ground) + [track for _, track in cast]
    shutter = rng.uniform(0.1, 0.7) if rng.random() < 0.45 * d else 0.0
    if "blur" in without:
        shutter = 0.0
    exposure = _lamp(rng, length, d)
    away = _away(rng, length, d) if cut is None else range(0)
    frames = np.empty((length, size, size, 3), np.uint8)
    owners = np.zeros((length, size, size), np.uint8)
    numbers: list[range] = []
    other: Scene | None = None
    how = scene.photograph
    for t in range(length):
        if t in away:
            other = other or make_scene(seed + 0x5EED, difficulty, without, cutouts)
            canvas, _ = paint_unmoved(other, size)
        else:
            canvas, numbers = _paint(actors, tracks, camera, scene, size, t, 0.0 if t == cut else shutter)
            owners[t] = np.asarray(canvas.owner)
        if t == 0:
            how = exposed(scene.photograph, canvas.picture)
        at = (int(rng.integers(0, 256)), int(rng.integers(0, 256)))
        frames[t] = photograph(
            canvas.picture, replace(how, exposure=how.exposure * float(exposure[t]), grain_at=at)
        )
    return painting(frames, owners, actors, numbers, f"clip-{seed}")


def _away(rng: Rng, length: int, d: float) -> range:
    """Frames for which the film shows another scene, usually none."""
    if length < 6 or rng.random() > 0.05 * d:
        return range(0)
    start = int(rng.integers(2, length - 2))
    return range(start, min(start + int(rng.integers(1, 4)), length - 1))


def generate_clip(
    seed: int, size: int = 128, length: int = 8, difficulty: float = 0.5, max_targets: int = 32
) -> Clip:
    """``length`` frames of a generated scene in motion; the same arguments always give the same clip.

    ``size``: side in pixels; ``difficulty`` as for stills, and with it camera motion, occluders, crossing
    look-alikes, changing light, motion blur, cuts. A target out of sight has an empty mask in that frame.
    Raises ValueError for a ``length`` under 1, a ``difficulty`` outside 0..1 or a ``size`` under 16.
    """
    return paint_clip(seed, size, length, difficulty).clip(max_targets)
