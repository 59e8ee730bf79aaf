"""Labels carried from frame to frame by correspondence: a cell takes those of the cells most like it.

A small model's memory holds an object by its looks, and lets go of what looks otherwise: the white shirt of
a girl in a blue skirt. Correspondence asks less, only which cell of a frame just seen, and near by, a cell
is; it carries whatever was marked there. (Label propagation, as it judges features in Jabri et al. 2020,
"Space-Time Correspondence as a Contrastive Random Walk", section 4.2.)

Shapes: C channels, n x n the cells of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.modeling.outputs import FrameFeatures

TILE = 8
"""Cells are compared tile by tile of so many cells a side, each with those around its tile."""
FINEST = 64
"""Most cells a side."""
VOTES = 10
"""So many of the most similar cells have a say."""
TEMPERATURE = 0.07
"""Of their weights: exp(similarity / temperature)."""
APART = -1e4
"""Similarity of what cannot be compared."""
COARSE = 4
"""Objects that leap are sought in steps of so many cells."""
FARTHEST = 20
"""How many cells an object leaps at most."""
STAYS = 0.5
"""An object has leapt only where it is less like what is now in its old place than this share of how much it
is like what is in its new one: two white things that meet are not to be taken for each other."""


@dataclass(frozen=True)
class Source:
    """A picture whose labels are known, as the compared one's window shows it."""

    cells: Tensor
    """Float [C, n, n], of `describe`."""
    labels: Tensor
    """Shares of the object, 0 to 1, float [n, n]."""
    shown: Tensor
    """Whether the picture reaches there, bool [n, n]."""


def describe(features: FrameFeatures) -> Tensor:
    """What the cells of a picture are compared by, float [C, n, n]: the maps of all levels at one size, each
    of length 1, without what the whole picture has in common."""
    n = min(max(level.shape[-1] for level in features.maps), FINEST)
    levels = []
    for level in features.maps:
        level = level.float()
        if level.shape[-1] > n:
            level = F.adaptive_avg_pool2d(level, n)
        elif level.shape[-1] < n:
            level = F.interpolate(level, (n, n), mode="bilinear", align_corners=False)
        levels.append(F.normalize(level - level.mean((2, 3), keepdim=True), dim=1))
    return torch.cat(levels, dim=1)[0]


def carry(cells: Tensor, sources: Sequence[Source], reach: int) -> Tensor:
    """The labels of a picture, float [n, n] of 0 to 1.

    Args:
        cells: float [C, n, n], of `describe`.
        sources: of the same size, at least one.
        reach: so many cells away the same thing may lie in a source; less than a tile more at most.
    """
    n = cells.shape[-1]
    about = [_tiles(torch.stack([s.labels, s.shown.to(s.labels)]), reach) for s in sources]
    near = torch.stack([(tiles[:, 0] > 0).any(dim=1) for tiles in about]).any(dim=0)
    places = near.nonzero()[:, 0]  # elsewhere all labels are 0
    carried = cells.new_zeros(len(near), TILE * TILE)
    if len(places):
        compared = _tiles(cells, 0)[places].transpose(1, 2)
        similarities, labels = [], []
        for source, tiles in zip(sources, about):
            known, shown = tiles[places].unbind(1)
            similar = torch.bmm(compared, _tiles(source.cells, reach)[places])
            similarities.append(similar.masked_fill_((shown < 0.5)[:, None], APART))
            labels.append(known)
        best, which = torch.cat(similarities, dim=2).topk(VOTES, dim=2)
        votes = torch.cat(labels, dim=1)[:, None].expand(-1, TILE * TILE, -1).gather(2, which)
        weights = (best / TEMPERATURE).softmax(dim=2)
        carried[places] = (weights * votes).sum(2) * (best[..., 0] > APART / 2)
    across = -(-n // TILE)
    whole = carried.view(across, across, TILE, TILE).transpose(1, 2).reshape(across * TILE, across * TILE)
    return whole[:n, :n]


def leap(cells: Tensor, source: Source) -> tuple[int, int]:
    """By how many cells, to the right and down, the object of a source has leapt in a picture of `cells`
    [C, n, n]; (0, 0) for one that stays where it was."""
    weights = F.avg_pool2d((source.labels * source.shown)[None, None], COARSE)
    if not bool(weights.any()):
        return 0, 0
    pattern = F.avg_pool2d(source.cells[None], COARSE) * weights / weights.sum()
    most = FARTHEST // COARSE
    alike = F.conv2d(F.avg_pool2d(cells[None], COARSE), pattern, padding=most)[0, 0]
    if float(alike[most, most]) > STAYS * float(alike.max()):
        return 0, 0
    y, x = divmod(int(alike.argmax()), alike.shape[-1])
    return (x - most) * COARSE, (y - most) * COARSE


def _tiles(cells: Tensor, reach: int) -> Tensor:
    """Each tile of [C, n, n] with what lies around it: [tiles, C, (TILE + 2 reach) ** 2]."""
    beyond = -cells.shape[-1] % TILE
    cells = F.pad(cells, (reach, reach + beyond, reach, reach + beyond))
    side = TILE + 2 * reach
    tiles = cells.unfold(1, side, TILE).unfold(2, side, TILE).permute(1, 2, 0, 3, 4)
    return tiles.reshape(-1, cells.shape[0], side * side)
