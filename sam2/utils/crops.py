"""Parts of pictures on their way through automatic mask generation, and tables of their masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam2.ops import batched_nms
from sam2.utils.amg import MaskData, generate_crop_boxes


@dataclass(frozen=True)
class Crop:
    """A part of one of the pictures, or the whole of it."""

    picture_idx: int
    """Which picture."""
    pixels: np.ndarray
    """uint8 [h, w, 3]."""
    box: list[int]
    """Where it lies: x0 y0 x1 y1, pixels of the picture."""
    picture_hw: tuple[int, int]
    """Height and width of the picture, pixels."""
    layer: int
    """Which of the grids of points it gets."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the crop, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def crops_of(picture_idx: int, picture: np.ndarray, n_layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole of a picture, and its crops; see `generate_crop_boxes`."""
    hw = (picture.shape[0], picture.shape[1])
    boxes, layers = generate_crop_boxes(hw, n_layers, overlap_ratio)
    return [
        Crop(picture_idx, picture[y0:y1, x0:x1], [x0, y0, x1, y1], hw, layer)
        for (x0, y0, x1, y1), layer in zip(boxes, layers)
    ]


def joined(parts: Iterable[MaskData]) -> MaskData:
    """The rows of all, of which there is at least one."""
    columns = [dict(part.items()) for part in parts]
    return MaskData(
        **{
            name: torch.cat([part[name] for part in columns])
            if isinstance(column, Tensor)
            else [item for part in columns for item in part[name]]
            for name, column in columns[0].items()
        }
    )


def suppress(data: MaskData, scores: Tensor, iou_threshold: float) -> None:
    """Keep the best of masks with nearly the same box, in the order of their scores."""
    boxes: Tensor = data["boxes"].float()
    one_category: Tensor = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    data.filter(batched_nms(boxes, scores, one_category, iou_threshold))
