"""What is around the objects: blurred, grey, of one colour or another picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from sam2.masks.inputs import as_mask, as_picture

Picture = npt.NDArray[np.uint8]

LEAST_WEIGHT = 1e-6
"""Where less of the surroundings reaches a pixel, it is left dark: it lies deep inside what is kept."""


def blurred(image: npt.ArrayLike, keep: npt.ArrayLike, radius: float) -> Picture:
    """The picture blurred as if the pixels of ``keep`` were not there, so that they leave no halo.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        keep: mask ``[H, W]`` of what will stand in front.
        radius: of the Gaussian, in pixels.

    Raises:
        ValueError: malformed, or sizes that differ.
    """
    picture = as_picture(image)
    seen = ~as_mask(keep, picture.shape[:2])
    if not seen.any():
        return picture.copy()
    # A wide blur holds no detail, so it is made of a smaller picture.
    shrink = max(1, int(radius / 4))
    weight = _blur(seen, shrink, radius)
    planes = [_blur(np.where(seen, plane, 0), shrink, radius) for plane in np.moveaxis(picture, -1, 0)]
    light = np.stack(planes, axis=-1) / np.maximum(weight, LEAST_WEIGHT)[..., None]
    small = np.rint(light.clip(0, 255)).astype(np.uint8)
    height, width = seen.shape
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def _blur(plane: npt.NDArray[np.generic], shrink: int, radius: float) -> npt.NDArray[np.float32]:
    """In floats: where little of the surroundings shows, a blur in bytes leaves few grades to divide by."""
    small = np.asarray(Image.fromarray(plane.astype(np.float32)).reduce(shrink))
    blurred: npt.NDArray[np.float32] = ndimage.gaussian_filter(small, radius / shrink, truncate=3)
    return blurred


def grey(image: npt.ArrayLike) -> Picture:
    """The picture without its colours, ``uint8 [H, W, 3]``."""
    return np.array(Image.fromarray(as_picture(image)).convert("L").convert("RGB"))


def covering(image: npt.ArrayLike, size: tuple[int, int]) -> Picture:
    """The picture scaled to fill ``size`` (height, width), what is too wide or tall cut off on both sides."""
    return np.array(ImageOps.fit(Image.fromarray(as_picture(image)), (size[1], size[0])))


def composed(image: npt.ArrayLike, keep: npt.ArrayLike, background: npt.ArrayLike, soft: float) -> Picture:
    """``image`` inside ``keep``, ``background`` outside, all of one size.

    ``soft`` is the radius in pixels by which the border between them is softened, 0 for a hard one.

    Raises:
        ValueError: malformed, or sizes that differ.
    """
    picture = as_picture(image)
    behind = as_picture(background, "the background")
    mask = as_mask(keep, picture.shape[:2])
    if behind.shape != picture.shape:
        raise ValueError(
            f"the background is {behind.shape[1]}x{behind.shape[0]} but the picture is "
            f"{picture.shape[1]}x{picture.shape[0]}"
        )
    alpha = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    if soft:
        alpha = alpha.filter(ImageFilter.GaussianBlur(soft))
    return np.array(Image.composite(Image.fromarray(picture), Image.fromarray(behind), alpha))
