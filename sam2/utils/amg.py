"""Helpers of automatic mask generation under the names of the published `sam2.utils.amg`.

Boxes are x0 y0 x1 y1 in pixels unless a name says otherwise. A crop box is where a crop lies in the
original picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.masks import rle as rle_codec
from sam2.masks.geometry import remove_small_regions
from sam2.ops import run_lengths

__all__ = [
    "MaskData",
    "area_from_rle",
    "batch_iterator",
    "batched_mask_to_box",
    "box_xyxy_to_xywh",
    "build_all_layer_point_grids",
    "build_point_grid",
    "calculate_stability_score",
    "coco_encode_rle",
    "generate_crop_boxes",
    "is_box_near_crop_edge",
    "mask_to_rle_pytorch",
    "remove_small_regions",
    "rle_to_mask",
    "uncrop_boxes_xyxy",
    "uncrop_masks",
    "uncrop_points",
]


class MaskData:
    """Columns of equal length, one row a mask; a column is a list, an array or a tensor."""

    def __init__(self, **kwargs: Any) -> None:
        self._stats: dict[str, Any] = {}
        for key, column in kwargs.items():
            self[key] = column

    def __setitem__(self, key: str, item: Any) -> None:
        if not isinstance(item, list | np.ndarray | Tensor):
            kind = type(item).__name__
            raise ValueError(f"column {key!r} must be a list, an array or a tensor, got {kind}")
        self._stats[key] = item

    def __delitem__(self, key: str) -> None:
        del self._stats[key]

    def __getitem__(self, key: str) -> Any:
        return self._stats[key]

    def items(self) -> Any:
        """(name, column) pairs."""
        return self._stats.items()

    def filter(self, keep: Tensor) -> None:
        """Keep the rows where `keep` (bool [N]) is true, or those that it numbers (int [K]), in its order."""
        rows = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
        for key, column in self._stats.items():
            if isinstance(column, Tensor):
                self._stats[key] = column[rows.to(column.device)]
            elif isinstance(column, np.ndarray):
                self._stats[key] = column[rows.cpu().numpy()]
            else:
                self._stats[key] = [column[i] for i in rows.tolist()]

    def cat(self, new_stats: MaskData) -> None:
        """Append the rows of another; columns that this one lacks are taken over."""
        for key, column in new_stats.items():
            mine = self._stats.get(key)
            if mine is None:
                self._stats[key] = list(column) if isinstance(column, list) else column
            elif isinstance(column, Tensor):
                self._stats[key] = torch.cat([mine, column])
            elif isinstance(column, np.ndarray):
                self._stats[key] = np.concatenate([mine, column])
            else:
                self._stats[key] = mine + column

    def to_numpy(self) -> None:
        """Turn tensors into arrays; bfloat16, which NumPy has not, becomes float32."""
        for key, column in self._stats.items():
            if isinstance(column, Tensor):
                column = column.float() if column.dtype == torch.bfloat16 else column
                self._stats[key] = column.detach().cpu().numpy()


def batch_iterator(batch_size: int, *args: Any) -> Iterator[list[Any]]:
    """Slices of `batch_size` rows of each argument, side by side; the last may be shorter.

    Raises:
        ValueError: where the arguments differ in length, or there is none.
    """
    lengths = {len(arg) for arg in args}
    if len(lengths) != 1:
        raise ValueError(f"the columns must be of one length, got {[len(arg) for arg in args]}")
    for start in range(0, lengths.pop(), batch_size):
        yield [arg[start : start + batch_size] for arg in args]


def is_box_near_crop_edge(
    boxes: Tensor, crop_box: Sequence[int], orig_box: Sequence[int], atol: float = 20.0
) -> Tensor:
    """Which boxes (in the crop's frame) touch an edge of the crop that is no edge of the picture.

    Args:
        boxes: [N, 4], pixels of the crop.
        crop_box, orig_box: crop and whole picture, pixels of the picture.
        atol: what counts as touching, pixels.

    Returns:
        bool [N].
    """
    crop = torch.as_tensor(crop_box, dtype=torch.float, device=boxes.device)
    whole = torch.as_tensor(orig_box, dtype=torch.float, device=boxes.device)
    placed = uncrop_boxes_xyxy(boxes, crop_box).float()
    return (((placed - crop).abs() <= atol) & ((placed - whole).abs() > atol)).any(1)


def box_xyxy_to_xywh(box_xyxy: Any) -> Any:
    """x0 y0 x1 y1 [..., 4] to x y width height, in a copy; arrays, tensors and lists."""
    box = deepcopy(box_xyxy)
    if isinstance(box, list | tuple):
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    box[..., 2:] -= box[..., :2]
    return box


def mask_to_rle_pytorch(tensor: Tensor) -> list[dict[str, Any]]:
    """Uncompressed RLE of each mask of a bool tensor [N, H, W]: column by column, zeros first."""
    if tensor.device.type != "cpu":  # where the runs are found, so that only they are copied
        size = list(tensor.shape[1:])
        return [{"size": list(size), "counts": runs} for runs in run_lengths(tensor)]
    return [dict(code) for code in rle_codec.encode_batch(tensor.detach().cpu().numpy())]


def rle_to_mask(rle: dict[str, Any]) -> np.ndarray:
    """Mask bool [H, W] of an uncompressed (or compressed) RLE."""
    return rle_codec.decode(rle)


def area_from_rle(rle: dict[str, Any]) -> int:
    """Foreground pixels of an uncompressed (or compressed) RLE."""
    return rle_codec.area(rle)


def coco_encode_rle(uncompressed_rle: dict[str, Any]) -> dict[str, Any]:
    """COCO's compressed RLE, `counts` a string, as pycocotools writes it."""
    return dict(rle_codec.compress(uncompressed_rle))


def calculate_stability_score(masks: Tensor, mask_threshold: float, threshold_offset: float) -> Tensor:
    """How little a mask changes with its threshold.

    The pixels above `mask_threshold + threshold_offset` as a share of those above
    `mask_threshold - threshold_offset`; 0 where there are none of either.

    Args:
        masks: logits [..., H, W].

    Returns:
        float32 [...].
    """
    inner = _areas(masks > mask_threshold + threshold_offset)
    outer = _areas(masks > mask_threshold - threshold_offset)
    return inner / outer.clamp(min=1)


def _areas(masks: Tensor) -> Tensor:
    """Foreground pixels, int64 [...], of masks bool [..., H, W]."""
    if masks.device.type != "cpu":
        return masks.sum((-2, -1))
    planes = masks.flatten(end_dim=-3) if masks.ndim > 2 else masks[None]
    # a mask at a time: on the CPU twelve times as fast as a sum over two axes
    areas = [int(plane.count_nonzero()) for plane in planes]
    return torch.tensor(areas, dtype=torch.int64).view(masks.shape[:-2])


def build_point_grid(n_per_side: int) -> np.ndarray:
    """n x n points (x, y), centres of equal cells of the unit square, row by row: float64 [n * n, 2]."""
    if n_per_side < 1:
        raise ValueError(f"a grid needs at least 1 point a side, got {n_per_side}")
    offset = 1 / (2 * n_per_side)
    side = np.linspace(offset, 1 - offset, n_per_side)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[np.ndarray]:
    """A point grid for the whole picture and for each crop layer, a side divided by the scale each time."""
    return [build_point_grid(int(n_per_side / scale_per_layer**layer)) for layer in range(n_layers + 1)]


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """The whole picture, then for each layer i (from 1) a grid of 2^i x 2^i overlapping crops.

    Args:
        im_size: (height, width) of the picture.
        overlap_ratio: overlap of the first layer's crops as a share of the shorter side; it halves with
            each layer.

    Returns:
        crop boxes in pixels, and the layer of each. A picture too small for all crops of a layer has
        fewer: crops without pixels are left out.
    """
    height, width = im_size[:2]
    crop_boxes, layers = [[0, 0, width, height]], [0]

    for layer in range(1, n_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / per_side))
        crop_w = math.ceil((overlap * (per_side - 1) + width) / per_side)
        crop_h = math.ceil((overlap * (per_side - 1) + height) / per_side)
        lefts = [(crop_w - overlap) * i for i in range(per_side)]
        tops = [(crop_h - overlap) * i for i in range(per_side)]
        for left, top in product(lefts, tops):
            if left < width and top < height:
                crop_boxes.append([left, top, min(left + crop_w, width), min(top + crop_h, height)])
                layers.append(layer)
    return crop_boxes, layers


