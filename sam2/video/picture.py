"""Still pictures of every kind become one kind: uint8 [H, W, 3], RGB, upright."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from sam2.video.errors import PictureError, PictureNotFoundError

__all__ = ["PICTURE_SUFFIXES", "picture_size", "read_picture"]

# A path, the bytes of a file, a file object, a PIL image, an array, or anything with `.numpy()`.
PictureSource: TypeAlias = Any

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(source: PictureSource) -> np.ndarray:
    """Read one picture as uint8 [H, W, 3] RGB in display orientation.

    Args:
        source: a path; the bytes of a picture file; a binary file object (read from its start); a PIL image;
            an
            array: uint8 or uint16 of shape [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA), or floats
            in 0..1 of the same shapes; or an object with `.numpy()` such as a tensor, where [C, H, W] is
            understood as well.

    The EXIF orientation of files and PIL images is applied. 16-bit values are divided by 257, so that 65,535
    becomes 255. Whatever is transparent is composited onto white, as most viewers show it. Of an animation
    the first frame is taken. Colour profiles are not applied. A uint8 RGB array is returned without a copy.

    Raises:
        PictureError: nothing readable as a picture is there: missing (then also a FileNotFoundError), a
            folder, empty, of no known format, truncated, or above Pillow's limit on the number of pixels.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "") or "the PIL image"
        return _to_rgb(_loaded(source, name), name)
    if hasattr(source, "numpy"):
        return _from_array(_channels_last(as_numpy(source)))
    image, name = _opened(source)
    with image:
        return _to_rgb(_loaded(image, name), name)


def picture_size(source: PictureSource) -> tuple[int, int]:
    """Width and height in pixels, in display orientation; of a file only the header is read.

    Raises:
        PictureError: as `read_picture`, except that a truncated file is not noticed.
    """
    if isinstance(source, np.ndarray) or hasattr(source, "numpy"):
        array = source if isinstance(source, np.ndarray) else _channels_last(as_numpy(source))
        _check_shape(array)
        return array.shape[1], array.shape[0]
    if isinstance(source, Image.Image):
        return _upright_size(source)
    image, _ = _opened(source)
    with image:
        return _upright_size(image)


def as_numpy(tensor: Any) -> np.ndarray:
    """The array behind an object with `.numpy()`; tensors are detached and brought to the CPU."""
    for step in ("detach", "cpu"):
        if hasattr(tensor, step):
            tensor = getattr(tensor, step)()
    array = tensor.numpy()
    if not isinstance(array, np.ndarray):
        raise PictureError(f"{type(tensor).__name__}.numpy() gave {type(array).__name__}, not an array")
    return array


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        return array.transpose(1, 2, 0)
    return array


def _opened(source: PictureSource) -> tuple[Image.Image, str]:
    """The lazily opened picture, and what to call it in errors."""
    file: io.BytesIO | Path
    if isinstance(source, (str, os.PathLike)):
        file = Path(source)
        name = str(file)
        if file.is_dir():
            raise PictureError(f"{name} is a folder, not a picture: give one of the files in it")
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            raise PictureNotFoundError(f"{name} does not exist: check the path of the picture") from None
        except (OSError, ValueError) as error:
            raise PictureError(f"{name} cannot be read: {error}") from None
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        name, file, size = f"the picture of {len(data):,} bytes", io.BytesIO(data), len(data)
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the file object"))
        if hasattr(source, "seekable") and source.seekable():
            source.seek(0)
        data = source.read()
        if not isinstance(data, bytes):
            raise PictureError(f"{name} is open in text mode: open it with mode 'rb'")
        file, size = io.BytesIO(data), len(data)
    else:
        raise PictureError(
            f"{type(source).__name__} is not a picture: give a path, bytes, a file object, a PIL "
            "image or an array"
        )
    if size == 0:
        raise PictureError(
            f"{name} is empty (0 bytes): the picture was probably not fully copied or downloaded"
        )
    try:
        return Image.open(file), name
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, error) from None
    except Image.UnidentifiedImageError:
        raise PictureError(
            f"{name} is not a picture in a format that can be read (JPEG, PNG, WebP, GIF, BMP, TIFF "
            "and others)"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise anything at all on a broken header
        raise PictureError(f"{name} is not a readable picture: {error}") from None


def _too_large(name: str, error: Exception) -> PictureError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return PictureError(
        f"{name} is refused: {error} The limit of {limit:,} pixels guards against files made to "
        "exhaust the memory; "
        "for a picture you trust, raise it with PIL.Image.MAX_IMAGE_PIXELS (half the limit; None for "
        "no limit), "
        "or make the picture smaller first"
    )


def _loaded(image: Image.Image, name: str) -> Image.Image:
    """All pixels decoded and turned upright."""
    try:
        if getattr(image, "n_frames", 1) > 1 and image.tell() != 0 and getattr(image, "fp", None) is not None:
            image.seek(0)
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, error) from None
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise PictureError(f"{name} is truncated or damaged: {error}. Copy or download it again") from None
    transpose = _TRANSPOSES.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is broken."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a broken EXIF block is no reason to refuse the pixels
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16"):
        return _grey_to_rgb(_from_16_bit(np.asarray(image.convert("I")).astype(np.uint16)))
    if mode == "I":
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise PictureError(
                f"{name} holds 32-bit values from {values.min():,} to {values.max():,}: scale it to 8 "
                "or 16 bits first"
            )
        return _grey_to_rgb(_from_16_bit(values.astype(np.uint16)))
    if mode == "F":
        return _grey_to_rgb(_from_float(np.asarray(image), name))
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA") if mode != "La" else image.convert("LA").convert("RGBA")
        return onto_white(np.asarray(rgba))
    return np.array(image.convert("RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    _check_shape(array)
    if array.dtype == np.uint16:
        array = _from_16_bit(array)
    elif np.issubdtype(array.dtype, np.floating):
        array = _from_float(array, "the array")
    elif array.dtype != np.uint8:
        raise PictureError(
            f"an array of dtype {array.dtype} is not a picture: give uint8 (0..255), uint16 (0..65535) "
            "or floats in 0..1"
        )
    if array.ndim == 2:
        return _grey_to_rgb(array)
    if array.shape[2] == 1:
        return _grey_to_rgb(array[:, :, 0])
    return np.ascontiguousarray(array) if array.shape[2] == 3 else onto_white(array)


def _check_shape(array: np.ndarray) -> None:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        hint = ""
        if array.ndim == 3 and shape[0] in (1, 3, 4):
            hint = "; it looks like [C, H, W]: pass array.transpose(1, 2, 0)"
        raise PictureError(
            f"an array of shape {shape} is not a picture: [H, W], [H, W, 3] or [H, W, 4] is{hint}"
        )
    if 0 in shape:
        raise PictureError(f"the array of shape {shape} has no pixels")


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_16_bit(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_float(values: np.ndarray, name: str) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):
        raise PictureError(
            f"{name} holds floats from {low:g} to {high:g}: floats must lie in 0..1 (divide by 255, "
            "or convert to uint8)"
        )
    return np.rint(values.astype(np.float32) * 255.0).astype(np.uint8)


def onto_white(rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 [H, W, 4] with straight alpha onto white; uint8 [H, W, 3]."""
    alpha = rgba[:, :, 3:].astype(np.uint16)
    blended = rgba[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
