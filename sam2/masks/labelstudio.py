"""Label Studio's brush encoding: runs of a mask's bytes, packed bit by bit.

The coded array is the mask as an RGBA picture, row by row, all four bytes of a pixel alike (255 on, 0 off). A
head of 32 bits holds its length, 5 bits the word size less one, and four times 4 bits the widths of run
lengths less one. Then each run: a bit 1, two bits for which width, the length less one in that width, and the
value in 8 bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam2.masks import rle
from sam2.masks.inputs import as_mask

_WIDTHS = np.array((3, 4, 8, 16))
_LONGEST = 1 << 16
_CHANNELS = 4
_WORD = 8


def encode_brush(mask: npt.ArrayLike) -> list[int]:
    """The ``rle`` of a region with ``"format": "rle"``: bytes as integers 0..255.

    Raises:
        ValueError: not a mask, or one of 2^30 pixels and more, whose length the head cannot hold.
    """
    array = as_mask(mask)
    if array.size >= 1 << 30:
        raise ValueError(f"Label Studio's brush holds fewer than 2^30 pixels, not {array.size}")
    runs = rle.row_runs(array) * _CHANNELS
    on = np.arange(len(runs)) % 2 == 1
    pieces = -(-runs // _LONGEST)  # none for the empty run of a mask that begins with on
    lengths = np.full(int(pieces.sum()), _LONGEST)
    filled = runs > 0
    lengths[np.cumsum(pieces)[filled] - 1] = (runs - (pieces - 1) * _LONGEST)[filled]
    on = np.repeat(on, pieces)

    which = np.searchsorted(1 << _WIDTHS, lengths)
    width = _WIDTHS[which]
    code = (4 | which) << width | (lengths - 1)
    code = code << _WORD | np.where(on, 255, 0)
    bits = 3 + width + _WORD
    columns = np.arange(int(bits.max()))
    body = (code[:, None] >> (bits[:, None] - 1 - columns)) & 1
    head = _bits(array.size * _CHANNELS, 32) + _bits(_WORD - 1, 5)
    for one in _WIDTHS:
        head += _bits(int(one) - 1, 4)
    packed = np.concatenate((np.array(head), body[columns < bits[:, None]])).astype(np.uint8)
    return np.packbits(packed).tolist()


def _bits(value: int, width: int) -> list[int]:
    return [value >> place & 1 for place in range(width - 1, -1, -1)]
