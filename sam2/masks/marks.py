"""Clicks, boxes and labels drawn into a picture in place, sized to suit it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sam2.masks.colors import Color
from sam2.masks.text import builtin_font

Picture = npt.NDArray[np.uint8]

_POSITIVE: Color = (28, 176, 74)
_NEGATIVE: Color = (226, 45, 45)
_WHITE: Color = (255, 255, 255)
_DARK: Color = (24, 24, 27)


def draw_points(
    picture: Picture, points: npt.ArrayLike, labels: npt.ArrayLike | None = None, radius: float | None = None
) -> None:
    """Draw clicks: a green disc with a plus for label 1, a red one with a minus for 0, both with a white rim.

    Args:
        picture: ``uint8 [H, W, 3]``, changed in place.
        points: ``[N, 2]`` in pixels (x, y).
        labels: ``[N]``; all 1 by default. Labels below 0 are padding and are skipped.
        radius: of the disc in pixels; by default a 75th of the picture's shorter side, at least 4.

    Raises:
        ValueError: the shapes do not fit together.
    """
    xy = np.asarray(points, dtype=np.float64)
    xy = xy.reshape(1, 2) if xy.shape == (2,) else xy
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"points must have shape [N, 2], not {list(xy.shape)}")
    kinds = np.ones(len(xy), dtype=int) if labels is None else np.asarray(labels).reshape(-1)
    if len(kinds) != len(xy):
        raise ValueError(f"there are {len(xy)} points but {len(kinds)} labels")
    if radius is None:
        radius = max(4.0, min(picture.shape[:2]) / 75)
    for (x, y), kind in zip(xy, kinds):
        if kind >= 0 and np.isfinite((x, y)).all():
            _draw_click(picture, x, y, radius, positive=kind > 0)


def _draw_click(picture: Picture, x: float, y: float, radius: float, positive: bool) -> None:
    rim = max(1.0, radius * 0.22)
    reach = radius + rim + 2
    height, width = picture.shape[:2]
    x0, x1 = max(int(x - reach), 0), min(int(x + reach) + 1, width)
    y0, y1 = max(int(y - reach), 0), min(int(y + reach) + 1, height)
    if x0 >= x1 or y0 >= y1:
        return
    dy = np.arange(y0, y1)[:, None] - y
    dx = np.arange(x0, x1)[None] - x
    distance = np.hypot(dx, dy)
    patch = picture[y0:y1, x0:x1]
    _paint(patch, _DARK, 0.35 * np.clip((reach - distance) / 2, 0, 1))  # a soft shadow on bright pictures
    _paint(patch, _WHITE, np.clip(radius + rim + 0.5 - distance, 0, 1))
    _paint(patch, _POSITIVE if positive else _NEGATIVE, np.clip(radius + 0.5 - distance, 0, 1))
    arm, half = radius * 0.58, radius * 0.15
    sign = np.minimum(_edge(arm, dx), _edge(half, dy))
    if positive:
        sign = np.maximum(sign, np.minimum(_edge(half, dx), _edge(arm, dy)))
    _paint(patch, _WHITE, sign)


def _edge(half_length: float, offset: npt.NDArray) -> npt.NDArray:
    """How much of each pixel lies within ``half_length`` of 0 along one axis, 0 to 1."""
    return np.clip(half_length + 0.5 - np.abs(offset), 0, 1)


def draw_boxes(
    picture: Picture, boxes: npt.ArrayLike, color: Color = (255, 255, 255), thickness: int | None = None
) -> None:
    """Draw boxes ``[M, 4]`` (x0, y0, x1, y1 in pixels, or one box ``[4]``) in place, with a dark rim.

    Args:
        picture: ``uint8 [H, W, 3]``, changed in place. Boxes may reach beyond it.
        boxes: in pixels.
        color: of the line.
        thickness: of the line in pixels; by default a 400th of the picture's shorter side, at least 1.

    Raises:
        ValueError: the shape is another one.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size % 4 or (array.size and array.shape[-1] != 4):
        raise ValueError(f"boxes must have shape [M, 4], not {list(array.shape)}")
    width = max(1, round(min(picture.shape[:2]) / 400)) if thickness is None else thickness
    rim = max(1, width // 2)
    for x0, y0, x1, y1 in array.reshape(-1, 4).round().astype(int):
        _frame(picture, (x0 - rim, y0 - rim, x1 + rim, y1 + rim), width + 2 * rim, _DARK, 0.6)
        _frame(picture, (x0, y0, x1, y1), width, color, 1.0)


def _frame(picture: Picture, box: tuple[int, int, int, int], width: int, color: Color, alpha: float) -> None:
    x0, y0, x1, y1 = box
    inner_top, inner_bottom = y0 + width, max(y1 - width, y0 + width)
    for left, top, right, bottom in (
        (x0, y0, x1, inner_top),
        (x0, inner_bottom, x1, y1),
        (x0, inner_top, x0 + width, inner_bottom),
        (max(x1 - width, x0 + width), inner_top, x1, inner_bottom),
    ):
        patch = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        _paint(patch, color, np.full(patch.shape[:2], alpha))


def draw_label(
    picture: Picture, text: str, center: tuple[float, float], color: Color, text_height: int | None = None
) -> None:
    """Write ``text`` on a rounded plate of ``color`` in place, around ``center`` (x, y), inside the picture.

    ``text_height`` is in pixels; by default a 36th of the picture's shorter side, at least 11. In a picture
    smaller than the plate the text is cut off.
    """
    height, width = picture.shape[:2]
    plate = _plate(text, color, text_height or max(11, round(min(height, width) / 36)))
    plate = plate[:height, :width]
    x = min(max(round(center[0] - plate.shape[1] / 2), 0), width - plate.shape[1])
    y = min(max(round(center[1] - plate.shape[0] / 2), 0), height - plate.shape[0])
    patch = picture[y : y + plate.shape[0], x : x + plate.shape[1]]
    alpha = plate[..., 3:].astype(np.float32) / 255
    patch[:] = np.round(patch * (1 - alpha) + plate[..., :3] * alpha)


@lru_cache(maxsize=256)
def _plate(text: str, color: Color, text_height: int) -> Picture:
    """``text`` on its plate, ``uint8 [h, w, 4]``, black or white, whichever stands out from ``color``."""
    font = builtin_font(text_height)
    left, _, right, _ = font.getbbox(text)
    pad = max(2, round(text_height * 0.3))
    ascent, descent = font.getmetrics()
    size = (int(right - left) + 2 * pad, ascent + descent + pad)
    scale = 4  # Pillow draws rounded corners hard; drawn larger and reduced they are smooth
    shape = Image.new("L", (size[0] * scale, size[1] * scale), 0)
    box = (0, 0, shape.width - 1, shape.height - 1)
    ImageDraw.Draw(shape).rounded_rectangle(box, radius=pad * scale, fill=225)
    plate = Image.new("RGB", size, color)
    luma = (299 * color[0] + 587 * color[1] + 114 * color[2]) / 1000
    ink = _DARK if luma > 140 else _WHITE
    ImageDraw.Draw(plate).text((pad - left, pad / 2), text, fill=ink, font=font)
    plate.putalpha(shape.resize(size, Image.Resampling.BOX))
    return np.asarray(plate)


def _paint(patch: Picture, color: Color, alpha: npt.NDArray) -> None:
    """Mix ``color`` into ``patch [h, w, 3]`` in place, ``alpha [h, w]`` from 0 to 1."""
    weight = alpha[..., None]
    patch[:] = np.round(patch * (1 - weight) + np.array(color) * weight)
