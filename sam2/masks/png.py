"""Masks as PNG files: indexed (DAVIS), binary, cut-outs; and any picture read as a mask.

Where objects overlap, an indexed PNG can hold only one id for a pixel: the object with the higher score, and
without scores (or between equal ones) the one that comes later in the mapping.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sam2.masks.files import write_bytes
from sam2.masks.geometry import mask_to_box
from sam2.masks.inputs import Mask, MaskSet, as_mask, as_masks, as_picture

PictureSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image"
_MAX_COLOURS = 256  # more than that is a photo, not a mask


class MaskFileError(ValueError):
    """The file is not a picture, is damaged, or cannot be understood as a mask."""


def davis_palette() -> npt.NDArray[np.uint8]:
    """The VOC and DAVIS palette ``uint8 [256, 3]``.

    Each group of three bits of an index gives one bit each of red, green and blue, from the highest down.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def label_map(
    masks: MaskSet, scores: Mapping[int, float] | None = None, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Objects as one picture of ids ``uint8 [H, W]``, 0 where there is none.

    Args:
        masks: objects by id 1..255, or ``[N, H, W]``.
        scores: a number per id; where objects overlap the highest wins, among equals the later one.
        size: (height, width), needed where there may be no object.

    Raises:
        ValueError: an id outside 1..255, sizes that differ, a score missing, or no object and no ``size``.
    """
    objects = as_masks(masks, size)
    for object_id in objects:
        if not 1 <= object_id <= 255:
            raise ValueError(
                f"an indexed PNG holds the ids 1..255, not {object_id}; "
                "renumber the objects, or write one binary PNG per object or COCO RLE instead"
            )
    order = list(objects)
    if scores is not None:
        if missing := [object_id for object_id in order if object_id not in scores]:
            raise ValueError(f"scores are missing for the ids {missing}")
        order.sort(key=lambda object_id: scores[object_id])
    if size is None:
        if not objects:
            raise ValueError(
                "without objects the size of the label map is unknown; pass size=(height, width)"
            )
        size = next(iter(objects.values())).shape
    labels = np.zeros(size, dtype=np.uint8)
    for object_id in order:
        labels[objects[object_id]] = object_id
    return labels


def encode_indexed_png(labels: npt.ArrayLike) -> bytes:
    """PNG with the DAVIS palette of a label map ``uint8 [H, W]``."""
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    picture.putpalette(davis_palette().tobytes())
    return encode_png(picture)


def encode_binary_png(mask: npt.ArrayLike) -> bytes:
    """Grey PNG of one mask: 255 on, 0 off."""
    return encode_png(Image.fromarray(as_mask(mask).astype(np.uint8) * 255))


def write_indexed_png(
    path: str | os.PathLike[str],
    masks: MaskSet,
    *,
    scores: Mapping[int, float] | None = None,
    size: tuple[int, int] | None = None,
    force: bool = False,
) -> Path:
    """Write objects as an indexed PNG with the DAVIS palette; arguments as ``label_map``.

    Raises:
        ValueError: see ``label_map``.
        OutputExistsError, OutputWriteError: see ``files.atomic_path``.
    """
    return write_bytes(path, encode_indexed_png(label_map(masks, scores, size)), force=force)


def write_binary_png(path: str | os.PathLike[str], mask: npt.ArrayLike, *, force: bool = False) -> Path:
    """Write one mask as a grey PNG, 255 on and 0 off. Raises as ``write_indexed_png``."""
    return write_bytes(path, encode_binary_png(mask), force=force)


def cut_out(image: npt.ArrayLike, mask: npt.ArrayLike, crop: bool = False) -> npt.NDArray[np.uint8]:
    """The object alone, ``uint8 [H, W, 4]``: opaque inside the mask, transparent black outside.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        mask: ``[H, W]``.
        crop: keep only the mask's box.

    Raises:
        ValueError: malformed or sizes that differ; with ``crop``, an empty mask.
    """
    picture = as_picture(image)
    inside = as_mask(mask, picture.shape[:2])
    if crop:
        box = mask_to_box(inside)
        if box is None:
            raise ValueError("the mask is empty: there is no box to crop to; leave crop off")
        x0, y0, x1, y1 = box
        picture, inside = picture[y0:y1, x0:x1], inside[y0:y1, x0:x1]
    result = np.zeros((*inside.shape, 4), dtype=np.uint8)
    result[..., :3] = picture * inside[..., None]
    result[..., 3] = inside * np.uint8(255)
    return result


def write_cut_out(
    path: str | os.PathLike[str],
    image: npt.ArrayLike,
    mask: npt.ArrayLike,
    *,
    crop: bool = False,
    force: bool = False,
) -> Path:
    """Write ``cut_out(image, mask, crop)`` as a PNG. Raises as it does, and as ``write_indexed_png``."""
    return write_bytes(path, encode_png(Image.fromarray(cut_out(image, mask, crop))), force=force)


def read_label_map(source: PictureSource) -> npt.NDArray[np.integer]:
    """Ids ``[H, W]`` of an indexed or grey picture (8 bits as uint8, 16 bits as int32); 0 is background.

    Raises:
        FileNotFoundError: there is no such file.
        MaskFileError: not a picture, damaged, or in colours rather than ids.
    """
    picture = _open(source)
    if picture.mode not in ("P", "L", "1", "I", "I;16", "I;16B", "I;16L"):
        raise MaskFileError(
            f"{_name(source)} has colours ({picture.mode}), not object ids; save it as an indexed or grey PNG"
        )
    return np.asarray(picture, dtype=np.int32 if picture.mode.startswith("I") else np.uint8)


def read_indexed_png(source: PictureSource) -> dict[int, Mask]:
    """Objects of an indexed or grey picture by id, in the order of ids. Raises as ``read_label_map``."""
    labels = read_label_map(source)
    return {int(object_id): labels == object_id for object_id in np.unique(labels) if object_id != 0}


def read_mask(source: PictureSource, size: tuple[int, int] | None = None) -> Mask:
    """Any picture of a mask as ``bool [H, W]``, turned upright where EXIF says so.

    Read as on: where transparency is used, opaque pixels (alpha 128 and more); of a picture in colours, such
    as an indexed one with many objects, all that is not black; of a grey one, the brighter half of the range
    if any pixel is that bright, else (0 and 1, or small ids) all that is not 0.

    Args:
        source: a path, the bytes of a file, or a Pillow picture.
        size: (height, width) that the mask must have.

    Raises:
        FileNotFoundError: there is no such file.
        MaskFileError: not a picture, damaged, a photo, or of another size.
    """
    picture = _open(source)
    mask = _mask_of(picture, _name(source))
    if size is not None and mask.shape != tuple(size):
        raise MaskFileError(
            f"{_name(source)} is {mask.shape[1]}x{mask.shape[0]} (width x height) but the picture is "
            f"{size[1]}x{size[0]}; resize the mask to the picture, with nearest-neighbour sampling"
        )
    return mask


def _mask_of(picture: Image.Image, name: str) -> Mask:
    if picture.mode == "1":
        return np.asarray(picture, dtype=np.bool_)
    if picture.mode.startswith(("I", "F")):
        return _bright(np.asarray(picture))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        if alpha.min() < 255:
            return alpha >= 128
        picture = rgba.convert("RGB")
    if picture.mode == "L":
        return _bright(np.asarray(picture))
    colours = np.asarray(picture.convert("RGB")).astype(np.int32)
    if (colours.max(axis=2) == colours.min(axis=2)).all():
        return _bright(colours[..., 0])
    packed = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    if len(np.unique(packed)) > _MAX_COLOURS:
        raise MaskFileError(f"{name} has more than {_MAX_COLOURS} colours: it is a photo rather than a mask")
    return packed != 0


def _bright(values: npt.NDArray) -> Mask:
    """Grey values as on or off, the scale guessed from the brightest: 1, 255 or 65535."""
    top = values.max()
    full = 65535 if top > 255 else 255 if top > 1 else 1
    half = (full + 1) // 2 if full > 1 else 0.5
    return values >= half if top >= half else values > 0


def _open(source: PictureSource) -> Image.Image:
    """The decoded picture, upright."""
    name = _name(source)
    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source)
    if not isinstance(source, bytes) and not Path(source).exists():
        raise FileNotFoundError(f"there is no mask file {name}")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "it is not a picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise MaskFileError(f"cannot read {name} as a mask: {reason}") from error


def _name(source: PictureSource) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "the mask picture"


def encode_png(picture: Image.Image | npt.NDArray[np.uint8]) -> bytes:
    """PNG of a Pillow picture, or of ``uint8 [H, W]``, ``[H, W, 3]`` or ``[H, W, 4]``."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