def uncrop_boxes_xyxy(boxes: Tensor, crop_box: Sequence[int]) -> Tensor:
    """Boxes [..., 4] of a crop in the picture's frame."""
    x0, y0 = crop_box[:2]
    return boxes + torch.tensor([x0, y0, x0, y0], device=boxes.device)


def uncrop_points(points: Tensor, crop_box: Sequence[int]) -> Tensor:
    """Points [..., 2] of a crop in the picture's frame."""
    return points + torch.tensor(list(crop_box[:2]), device=points.device)


def uncrop_masks(masks: Tensor, crop_box: Sequence[int], orig_h: int, orig_w: int) -> Tensor:
    """Masks [N, h, w] of a crop as masks [N, H, W] of the picture, 0 outside the crop."""
    x0, y0, x1, y1 = crop_box
    if (x0, y0, x1, y1) == (0, 0, orig_w, orig_h):
        return masks
    return F.pad(masks, (x0, orig_w - x1, y0, orig_h - y1), value=0)


def batched_mask_to_box(masks: Tensor) -> Tensor:
    """Bounding boxes of masks; the last pixel is inclusive, an empty mask gives 0 0 0 0.

    Args:
        masks: bool [..., H, W].

    Returns:
        int64 [..., 4].
    """
    height, width = masks.shape[-2:]
    if masks.numel() == 0:
        return torch.zeros(*masks.shape[:-2], 4, dtype=torch.int64, device=masks.device)
    # the largest byte, where `any` would do: many times as fast on the CPU
    columns, rows = masks.view(torch.uint8).amax(-2), masks.view(torch.uint8).amax(-1)
    first_last = [
        columns.argmax(-1),
        rows.argmax(-1),
        width - 1 - columns.flip(-1).argmax(-1),
        height - 1 - rows.flip(-1).argmax(-1),
    ]
    return torch.stack(first_last, dim=-1) * columns.amax(-1, keepdim=True)
