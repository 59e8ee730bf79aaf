"""Shapes as CVAT's XML holds them: masks as runs inside their box, polygons as ``x,y;x,y;...``."""

from __future__ import annotations

import numpy.typing as npt

from sam2.masks import rle
from sam2.masks.geometry import mask_to_box
from sam2.masks.inputs import as_mask
from sam2.masks.polygons import Ring


def mask_attributes(mask: npt.ArrayLike) -> dict[str, str] | None:
    """``rle``, ``left``, ``top``, ``width`` and ``height`` of a ``<mask>``; None of an empty mask.

    The runs go row by row through the mask's box, off first.
    """
    array = as_mask(mask)
    box = mask_to_box(array)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    return {
        "rle": ", ".join(map(str, rle.row_runs(array[y0:y1, x0:x1]).tolist())),
        "left": str(x0),
        "top": str(y0),
        "width": str(x1 - x0),
        "height": str(y1 - y0),
    }


def points_attribute(ring: Ring) -> str:
    """``points`` of a ``<polygon>``, to the hundredth of a pixel."""
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())
