"""YOLO segmentation labels: a line per object, its class and one polygon in coordinates from 0 to 1."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2.masks.files import write_bytes
from sam2.masks.inputs import Mask, MaskSet, as_mask, as_masks
from sam2.masks.polygons import bridge, mask_to_polygons, polygons_to_mask


def to_line(mask: npt.ArrayLike, class_id: int = 0, tolerance: float = 1.0) -> str | None:
    """``class x0 y0 x1 y1 ...`` of one mask; None of an empty one.

    Several parts and holes are joined into the one polygon that the format allows, by bridges of no width.
    ``tolerance`` (pixels) simplifies the outline; 0 keeps the mask exactly.

    Raises:
        ValueError: not a mask, or a negative ``tolerance`` or class.
    """
    if class_id < 0:
        raise ValueError(f"YOLO classes count from 0, not {class_id}")
    array = as_mask(mask)
    polygons = mask_to_polygons(array, tolerance)
    if not polygons:
        return None
    normalized = bridge(polygons) / array.shape[::-1]
    # Six decimals are a fiftieth of a pixel at a width of 20,000.
    numbers = (f"{value:.6f}".rstrip("0").rstrip(".") for value in normalized.ravel())
    return " ".join((str(class_id), *numbers))


def to_text(masks: MaskSet, class_ids: Mapping[int, int] | int = 0, tolerance: float = 1.0) -> str:
    """The lines of one picture's objects; empty masks give none. Arguments and errors as ``to_line``."""
    lines = []
    for object_id, mask in as_masks(masks).items():
        class_id = class_ids if isinstance(class_ids, int) else class_ids[object_id]
        if (line := to_line(mask, class_id, tolerance)) is not None:
            lines.append(line + "\n")
    return "".join(lines)


def from_text(text: str, size: tuple[int, int]) -> list[tuple[int, Mask]]:
    """Class and mask ``bool [H, W]`` of every line; ``size`` is (height, width).

    Raises:
        ValueError: a line is malformed; the message gives its number.
    """
    objects = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not (fields := line.split()):
            continue
        try:
            ring = np.array(fields[1:], dtype=np.float64).reshape(-1, 2) * (size[1], size[0])
            objects.append((int(fields[0]), polygons_to_mask([ring], size)))
        except ValueError as error:
            raise ValueError(f"line {number} is not `class x0 y0 x1 y1 x2 y2 ...`: {error}") from error
    return objects


def write(
    path: str | os.PathLike[str],
    masks: MaskSet,
    class_ids: Mapping[int, int] | int = 0,
    *,
    tolerance: float = 1.0,
    force: bool = False,
) -> Path:
    """Write the label file of one picture; empty where there is no object, as YOLO wants it.

    Raises:
        ValueError: see ``to_line``.
        OutputExistsError, OutputWriteError: see ``files.atomic_path``.
    """
    return write_bytes(path, to_text(masks, class_ids, tolerance).encode(), force=force)
