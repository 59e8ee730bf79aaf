"""What is around the objects: blurred, grey, of one colour or another picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from sam2.masks.inputs import as_mask, as_picture

Picture = npt.NDArray[np.uint8]


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
    weight = _blur(Image.fromarray(seen.view(np.uint8) * np.uint8(255)), shrink, radius)
    light = _blur(Image.fromarray(picture * seen[..., None]), shrink, radius)
    small = np.clip(light / np.maximum(weight, 1)[..., None] * 255, 0, 255).astype(np.uint8)
    height, width = seen.shape
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def _blur(picture: Image.Image, shrink: int, radius: float) -> npt.NDArray[np.float32]:
    small = picture.reduce(shrink).filter(ImageFilter.GaussianBlur(radius / shrink))
    return np.asarray(small, dtype=np.float32)


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
