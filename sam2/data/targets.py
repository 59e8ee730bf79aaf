"""Which parts of a painted scene are one target, and their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .actors import Actor


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


def smallest_area(size: int) -> int:
    """Pixels a target must show to count: 16, or a thousandth of the picture."""
    return max(16, size * size // 1000)


def select_targets(targets: Sequence[Target], areas: np.ndarray, size: int, limit: int) -> list[int]:
    """Indices of at most ``limit`` targets that show enough; ``areas`` [T, 256]: owners' pixels."""
    order = {"whole": 0, "group": 1, "part": 2, "ground": 3}
    least, most = smallest_area(size), 0.9 * size * size
    ever = areas.max(0)
    seen: set[tuple[int, ...]] = set()
    kept = []
    for index in sorted(range(len(targets)), key=lambda i: order[targets[i].kind]):
        owners = tuple(n for n in targets[index].owners if ever[n])
        if owners in seen or not least <= areas[:, list(owners)].sum(1).max() <= most:
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
