"""Masks drawn over a picture: translucent fill, smooth outline, and with them clicks, boxes and labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sam2.masks import marks
from sam2.masks.colors import Color, object_color
from sam2.masks.geometry import interior_point, mask_to_box
from sam2.masks.inputs import Mask, MaskSet, as_masks, as_picture

Picture = npt.NDArray[np.uint8]


def line_width(size: tuple[int, int]) -> int:
    """Outline thickness that suits a picture of (height, width): 1 pixel at 256, 2 at 480, 4 at 1080."""
    return max(1, round(min(size) / 300))


def overlay(
    image: npt.ArrayLike,
    masks: MaskSet,
    *,
    opacity: float = 0.45,
    thickness: int | None = None,
    colors: Mapping[int, Color] | None = None,
    points: npt.ArrayLike | None = None,
    point_labels: npt.ArrayLike | None = None,
    boxes: npt.ArrayLike | None = None,
    labels: Mapping[int, str] | bool = False,
) -> Picture:
    """The picture with masks, prompts and labels over it; ``image`` itself is not changed.

    Args:
        image: RGB ``uint8 [H, W, 3]`` (or grey ``[H, W]``).
        masks: objects by id, or ``[N, H, W]``; later ones lie on top. May be empty.
        opacity: of the fill, 0 (none) to 1.
        thickness: of the outlines in pixels, 0 for none; by default ``line_width`` of the picture.
        colors: RGB by object id; ``colors.object_color`` where none is given.
        points: clicks ``[N, 2]`` in pixels (x, y).
        point_labels: ``[N]``, 1 positive (green, a plus) and 0 negative (red, a minus); all 1 by default.
        boxes: ``[M, 4]`` in pixels (x0, y0, x1, y1), or one box ``[4]``.
        labels: text by object id, or True for the ids themselves; drawn inside each mask.

    Raises:
        ValueError: a picture or mask is malformed, sizes differ, or an option is out of range.
    """
    source = as_picture(image)
    size = source.shape[:2]
    objects = as_masks(masks, size)
    if not 0 <= opacity <= 1:
        raise ValueError(f"the opacity must lie between 0 and 1, not {opacity}")
    if thickness is None:
        thickness = line_width(size)
    elif thickness < 0:
        raise ValueError(f"the thickness must be 0 or more pixels, not {thickness}")
    picture = source.copy()
    chosen = {key: (colors or {}).get(key) or object_color(key) for key in objects}
    for object_id, mask in objects.items():
        _draw_mask(picture, mask, chosen[object_id], opacity, thickness)
    if boxes is not None:
        marks.draw_boxes(picture, boxes)
    if points is not None:
        marks.draw_points(picture, points, point_labels)
    if labels:
        names = {key: str(key) for key in objects} if labels is True else labels
        for object_id, name in names.items():
            if object_id in objects and (anchor := _label_anchor(objects[object_id])) is not None:
                marks.draw_label(picture, name, anchor, chosen[object_id])
    return picture


def _label_anchor(mask: Mask) -> tuple[int, int] | None:
    """A point (x, y) well inside the mask, found on a coarse grid where the mask is large."""
    box = mask_to_box(mask)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    step = max(1, max(x1 - x0, y1 - y0) // 128)
    point = interior_point(mask[y0:y1:step, x0:x1:step])
    return (x0 + step * point[0], y0 + step * point[1]) if point else interior_point(mask)


def _draw_mask(picture: Picture, mask: Mask, color: Color, opacity: float, thickness: int) -> None:
    """Draw one mask in place. Only its box and a margin are touched."""
    box = mask_to_box(mask)
    if box is None:
        return
    margin = thickness + 2
    x0, y0, x1, y1 = box
    near = (
        max(x0 - margin, 0),
        max(y0 - margin, 0),
        min(x1 + margin, mask.shape[1]),
        min(y1 + margin, mask.shape[0]),
    )
    region = np.s_[near[1] : near[3], near[0] : near[2]]
    inside = mask[region]
    alpha = inside * np.uint8(round(opacity * 255))
    if thickness:
        alpha = np.maximum(alpha, _outline_alpha(inside, thickness))
    _blend(picture[region], color, alpha)


def _blend(region: Picture, color: Color, alpha: npt.NDArray[np.uint8]) -> None:
    """Mix ``color`` into ``region [h, w, 3]`` in place, ``alpha [h, w]`` of 255 parts."""
    weight = alpha.astype(np.uint16)
    keep = 255 - weight
    for channel in range(3):
        mixed = region[..., channel] * keep
        mixed += weight * np.uint16(color[channel])
        mixed += 128
        mixed += mixed >> 8  # with the shift below: division by 255, rounded
        mixed >>= 8
        region[..., channel] = mixed


def _outline_alpha(inside: Mask, thickness: int) -> npt.NDArray[np.uint8]:
    """Opacity ``uint8 [h, w]`` of a line along the mask's edge, its steps softened over a pixel.

    The line is what growing the mask adds and shrinking it takes away, so that parts thinner than the line
    show as well; a mask that meets the picture's edge is outlined there too.
    """
    grow = thickness // 2
    band = _grown(inside, grow) & ~_shrunk(inside, thickness - grow)
    return _smoothed(band)


def _grown(mask: Mask, steps: int) -> Mask:
    """Dilation by an octagon: a cross and a square in turn."""
    for step in range(steps):
        mask = _spread(mask, square=step % 2 == 1)
    return mask


def _shrunk(mask: Mask, steps: int) -> Mask:
    """Erosion by the same octagon; outside the array counts as background."""
    outside = np.pad(~mask, steps, constant_values=True)
    grown = _grown(outside, steps)
    return ~grown[steps:-steps, steps:-steps] if steps else ~grown


def _spread(mask: Mask, square: bool) -> Mask:
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    source = wide if square else mask
    tall = wide.copy()
    tall[1:] |= source[:-1]
    tall[:-1] |= source[1:]
    return tall


def _smoothed(band: Mask) -> npt.NDArray[np.uint8]:
    """A band of pixels with soft sides: the mean over 3x3 pixels (weights 1 2 1), raised and cut at 255."""
    padded = np.pad(band, 1).view(np.uint8)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    total = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return _SOFT[total]


_SOFT = np.clip(np.round((np.arange(17) - 2) * 255 / 6), 0, 255).astype(np.uint8)
