"""8-connected components of masks, and what is done with small ones.

`connected_components` is the one call. On the CPU SciPy does the work; on any other device a label
propagation written in plain tensor operations does, and the two give equal tensors.

Shapes: N masks, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def connected_components(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Label the 8-connected components of each mask.

    Args:
        mask: [N, 1, H, W], bool or a number (other than 0 is foreground).

    Returns:
        labels: int32 [N, 1, H, W]; 0 in the background, 1..K in each mask, numbered in the raster
            order of each component's first pixel.
        areas: int32 [N, 1, H, W]; at every foreground pixel its component's size in pixels, else 0.

    Raises:
        ValueError: where `mask` is not [N, 1, H, W].
    """
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(f"a mask must be [N, 1, H, W], got {list(mask.shape)}; add the missing axes")
    if mask.device.type == "cpu":
        return components_scipy(mask)
    return components_torch(mask)


def components_scipy(mask: Tensor) -> tuple[Tensor, Tensor]:
    """`connected_components` through SciPy, one mask at a time."""
    foreground_NHW = mask[:, 0].detach().cpu().numpy() != 0
    labels_NHW = np.zeros(foreground_NHW.shape, dtype=np.int32)
    areas_NHW = np.zeros(foreground_NHW.shape, dtype=np.int32)
    for foreground, labels, areas in zip(foreground_NHW, labels_NHW, areas_NHW):
        ndimage.label(foreground, EIGHT_NEIGHBOURS, output=labels)
        size_of = np.bincount(labels.ravel()).astype(np.int32)
        if size_of.size:
            size_of[0] = 0
            np.take(size_of, labels, out=areas)
    labels_out = torch.from_numpy(labels_NHW)[:, None]
    return labels_out.to(mask.device), torch.from_numpy(areas_NHW)[:, None].to(mask.device)


def components_torch(mask: Tensor) -> tuple[Tensor, Tensor]:
    """`connected_components` in plain tensor operations, on the mask's own device.

    Every pixel points at a root of smaller or equal raster index. A round lets each root point at the
    smallest root that touches its tree, then shortens all paths; trees merge at least in pairs, so
    rounds grow with the logarithm of the component count, however winding a component is.
    """
    n, _, h, w = mask.shape
    size = n * h * w
    nowhere = size  # the background's parent, larger than every pixel index
    foreground = (mask[:, 0] != 0).reshape(-1)
    index = torch.arange(size + 1, device=mask.device)
    parent = index.clone()
    parent[:size].masked_fill_(~foreground, nowhere)
    while True:
        lowest = _window_minimum(parent[:size].view(n, h, w), nowhere).reshape(-1)
        lowest = torch.where(foreground, lowest, nowhere)
        if torch.equal(lowest, parent[:size]):
            break
        parent.scatter_reduce_(0, parent[:size].clone(), lowest, "amin")
        while True:
            grandparent = parent[parent]
            if torch.equal(grandparent, parent):
                break
            parent = grandparent

    is_root = foreground & (parent[:size] == index[:size])
    rank = is_root.view(n, h * w).cumsum(1, dtype=torch.int32).reshape(-1)
    area_of_root = torch.zeros(size + 1, dtype=torch.int32, device=mask.device)
    area_of_root.scatter_add_(0, parent[:size], torch.ones_like(rank))
    area_of_root[nowhere] = 0
    rank = F.pad(rank, (0, 1))
    return rank[parent[:size]].view(n, 1, h, w), area_of_root[parent[:size]].view(n, 1, h, w)


MOST_ROUNDS = 64
"""Areas up to this are judged by `small_components` on a device: its rounds grow with the area."""


def small_components(mask: Tensor, max_area: int) -> Tensor:
    """The pixels of components of at most `max_area` pixels, bool [N, 1, H, W] like `mask`.

    In plain tensor operations whose number is fixed, so that nothing waits for the device. After
    `max_area - 1` rounds in which every pixel takes the smallest index in its window, a small component has
    one index. Others may have parts of that size with an index of their own, but those touch another one.
    """
    n, _, h, w = mask.shape
    nowhere = n * h * w
    foreground = mask[:, 0] != 0
    index = torch.arange(nowhere, device=mask.device, dtype=torch.int32).view(n, h, w)
    label = torch.where(foreground, index, nowhere)
    for _ in range(max_area - 1):
        label = torch.where(foreground, _window_minimum(label, nowhere), nowhere)
    lowest = _window_minimum(label, nowhere)
    highest = -_window_minimum(torch.where(foreground, -label, 1), 1)
    touches = foreground & ((lowest != label) | (highest != label))
    # an area beyond the limit stands for touching another index
    count = torch.where(touches, max_area + 1, 1).flatten()
    flat = label.flatten().long()
    area = torch.zeros(nowhere + 1, dtype=count.dtype, device=mask.device).scatter_add_(0, flat, count)
    return ((area[flat].view(n, h, w) <= max_area) & foreground)[:, None]


def _window_minimum(values_NHW: Tensor, outside: int) -> Tensor:
    """The smallest of each pixel's 3x3 window, `outside` beyond the border."""
    padded = F.pad(values_NHW, (1, 1, 1, 1), value=outside)
    rows = torch.minimum(torch.minimum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return torch.minimum(torch.minimum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def fill_small_regions(
    logits: Tensor, threshold: float, max_hole_area: float, max_island_area: float, margin: float
) -> Tensor:
    """Fill small holes and drop small islands of masks given as logits.

    Both are judged on the masks as they come: a pixel in a background component of at most
    `max_hole_area` pixels becomes `threshold + margin`, one in a foreground component of at most
    `max_island_area` becomes `threshold - margin`. An area of 0 leaves that kind alone.

    Args:
        logits: float [..., H, W]; foreground is above `threshold`.

    Returns:
        logits of the same shape; the input itself where nothing is asked for.
    """
    result = logits
    planes = logits.reshape(-1, 1, *logits.shape[-2:])
    if max_hole_area > 0:
        hole = _of_area(planes <= threshold, max_hole_area).view(logits.shape)
        result = result.masked_fill(hole, threshold + margin)
    if max_island_area > 0:
        island = _of_area(planes > threshold, max_island_area).view(logits.shape)
        result = result.masked_fill(island, threshold - margin)
    return result


def _of_area(mask: Tensor, max_area: float) -> Tensor:
    """The pixels of components of at most `max_area` pixels."""
    if mask.device.type != "cpu" and 1 <= max_area <= MOST_ROUNDS:
        return small_components(mask, int(max_area))
    _, areas = connected_components(mask)
    return (areas > 0) & (areas <= max_area)
