"""What a user points with: points, boxes and masks in pixels of the original picture, x then y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _finite(values: ArrayLike, what: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be numbers, not {values!r}") from error
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what} must be finite numbers, not {array.tolist()}")
    return array


@dataclass(frozen=True, eq=False)
class Points:
    """Clicks on one object: coordinates [P, 2] in pixels, labels [P], 1 on the object and 0 off it."""

    coords: NDArray[np.float32]
    labels: NDArray[np.int32]

    def __init__(self, coords: ArrayLike, labels: ArrayLike | None = None) -> None:
        """labels: 1 for every point where it is None. Raises ValueError for other shapes or labels."""
        xy = _finite(coords, "point coordinates")
        xy = xy[None] if xy.ndim == 1 else xy
        if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
            raise ValueError(f"points must be an array [P, 2] of x, y with P of 1 or more, not {xy.shape}")
        which = np.atleast_1d(np.ones(len(xy), np.int32) if labels is None else np.asarray(labels))
        if which.shape != (len(xy),):
            raise ValueError(f"{len(xy)} points need {len(xy)} labels, not an array {which.shape}")
        if not np.isin(which, (0, 1)).all():
            raise ValueError(f"labels must be 1 (on the object) or 0 (off it), not {which.tolist()}")
        object.__setattr__(self, "coords", xy)
        object.__setattr__(self, "labels", which.astype(np.int32))

    def check_inside(self, height: int, width: int) -> None:
        """Raises ValueError naming the first point that lies outside a picture of this size."""
        x, y = self.coords[:, 0], self.coords[:, 1]
        outside = (x < 0) | (y < 0) | (x > width) | (y > height)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise ValueError(
                f"point ({x[i]:g}, {y[i]:g}) lies outside the picture of {width}x{height} pixels"
            )


@dataclass(frozen=True)
class Box:
    """A box around one object: corners in pixels, x1 > x0 and y1 > y0."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        corners = _finite([self.x0, self.y0, self.x1, self.y1], "box corners")
        if corners[2] <= corners[0] or corners[3] <= corners[1]:
            raise ValueError(f"box {corners.tolist()} is empty: give x0, y0, x1, y1 with x1 > x0 and y1 > y0")

    @classmethod
    def of(cls, values: ArrayLike) -> Box:
        """From four numbers x0, y0, x1, y1."""
        array = _finite(values, "box corners")
        if array.shape != (4,):
            raise ValueError(f"a box is four numbers x0, y0, x1, y1, not an array {array.shape}")
        return cls(*(float(v) for v in array))

    @property
    def array(self) -> NDArray[np.float32]:
        """x0, y0, x1, y1 as float32 [4]."""
        return np.array([self.x0, self.y0, self.x1, self.y1], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Mask:
    """The object's pixels: bool [H, W] at the picture's size."""

    pixels: NDArray[np.bool_]

    def __init__(self, pixels: ArrayLike) -> None:
        """Takes bool, or numbers of 0 and 1 (0 and 255); raises ValueError for anything else."""
        array: NDArray[Any] = np.asarray(pixels)
        if array.ndim != 2:
            raise ValueError(f"a mask must be an array [H, W], not {array.shape}")
        if array.dtype != np.bool_:
            values = np.unique(array).tolist()
            if len(values) > 2 or not set(values) <= {0, 1, 255}:
                raise ValueError(f"a mask must be bool, or hold 0 and 1 (or 255), not {values[:5]}")
            array = array != 0
        object.__setattr__(self, "pixels", array)

    def check_size(self, height: int, width: int) -> None:
        """Raises ValueError where the mask is not of the picture's size."""
        if self.pixels.shape != (height, width):
            h, w = self.pixels.shape
            raise ValueError(
                f"the mask is {w}x{h} but the picture is {width}x{height}: give a mask of its size"
            )


Prompt = Points | Box | Mask
