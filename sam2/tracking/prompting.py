"""What a person gives for an object, checked and brought to the model's frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ObjectPrompt:
    """Points, a box, both, or a mask of one object on one frame.

    Invariant: a mask stands alone. Values are checked where they are used, against the frame's size.
    """

    obj_id: int
    points: Any = None
    """[P, 2], x and y in pixels."""
    labels: Any = None
    """[P], 1 on the object and 0 off it."""
    box: Any = None
    """x0, y0, x1, y1 in pixels."""
    mask: Any = None
    """[H, W], bool or 0 and 1."""
    clear_old_points: bool = True
    """Forget earlier points on the frame; a box requires it."""

    def __post_init__(self) -> None:
        given = [name for name in ("points", "box") if getattr(self, name) is not None]
        if self.mask is not None and given:
            raise ValueError(f"object {self.obj_id}: a mask stands alone: leave out {' and '.join(given)}")
        if self.mask is None and not given:
            raise ValueError("there is no prompt: give points with labels, a box or a mask")


def _numbers(values: Any, what: str) -> NDArray[np.float32]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be numbers in an even array, not {values!r}") from error


def checked_points(
    points: Any,
    labels: Any,
    box: Any,
    clear_old_points: bool,
    size: tuple[int, int],
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """Coordinates [P, 2] in pixels of the model's input, and labels [P]; box corners first, as 2 and 3.

    Args:
        size: width and height in the unit of the coordinates: pixels of the frame, or (1, 1) for shares.
        image_size: S, side of the model's input.

    Raises:
        ValueError: shapes that do not fit, coordinates outside the frame, an empty box, no prompt.
    """
    if points is None and box is None:
        raise ValueError("there is no prompt: give points with labels, or a box")
    if (points is None) != (labels is None):
        raise ValueError("points and labels belong together: give both or neither")
    if box is not None and not clear_old_points:
        raise ValueError("a box replaces the points on its frame: pass clear_old_points=True with it")
    coords = torch.zeros(0, 2)
    kinds = torch.zeros(0, dtype=torch.int32)
    if points is not None:
        xy, which = _numbers(points, "points"), _numbers(labels, "labels").reshape(-1)
        if xy.ndim not in (1, 2, 3) or xy.shape[-1] != 2 or xy.size != 2 * which.size or not which.size:
            raise ValueError(
                f"points {xy.shape} and labels {np.shape(labels)} do not fit: give [P, 2] and [P]"
            )
        if not np.isin(which, (0, 1, 2, 3)).all():
            raise ValueError(f"labels are {which.tolist()}: 1 is on the object, 0 off it")
        coords = torch.from_numpy(xy.reshape(-1, 2).copy())
        kinds = torch.from_numpy(which.astype(np.int32))
    if box is not None:
        corners = torch.from_numpy(_numbers(box, "the box").reshape(-1).copy())
        if corners.shape != (4,):
            raise ValueError(f"the box has shape {np.shape(box)}: give x0, y0, x1, y1")
        if bool((corners[2:] <= corners[:2]).any()):
            raise ValueError(f"the box {corners.tolist()} is empty: x1 and y1 must be greater than x0 and y0")
        coords = torch.cat((corners.reshape(2, 2), coords))
        kinds = torch.cat((torch.tensor([2, 3], dtype=torch.int32), kinds))
    if not bool(coords.isfinite().all()):
        raise ValueError(f"coordinates must be finite, but are {coords.tolist()}")
    limit = torch.tensor(size)
    outside = ((coords < 0) | (coords > limit)).any(dim=-1) & (kinds < 2)
    if bool(outside.any()):
        x, y = coords[outside][0].tolist()
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside the video, which is {size[0]} x {size[1]}")
    return coords / limit * image_size, kinds


def checked_mask(mask: Any, height: int, width: int, image_size: int, device: torch.device) -> Tensor:
    """A mask [H, W] of a frame as the model takes it: float [1, 1, S, S], 0 or 1.

    Raises:
        ValueError: another size, or values other than 0 and 1.
    """
    given = torch.as_tensor(mask)
    if given.shape != (height, width):
        raise ValueError(
            f"the mask is {tuple(given.shape)}, but the video is {(height, width)} (height, width)"
        )
    if given.dtype != torch.bool:
        if not bool(((given == 0) | (given == 1)).all()):
            raise ValueError("a mask holds True and False, or 1 and 0: pass `mask > 0`, say")
        given = given.bool()
    side = (image_size, image_size)
    resized = given[None, None].to(device, torch.float32)
    if (height, width) != side:
        resized = F.interpolate(resized, size=side, mode="bilinear", align_corners=False, antialias=True)
        resized = (resized >= 0.5).float()
    return resized
