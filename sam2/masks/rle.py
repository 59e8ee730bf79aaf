"""COCO run-length encoding of masks, plain and compressed.

An RLE is ``{"size": [height, width], "counts": ...}``. The counts are the lengths of runs in column-major
order, alternately off and on, beginning with off (0 where the first pixel is on). They are a list of integers
(plain) or a string (compressed): each count is replaced by its difference to the count two before (from the
fourth on) and written in groups of five bits, lowest first, as characters from "0" (48): bit 5 of a character
says that another follows, bit 4 of the last one is the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from sam2.masks.inputs import Mask, as_bool, as_mask

_Counts: TypeAlias = npt.NDArray[np.int64]


class RLE(TypedDict):
    """``size`` is [height, width]; ``counts`` a list of run lengths or a compressed string."""

    size: list[int]
    counts: list[int] | str


AnyRLE: TypeAlias = "RLE | Mapping[str, Any]"


def encode(mask: npt.ArrayLike) -> RLE:
    """Plain RLE of one mask ``[H, W]``.

    Raises:
        ValueError: not a mask (see ``inputs.as_mask``).
    """
    array = as_mask(mask)
    return {"size": list(array.shape), "counts": _runs(array).tolist()}


def encode_compressed(mask: npt.ArrayLike) -> RLE:
    """Compressed RLE of one mask ``[H, W]``, as annotation files hold it (``counts`` is a ``str``)."""
    array = as_mask(mask)
    return {"size": list(array.shape), "counts": compress_counts(_runs(array))}


def encode_batch(masks: npt.ArrayLike, compressed: bool = False) -> list[RLE]:
    """RLE of each mask of ``[N, H, W]``; N may be 0.

    Raises:
        ValueError: another shape, no pixels, or values other than 0 and 1.
    """
    array = np.asarray(masks)
    if array.ndim != 3:
        raise ValueError(f"several masks must have shape [N, H, W], not {list(array.shape)}")
    if array.shape[0] and array[0].size == 0:
        raise ValueError(f"masks must have at least one pixel, but the shape is {list(array.shape)}")
    size = list(array.shape[1:])
    result: list[RLE] = []
    for mask in array:  # a mask at a time stays in the processor's cache, which a whole batch does not
        runs = _runs(as_bool(mask))
        result.append({"size": list(size), "counts": compress_counts(runs) if compressed else runs.tolist()})
    return result


def decode(rle: AnyRLE) -> Mask:
    """Mask ``bool [H, W]`` of a plain or compressed RLE.

    Raises:
        ValueError: malformed, or the counts do not add up to height times width.
    """
    height, width = _size(rle)
    runs = counts_of(rle)
    on = np.zeros(len(runs), dtype=np.bool_)
    on[1::2] = True
    columns = np.repeat(on, runs).reshape(width, height)
    mask = np.zeros((height, width), dtype=np.bool_)
    left = int(runs[0]) // height
    right = width - int(runs[-1]) // height if len(runs) % 2 else width
    if left < right:  # transposing is the slow part: only between the outer empty columns
        mask[:, left:right] = columns[left:right].T
    return mask


def decode_batch(rles: Sequence[AnyRLE]) -> npt.NDArray[np.bool_]:
    """Masks ``bool [N, H, W]`` of at least one RLE, all of one size.

    Raises:
        ValueError: none given, sizes differ, or one is malformed.
    """
    if not rles:
        raise ValueError("no RLE given: the size of the masks would be unknown")
    height, width = _size(rles[0])
    masks = np.empty((len(rles), height, width), dtype=np.bool_)
    for index, rle in enumerate(rles):
        if _size(rle) != (height, width):
            raise ValueError(f"RLE {index} has size {list(_size(rle))}, the first [{height}, {width}]")
        masks[index] = decode(rle)
    return masks


def compress(rle: AnyRLE) -> RLE:
    """The same RLE with ``counts`` as a compressed ``str``."""
    return {"size": list(_size(rle)), "counts": compress_counts(counts_of(rle))}


def decompress(rle: AnyRLE) -> RLE:
    """The same RLE with ``counts`` as a list of integers."""
    return {"size": list(_size(rle)), "counts": counts_of(rle).tolist()}


def area(rle: AnyRLE) -> int:
    """Number of pixels that are on."""
    return int(counts_of(rle)[1::2].sum())


def to_xywh(rle: AnyRLE) -> tuple[int, int, int, int]:
    """Tightest box (x, y, width, height) in pixels; (0, 0, 0, 0) of an empty mask."""
    height, _ = _size(rle)
    runs = counts_of(rle)
    ends = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    ends, lengths = ends[lengths > 0], lengths[lengths > 0]
    if not len(ends):
        return 0, 0, 0, 0
    first, last = ends - lengths, ends - 1
    left, right = int(first[0] // height), int(last[-1] // height)
    if np.any(first // height != last // height):
        top, bottom = 0, height - 1  # a run over a column's end touches both the last and the first row
    else:
        top, bottom = int((first % height).min()), int((last % height).max())
    return left, top, right - left + 1, bottom - top + 1


def counts_of(rle: AnyRLE) -> _Counts:
    """Run lengths ``int64 [K]`` of a plain or compressed RLE, checked against its size.

    Raises:
        ValueError: malformed, negative, or not adding up to height times width.
    """
    height, width = _size(rle)
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        runs = decompress_counts(counts)
    else:
        runs = np.asarray(counts)
        if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
            raise ValueError("the counts of an RLE must be a list of integers or a compressed string")
        runs = runs.astype(np.int64)
    if runs.size and runs.min() < 0:
        raise ValueError(f"the counts of an RLE cannot be negative: {runs.min()}")
    if (total := int(runs.sum())) != height * width:
        raise ValueError(f"the counts add up to {total}, but size [{height}, {width}] needs {height * width}")
    return runs


def row_runs(mask: npt.ArrayLike) -> _Counts:
    """Run lengths ``int64 [K]`` in row-major order, off first, as CVAT and Label Studio count them."""
    flat = as_mask(mask).ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        starts = np.concatenate(([0], starts))
    return np.diff(starts, prepend=0, append=len(flat))


def compress_counts(counts: npt.ArrayLike) -> str:
    """COCO's compressed string of run lengths."""
    values = np.array(counts, dtype=np.int64)
    values[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]
    magnitude = np.where(values < 0, ~values, values)
    groups = np.ones(len(values), dtype=np.int64)
    longest = 1
    while (longer := magnitude >= 1 << (5 * longest - 1)).any():
        groups += longer
        longest += 1
    index = np.arange(longest)
    chars = (values[:, None] >> (5 * index)) & 31
    chars += np.where(index < groups[:, None] - 1, 32 + 48, 48)
    return chars[index < groups[:, None]].astype(np.uint8).tobytes().decode("ascii")


