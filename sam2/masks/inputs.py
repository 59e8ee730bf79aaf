"""What counts as a mask and as a set of masks, with errors that say how to get there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.bool_]
"""One mask, ``bool [H, W]``."""

MaskSet: TypeAlias = "Mapping[int, npt.ArrayLike] | Sequence[npt.ArrayLike] | npt.NDArray"
"""Several objects: a mapping from object id to mask, or ``[N, H, W]`` (ids 1..N)."""


def as_bool(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Array of any shape as bool; numbers must all be 0 and 1, or all 0 and 255 (no copy of a bool array).

    Raises:
        ValueError: other values are present, as in logits or a label map.
    """
    array = np.asarray(values)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"a mask must be of bool or of numbers 0 and 1, not of dtype {array.dtype}")
    on = array != 0
    high = array.max(initial=0)
    if high not in (0, 1, 255) or not np.array_equal(on, array == (high or 1)):
        raise ValueError(
            f"a mask holds 0 and 1 (or 0 and 255), but these values run from {array.min()} to {array.max()}; "
            "pass logits as `logits > 0`, one object of a label map as `labels == id`"
        )
    return on


def as_mask(mask: npt.ArrayLike, size: tuple[int, int] | None = None) -> Mask:
    """``mask`` as ``bool [H, W]``; ``size`` is the (height, width) it must have.

    Raises:
        ValueError: not two-dimensional, without pixels, of another size, or with values other than 0 and 1.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        hint = "; drop the leading axis with `mask[0]`" if array.ndim == 3 and len(array) == 1 else ""
        raise ValueError(f"a mask must have shape [H, W], not {list(array.shape)}{hint}")
    if array.size == 0:
        raise ValueError(f"a mask must have at least one pixel, but its shape is {list(array.shape)}")
    if size is not None and array.shape != tuple(size):
        raise ValueError(
            f"the mask is {array.shape[1]}x{array.shape[0]} (width x height) but the picture is "
            f"{size[1]}x{size[0]}; resize the mask to the picture, with nearest-neighbour sampling"
        )
    return as_bool(array)


def as_masks(masks: MaskSet, size: tuple[int, int] | None = None) -> dict[int, Mask]:
    """Several objects as a dictionary from id to ``bool [H, W]``, in the given order.

    An array ``[N, H, W]`` or a list of masks gets the ids 1..N. All masks must share one size, which is
    ``size`` (height, width) where given.

    Raises:
        ValueError: a mask is malformed (the message names its id), or the sizes differ.
    """
    if isinstance(masks, Mapping):
        items = [(int(key), value) for key, value in masks.items()]
    else:
        if isinstance(masks, np.ndarray) and masks.ndim != 3:
            raise ValueError(f"several masks must have shape [N, H, W], not {list(masks.shape)}")
        items = list(enumerate(masks, start=1))
    result: dict[int, Mask] = {}
    for object_id, value in items:
        try:
            result[object_id] = as_mask(value, size)
        except ValueError as error:
            raise ValueError(f"object {object_id}: {error}") from error
        size = size or result[object_id].shape
    return result


def as_picture(image: npt.ArrayLike, name: str = "the picture") -> npt.NDArray[np.uint8]:
    """``image`` as ``uint8 [H, W, 3]`` RGB; a grey ``[H, W]`` picture is repeated into three channels.

    Raises:
        ValueError: another dtype or shape, or no pixels.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8 (0..255), not {array.dtype}")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{name} must be RGB of shape [H, W, 3], not {list(array.shape)}")
    if array.size == 0:
        raise ValueError(f"{name} has no pixels: shape {list(array.shape)}")
    return array
