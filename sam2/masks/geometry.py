"""Measures of masks and boxes, and small repairs of masks."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2.masks.inputs import Mask, as_mask

Box: TypeAlias = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels: columns x0..x1-1 and rows y0..y1-1."""

_EIGHT = np.ones((3, 3), dtype=bool)


def mask_to_box(mask: npt.ArrayLike) -> Box | None:
    """Tightest box (x0, y0, x1, y1) around the mask, x1 and y1 exclusive; None of an empty mask."""
    array = as_mask(mask)
    rows = np.asarray(array.any(axis=1))
    y0 = int(rows.argmax())
    if not rows[y0]:
        return None
    y1 = len(rows) - int(rows[::-1].argmax())
    columns = np.asarray(array[y0:y1].any(axis=0))
    return int(columns.argmax()), y0, len(columns) - int(columns[::-1].argmax()), y1


def mask_to_xywh(mask: npt.ArrayLike) -> Box:
    """Tightest box in COCO's form (x, y, width, height); (0, 0, 0, 0) of an empty mask."""
    box = mask_to_box(mask)
    return box_to_xywh(box) if box else (0, 0, 0, 0)


def box_to_xywh(box: Box) -> Box:
    """(x0, y0, x1, y1) to (x, y, width, height)."""
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0


def box_area(boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Areas ``[N]`` of boxes ``[N, 4]`` (x0, y0, x1, y1); 0 where a side is negative."""
    array = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.clip(array[:, 2:] - array[:, :2], 0, None).prod(axis=1)


def box_iou(boxes_a: npt.ArrayLike, boxes_b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """IoU ``[N, M]`` of each box of ``[N, 4]`` with each of ``[M, 4]``; 0 where neither has an area."""
    a = np.asarray(boxes_a, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(boxes_b, dtype=np.float64).reshape(-1, 4)
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    union = box_area(a)[:, None] + box_area(b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def area(mask: npt.ArrayLike) -> int:
    """Number of pixels of the mask."""
    return int(np.count_nonzero(as_mask(mask)))


def centroid(mask: npt.ArrayLike) -> tuple[float, float] | None:
    """Mean (x, y) of the mask's pixels, in the coordinates of pixel indices; None of an empty mask.

    It may lie outside a concave mask; ``interior_point`` does not.
    """
    array = as_mask(mask)
    columns, rows = array.sum(axis=0), array.sum(axis=1)
    total = rows.sum()
    if not total:
        return None
    return (
        float(columns @ np.arange(len(columns)) / total),
        float(rows @ np.arange(len(rows)) / total),
    )


def interior_point(mask: npt.ArrayLike) -> tuple[int, int] | None:
    """The pixel (x, y) of the mask that is farthest from its border: a good click. None of an empty mask.

    The picture's edge counts as border. Among equals the first in reading order.
    """
    array = as_mask(mask)
    box = mask_to_box(array)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    distance = ndimage.distance_transform_edt(np.pad(array[y0:y1, x0:x1], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return x0 + int(x), y0 + int(y)


def iou(mask_a: npt.ArrayLike, mask_b: npt.ArrayLike) -> float:
    """Intersection over union of two masks of one size; 1 where both are empty, since they agree.

    Raises:
        ValueError: the sizes differ, or one is not a mask.
    """
    a = as_mask(mask_a)
    b = as_mask(mask_b)
    if a.shape != b.shape:
        raise ValueError(f"masks of different sizes have no IoU: {list(a.shape)} and {list(b.shape)}")
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def boundary(mask: npt.ArrayLike) -> Mask:
    """Pixels of the mask with one of their four neighbours outside it (or outside the picture)."""
    array = as_mask(mask)
    padded = np.pad(array, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return array & ~inner


def dilate(mask: npt.ArrayLike, radius: float) -> Mask:
    """Mask grown by ``radius`` pixels: every pixel within that distance of the mask's pixels.

    Raises:
        ValueError: ``radius`` is negative.
    """
    array = as_mask(mask)
    if not radius >= 0:
        raise ValueError(f"the radius must be 0 or more pixels, not {radius}")
    result = np.zeros_like(array)
    box = mask_to_box(array)
    if box is None:
        return result
    margin = int(radius)
    x0, y0, x1, y1 = box
    near = np.s_[max(y0 - margin, 0) : y1 + margin, max(x0 - margin, 0) : x1 + margin]
    result[near] = ndimage.distance_transform_edt(~array[near]) <= radius
    return result


def erode(mask: npt.ArrayLike, radius: float) -> Mask:
    """Mask shrunk by ``radius`` pixels. The picture's edge does not eat into it: outside counts as mask.

    Raises:
        ValueError: ``radius`` is negative.
    """
    return ~dilate(~as_mask(mask), radius)


def remove_small_regions(
    mask: npt.ArrayLike, area_thresh: float, mode: Literal["holes", "islands"]
) -> tuple[Mask, bool]:
    """Fill 8-connected holes, or drop 8-connected islands, of fewer than ``area_thresh`` pixels.

    A hole may touch the picture's edge. Where every island is too small, the largest stays.

    Returns:
        The mask (a new one where it changed) and whether it changed.

    Raises:
        ValueError: ``mode`` is neither "holes" nor "islands".
    """
    array = as_mask(mask)
    if mode not in ("holes", "islands"):
        raise ValueError(f'mode must be "holes" or "islands", not {mode!r}')
    holes = mode == "holes"
    labels, count = ndimage.label(~array if holes else array, structure=_EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    small = areas < area_thresh
    small[0] = False
    if not small.any():
        return array, False
    if not holes and small[1:].all():
        small[1 + int(areas[1:].argmax())] = False
        if not small.any():
            return array, False
    return array ^ small[labels], True


def clean(mask: npt.ArrayLike, min_area: float) -> Mask:
    """Mask without holes and then without islands of fewer than ``min_area`` pixels."""
    filled, _ = remove_small_regions(mask, min_area, "holes")
    return remove_small_regions(filled, min_area, "islands")[0]