def decompress_counts(text: str | bytes) -> _Counts:
    """Run lengths ``int64 [K]`` of COCO's compressed string.

    Raises:
        ValueError: characters that the code has not, a truncated string, or a number beyond 60 bits.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError(f"compressed counts hold only ASCII characters: {error}") from error
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    if not codes.size:
        return codes
    if codes.min() < 0 or codes.max() > 63:
        raise ValueError("compressed counts hold only the characters from '0' to 'o'")
    last = codes < 32
    if not last[-1]:
        raise ValueError("the compressed counts end in the middle of a number; is the string truncated?")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise ValueError("compressed counts hold a number beyond 60 bits")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _size(rle: AnyRLE) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in rle["size"])
        rle["counts"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError('an RLE is {"size": [height, width], "counts": list or string}') from error
    if height < 1 or width < 1:
        raise ValueError(f"the size of an RLE must be positive, not [{height}, {width}]")
    return height, width


def _runs(mask: Mask) -> _Counts:
    """Run lengths ``int64 [K]`` of ``bool [H, W]``, without transposing unless the mask is mostly edges."""
    height, width = mask.shape
    change = np.empty((height, width), dtype=np.bool_)
    np.not_equal(mask[1:], mask[:-1], out=change[1:])
    np.not_equal(mask[0, 1:], mask[-1, :-1], out=change[0, 1:])
    change[0, 0] = mask[0, 0]
    if np.count_nonzero(change) * 16 < change.size:
        rows, columns = np.divmod(np.flatnonzero(change), width)
        starts = columns * height + rows
        starts.sort()
    else:
        starts = np.flatnonzero(change.T)
    return np.diff(starts, prepend=0, append=height * width)
