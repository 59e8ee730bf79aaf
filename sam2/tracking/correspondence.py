"""Labels carried from frame to frame by correspondence: a cell takes those of the cells most like it.

A small model's memory holds an object by its looks, and lets go of what looks otherwise: the white shirt of
a girl in a blue skirt. Correspondence asks less, only which cell of a frame just seen, and near by, a cell
is; it carries whatever was marked there. (Label propagation, as it judges features in Jabri et al. 2020,
"Space-Time Correspondence as a Contrastive Random Walk", section 4.2.)

Shapes: C channels, n x n the cells of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.modeling.outputs import FrameFeatures

TILE = 8
"""Cells are compared tile by tile of so many cells a side, each with those around its tile."""
AT_ONCE = 8
"""So many tiles are compared at once: what lies around them fits into a processor's cache."""
FINEST = 64
"""Most cells a side."""
VOTES = 10
"""So many of the most similar cells have a say."""
TEMPERATURE = 0.07 / 3
"""Of their weights: exp(similarity / temperature)."""
NOVEL = 2 / 3
"""Similarity below which a cell was not seen before, so that it is not the object either."""
EPSILON = 0.01
"""Labels so near 0 or 1 are taken to be it where all others about are so."""
PRINCIPAL = 64
"""Directions in which cells are told apart: they keep 99.8% of what the packaged model's 176 channels say."""
COARSE = 4
"""Objects that leap are sought in steps of so many cells."""
FARTHEST = 20
"""How many cells an object leaps at most."""
STAYS = 0.5
"""An object has leapt only where it is less like what is now in its old place than this share of how much it
is like what is in its new one: two white things that meet are not to be taken for each other."""


@dataclass(frozen=True)
class Source:
    """A picture whose labels are known, as the compared one's window shows it; zeros beyond it."""

    cells: Tensor
    """Float [C, n, n], of `describe` and `reduced`."""
    labels: Tensor
    """Shares of the object, 0 to 1, float [n, n]."""


def describe(features: FrameFeatures) -> Tensor:
    """What the cells of a picture are compared by, float [C, n, n]: of length 1, from the maps of all levels
    in equal parts, without what the whole picture has in common."""
    n = min(max(level.shape[-1] for level in features.maps), FINEST)
    levels = []
    for level in features.maps:
        level = level.float()
        if level.shape[-1] > n:
            level = F.adaptive_avg_pool2d(level, n)
        elif level.shape[-1] < n:
            level = F.interpolate(level, (n, n), mode="bilinear", align_corners=False)
        levels.append(F.normalize(level - level.mean((2, 3), keepdim=True), dim=1))
    return torch.cat(levels, dim=1)[0] / math.sqrt(len(levels))


def principal(cells: Tensor) -> Tensor:
    """The directions, at most `PRINCIPAL`, in which the cells float [C, n, n] of a picture differ most;
    orthonormal, float [C, K]."""
    of_cells = cells.flatten(1)
    alike = (of_cells @ of_cells.T).cpu()  # not every device knows eigenvectors
    directions: Tensor = torch.linalg.eigh(alike).eigenvectors  # the least come first
    return directions[:, -PRINCIPAL:].to(cells)


def reduced(cells: Tensor, directions: Tensor) -> Tensor:
    """Cells [C, n, n] in the given directions [C, K] alone, [K, n, n]; a cell's numbers lie side by side."""
    return (cells.flatten(1).T @ directions).view(*cells.shape[1:], -1).permute(2, 0, 1)


def carry(cells: Tensor, sources: Sequence[Source], reach: int) -> Tensor:
    """The labels of a picture, float [n, n] of 0 to 1.

    Args:
        cells: float [C, n, n], of `describe` and `reduced`.
        sources: of the same size, at least one.
        reach: so many cells away the same thing may lie in a source; less than a tile more at most.
    """
    n = cells.shape[-1]
    labels = _tiles([source.labels[None] for source in sources], reach).flatten(2)
    least, most = labels.amin(2), labels.amax(2)
    carried = (least > 1 - EPSILON).to(cells)[..., None].repeat(1, 1, TILE * TILE)
    mixed = ((least <= 1 - EPSILON) & (most > EPSILON)).nonzero()  # elsewhere all labels are alike
    compared, around = _tiles([cells], 0), _tiles([source.cells for source in sources], reach)
    for few in mixed.split(AT_ONCE) if len(mixed) else ():
        rows, columns = few.unbind(1)
        there = around[rows, columns].view(len(few), -1, cells.shape[0])
        here = compared[rows, columns].view(len(few), -1, cells.shape[0])
        best, which = torch.bmm(here, there.transpose(1, 2)).topk(VOTES, dim=2)
        votes = labels[rows, columns][:, None].expand(-1, TILE * TILE, -1).gather(2, which)
        weights = (F.pad(best, (0, 1), value=NOVEL) / TEMPERATURE).softmax(dim=2)[..., :-1]
        carried[rows, columns] = (weights * votes).sum(2)
    across = carried.shape[0]
    whole = carried.view(across, across, TILE, TILE).transpose(1, 2).reshape(across * TILE, across * TILE)
    return whole[:n, :n]


def leap(cells: Tensor, source: Source) -> tuple[int, int]:
    """By how many cells, to the right and down, the object of a source has leapt in a picture of `cells`
    [C, n, n]; (0, 0) for one that stays where it was."""
    weights = F.avg_pool2d(source.labels[None, None], COARSE)
    if not bool(weights.any()):
        return 0, 0
    pattern = F.avg_pool2d(source.cells[None], COARSE) * weights / weights.sum()
    most = FARTHEST // COARSE
    alike = F.conv2d(F.avg_pool2d(cells[None], COARSE), pattern, padding=most)[0, 0]
    if float(alike[most, most]) > STAYS * float(alike.max()):
        return 0, 0
    y, x = divmod(int(alike.argmax()), alike.shape[-1])
    return (x - most) * COARSE, (y - most) * COARSE


def _tiles(pictures: Sequence[Tensor], reach: int) -> Tensor:
    """Tiles with what lies around them in all pictures [C, n, n], a view [rows, columns, pictures, side,
    side * C] in which those that lie next to each other share most."""
    channels, n = pictures[0].shape[:2]
    across, side = -(-n // TILE), TILE + 2 * reach
    long = TILE * across + 2 * reach
    whole = pictures[0].new_zeros(len(pictures), long, long, channels)
    for place, picture in zip(whole, pictures):
        place[reach : reach + n, reach : reach + n] = picture.permute(1, 2, 0)
    row = long * channels
    return whole.as_strided(
        (across, across, len(pictures), side, side * channels),
        (TILE * row, TILE * channels, long * row, row, 1),
    )
