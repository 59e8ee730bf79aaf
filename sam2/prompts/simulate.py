"""A simulated user: clicks from error regions and boxes with noise, for training and for evaluation.

Shapes: B objects, H and W of the masks, P points. Coordinates are pixels of the masks, x then y, at pixel
centres' integer positions. Labels: 1 on the object, 0 off it, 2 and 3 the corners of a box.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

METHODS = ("uniform", "center")


def _pick(region: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Flat indices [B, count] of pixels drawn uniformly, with replacement, from bool regions [B, H * W]."""
    cumulative = region.to(torch.float32).cumsum(dim=1)
    total = cumulative[:, -1:]
    draw = torch.rand(region.shape[0], count, generator=generator, device=region.device)
    # the k-th pixel of the region is where the running count first exceeds k
    rank = (draw * total).floor().clamp(max=total - 1).clamp(min=0)
    return torch.searchsorted(cumulative, rank + 0.5)


def _points_at(index: Tensor, width: int) -> Tensor:
    return torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1).float()


def _check_masks(gt_masks: Tensor, pred_masks: Tensor | None) -> Tensor:
    if gt_masks.dtype != torch.bool or gt_masks.ndim != 4 or gt_masks.shape[1] != 1:
        raise ValueError(f"gt_masks must be bool [B, 1, H, W], not {gt_masks.dtype} {tuple(gt_masks.shape)}")
    if pred_masks is None:
        return torch.zeros_like(gt_masks)
    if pred_masks.dtype != torch.bool or pred_masks.shape != gt_masks.shape:
        raise ValueError(
            f"pred_masks must be bool {tuple(gt_masks.shape)},"
            f" not {pred_masks.dtype} {tuple(pred_masks.shape)}"
        )
    return pred_masks


def sample_random_points_from_errors(
    gt_masks: Tensor, pred_masks: Tensor | None, num_pt: int = 1, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draws points uniformly from where prediction and truth differ.

    gt_masks, pred_masks: bool [B, 1, H, W]; None predicts nothing. Where they agree everywhere the points
    come from the background, as negative clicks (from anywhere if there is none).
    Returns points float [B, num_pt, 2] and labels int32 [B, num_pt].
    """
    pred_masks = _check_masks(gt_masks, pred_masks)
    truth = gt_masks.flatten(1)
    region = truth ^ pred_masks.flatten(1)
    region = torch.where(region.any(dim=1, keepdim=True), region, ~truth)
    region = torch.where(region.any(dim=1, keepdim=True), region, torch.ones_like(region))
    index = _pick(region, num_pt, generator)
    return _points_at(index, gt_masks.shape[-1]), truth.gather(1, index).to(torch.int32)


def sample_points_from_mask(
    gt_masks: Tensor, num_pt: int = 1, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draws positive points uniformly from masks; a negative one where a mask is empty.

    gt_masks: bool [B, 1, H, W]. Returns points float [B, num_pt, 2] and labels int32 [B, num_pt].
    """
    return sample_random_points_from_errors(gt_masks, None, num_pt, generator)


def _depth(region: NDArray[np.bool_], padding: bool) -> NDArray[np.float64]:
    """Distance of every pixel of a region to the nearest pixel outside it, 0 outside."""
    if padding:
        inner: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        return inner
    if region.all():
        return np.full(region.shape, math.hypot(*region.shape))
    whole: NDArray[np.float64] = ndimage.distance_transform_edt(region)
    return whole


def _error_center(truth: NDArray[np.bool_], pred: NDArray[np.bool_], padding: bool) -> tuple[int, int, int]:
    missed, surplus = truth & ~pred, pred & ~truth
    if not missed.any() and not surplus.any():
        missed, surplus = (truth, surplus) if truth.any() else (truth, ~truth)
    inside, outside = _depth(missed, padding), _depth(surplus, padding)
    label = int(inside.max() >= outside.max())
    depth = inside if label else outside
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y), label


