"""Which parts of a painted scene make a target, and the masks of targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .actors import Actor
from .clip import Clip


@dataclass(frozen=True)
class Target:
    """Owner numbers that together are one target."""

    owners: tuple[int, ...]
    kind: str
    """"whole", "part", "group" or "ground"."""


def targets_of(actors: Sequence[Actor], numbers: Sequence[range]) -> list[Target]:
    """All targets of ``actors`` that received the owner numbers ``numbers`` from the canvas."""
    found: list[Target] = []
    together: dict[int, list[int]] = {}
    for actor, mine in zip(actors, numbers):
        if actor.stuff:
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


_ORDER = {"whole": 0, "group": 1, "part": 2, "ground": 3}


@dataclass(frozen=True)
class Painting:
    """Frames with the number of the part seen at every pixel: the compact form of a generated clip.

    Every mask is a union of owner numbers, so one byte a pixel holds all targets, however they overlap.
    """

    frames: np.ndarray
    """uint8 [T, H, W, 3], RGB."""
    owners: np.ndarray
    """uint8 [T, H, W]; 0: nobody."""
    targets: tuple[Target, ...]
    """All that shows enough in at least one frame."""
    name: str = ""

    def clip(self, max_targets: int = 32) -> Clip:
        """The clip of at most ``max_targets`` targets: wholes, then groups, parts, pieces of the ground."""
        chosen = sorted(range(len(self.targets)), key=lambda i: _ORDER[self.targets[i].kind])[:max_targets]
        kept = [self.targets[i] for i in sorted(chosen)]
        masks = np.empty((len(self.frames), len(kept), *self.owners.shape[1:]), np.bool_)
        for n, target in enumerate(kept):
            low, high = min(target.owners), max(target.owners)
            if high - low + 1 == len(target.owners):
                np.less_equal(self.owners - np.uint8(low), np.uint8(high - low), out=masks[:, n])
            else:
                table = np.zeros(256, np.bool_)
                table[list(target.owners)] = True
                masks[:, n] = table[self.owners]
        if len(self.frames) > 1:
            masks[masks.sum((2, 3)) < faintest_area(self.owners.shape[1])] = False
        kinds = tuple(target.kind for target in kept)
        return Clip(self.frames, masks, tuple(range(1, len(kept) + 1)), self.name, kinds)


def smallest_area(size: int) -> int:
    """Pixels a target must show in one frame to count: 16, or a thousandth of the picture."""
    return max(16, size * size // 1000)


def faintest_area(size: int) -> int:
    """Pixels under which a target counts as out of sight in one frame of a clip."""
    return max(4, size * size // 4000)


def painting(
    frames: np.ndarray, owners: np.ndarray, actors: Sequence[Actor], numbers: Sequence[range], name: str
) -> Painting:
    """The painting of ``actors``, with the targets that show enough; of targets that look the same, one."""
    areas = np.stack([np.bincount(owner.ravel(), minlength=256) for owner in owners])
    ever = areas.max(0)
    size = owners.shape[1]
    least, most = smallest_area(size), 0.9 * size * size
    kept: dict[tuple[int, ...], Target] = {}
    for target in sorted(targets_of(actors, numbers), key=lambda t: _ORDER[t.kind]):
        seen = tuple(n for n in target.owners if ever[n])
        if seen not in kept and least <= areas[:, list(seen)].sum(1).max() <= most:
            kept[seen] = target
    return Painting(frames, owners, tuple(kept.values()), name)