def sample_one_point_from_error_center(
    gt_masks: Tensor, pred_masks: Tensor | None, padding: bool = True
) -> tuple[Tensor, Tensor]:
    """The pixel deepest inside the largest error (by distance to its edge): the rule of click benchmarks.

    gt_masks, pred_masks: bool [B, 1, H, W]; None predicts nothing. padding: the picture's border counts as an
    edge. Missed and surplus regions compete; of two equally deep ones the missed one wins. Where there is
    no error the point is the middle of the object, or of the background where there is no object.
    Returns points float [B, 1, 2] and labels int32 [B, 1].
    """
    pred_masks = _check_masks(gt_masks, pred_masks)
    truth, pred = gt_masks[:, 0].cpu().numpy(), pred_masks[:, 0].cpu().numpy()
    found = [_error_center(t, p, padding) for t, p in zip(truth, pred)]
    device = gt_masks.device
    points = torch.tensor([[(x, y)] for x, y, _ in found], dtype=torch.float32, device=device).reshape(
        -1, 1, 2
    )
    labels = torch.tensor([[label] for _, _, label in found], dtype=torch.int32, device=device).reshape(-1, 1)
    return points, labels


def get_next_point(
    gt_masks: Tensor, pred_masks: Tensor | None, method: str, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The next correction click: `uniform` from the error, or at its `center`.

    gt_masks, pred_masks: bool [B, 1, H, W]. Returns points float [B, 1, 2] and labels int32 [B, 1].
    """
    if method == "uniform":
        return sample_random_points_from_errors(gt_masks, pred_masks, 1, generator)
    if method == "center":
        return sample_one_point_from_error_center(gt_masks, pred_masks)
    raise ValueError(f"unknown click method {method!r}; give one of {', '.join(METHODS)}")


def mask_boxes(masks: Tensor) -> Tensor:
    """Bounding boxes of masks: bool [B, 1, H, W] -> float [B, 4], x0, y0, x1, y1, inclusive pixels.

    An empty mask gives the whole picture.
    """
    height, width = masks.shape[-2:]
    xs = torch.arange(width, device=masks.device, dtype=torch.float32)
    ys = torch.arange(height, device=masks.device, dtype=torch.float32)
    columns, rows = masks[:, 0].any(dim=1), masks[:, 0].any(dim=2)
    box = torch.stack(
        [
            torch.where(columns, xs, width).amin(dim=1),
            torch.where(rows, ys, height).amin(dim=1),
            torch.where(columns, xs, -1).amax(dim=1),
            torch.where(rows, ys, -1).amax(dim=1),
        ],
        dim=1,
    )
    whole = box.new_tensor([0.0, 0.0, width - 1.0, height - 1.0])
    return torch.where(columns.any(dim=1, keepdim=True), box, whole)


def sample_box_points(
    masks: Tensor,
    noise: float = 0.1,
    noise_bound: float = 20,
    top_left_label: int = 2,
    bottom_right_label: int = 3,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Boxes around masks as two labelled corner points, each coordinate moved by uniform noise.

    masks: bool [B, 1, H, W]. noise: as a share of the box's width or height; noise_bound: at most so many
    pixels. Returns points float [B, 2, 2], inside the picture, and labels int32 [B, 2].
    """
    height, width = masks.shape[-2:]
    box = mask_boxes(masks)
    if noise > 0:
        size = (box[:, 2:] - box[:, :2] + 1).repeat(1, 2)
        reach = (size * noise).clamp(max=noise_bound)
        draw = torch.rand(box.shape, generator=generator, device=box.device) * 2 - 1
        limit = box.new_tensor([width - 1.0, height - 1.0]).repeat(2)
        box = torch.minimum((box + draw * reach).clamp(min=0), limit)
    labels = torch.tensor([top_left_label, bottom_right_label], dtype=torch.int32, device=masks.device)
    return box.reshape(-1, 2, 2), labels.expand(len(box), 2).clone()
