"""What a person without a network would use: GrabCut, random walker, flood fill, watershed.

Each answers the prompts of the other tools, one object at a time. What a tool needs beyond a click has fixed
settings, of which `FAMILIES` lists a few; the table takes each family's best, which favours them:

- GrabCut (OpenCV, 5 iterations): outside the box is background, and as much of it is learnt as lies within
  half the box's sides. For clicks alone, what is not near one is background, near being a square of a share
  of the picture's shorter side. Corrections start from the labels of the mask before. Where it leaves
  less than 2% of a box, it is tried again with the box's middle marked, an ellipse of 0.4 of its sides.
- Random walker (scikit-image) and watershed (on the gradient, scikit-image): clicks are seeds, and so is the
  picture's border, as background. In a box, the outside is background and an ellipse of 0.4 of its sides in
  its middle the object.
- Flood fill (OpenCV): all connected pixels whose channels differ from the click's by a tolerance, holes
  filled; floods of clicks on the background are taken away. A box is flooded from its middle, and clips.

Clicks are discs of 1% of the longer side. Pictures are reduced to 384 pixels (random walker: 192).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sam2.evaluation.clicks import BoxSegmenter, Guess

BoolMask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


def opencv() -> Any:
    """The module cv2; a ValueError with the command to install it where it is not."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError("the classical tools need OpenCV: pip install 'sam2[judge]'") from error
    return cv2


def _skimage() -> Any:
    try:
        import skimage.segmentation
    except ImportError as error:
        raise ValueError("the classical tools need scikit-image: pip install 'sam2[judge]'") from error
    return skimage.segmentation


class _Classical(ABC):
    """Reduces the picture, turns prompts into seeds and the label picture into a mask of full size."""

    longest: ClassVar[int] = 384

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self._size = image.shape[0], image.shape[1]
        self._scale = min(1.0, self.longest / max(self._size))
        small = max(1, round(self._size[1] * self._scale)), max(1, round(self._size[0] * self._scale))
        self.image = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX))

    def clicks(self, coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any) -> Guess:
        return self._answer(None, coords[0], labels[0], state)

    def boxes(self, boxes: NDArray[np.float32]) -> Guess:
        return self._answer(boxes[0], np.zeros((0, 2), np.float32), np.zeros(0, np.int32), None)

    def box_clicks(
        self, boxes: NDArray[np.float32], coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any
    ) -> Guess:
        return self._answer(boxes[0], coords[0], labels[0], state)

    def _answer(
        self,
        box: NDArray[np.float32] | None,
        coords: NDArray[np.float32],
        labels: NDArray[np.int32],
        state: Any,
    ) -> Guess:
        height, width = self.image.shape[:2]
        near: Box | None = None
        if box is not None:
            x0, y0, x1, y1 = np.round(box * self._scale).astype(int)
            x0, y0 = min(x0, width - 1), min(y0, height - 1)
            near = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        seeds = np.zeros((height, width), np.uint8)
        for (x, y), label in zip(coords * self._scale, labels):
            seeds[self._disc(x, y, max(1.0, 0.01 * max(height, width)))] = 1 if label else 2
        mask, state = self._mask(near, seeds, state)
        full = Image.fromarray(mask).resize(self._size[::-1], Image.Resampling.NEAREST)
        found = np.array(full, dtype=bool)[None]
        return Guess(found, found[:, None], state)

    def _disc(self, x: float, y: float, radius: float, radius_y: float | None = None) -> BoolMask:
        rows, columns = np.ogrid[: self.image.shape[0], : self.image.shape[1]]
        inside: BoolMask = (((columns - x) / radius) ** 2 + ((rows - y) / (radius_y or radius)) ** 2) <= 1
        inside[min(round(y), len(rows) - 1), min(round(x), columns.shape[1] - 1)] = True
        return inside

    @abstractmethod
    def _mask(self, box: Box | None, seeds: NDArray[np.uint8], state: Any) -> tuple[BoolMask, Any]:
        """The object in the reduced picture, and a state; seeds: 1 on the object, 2 off it, 0 unknown."""

    def _middle(self, box: Box) -> BoolMask:
        x0, y0, x1, y1 = box
        middle = (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2
        return self._disc(*middle, max(0.2 * (x1 - x0), 0.5), max(0.2 * (y1 - y0), 0.5))

    def _closed(self, box: Box | None, seeds: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Seeds with the background that a person would add: outside of the box, or the picture's border."""
        outside = np.ones(seeds.shape, bool)
        if box is None:
            outside[1:-1, 1:-1] = False
        else:
            outside[box[1] : box[3], box[0] : box[2]] = False
            seeds = np.where((seeds == 0) & self._middle(box), 1, seeds)
        return np.where((seeds == 0) & outside, 2, seeds).astype(np.uint8)


class GrabCut(_Classical):
    """OpenCV's GrabCut; share: of the shorter side, what may be the object around a click."""

    def __init__(self, share: float) -> None:
        self.share = share

    def _mask(self, box: Box | None, seeds: NDArray[np.uint8], state: Any) -> tuple[BoolMask, Any]:
        cv2 = opencv()
        if state is not None:
            labels = state.copy()
        else:
            labels = np.full(seeds.shape, cv2.GC_BGD, np.uint8)
            if box is not None:
                labels[box[1] : box[3], box[0] : box[2]] = cv2.GC_PR_FGD
        if box is None:
            reach = max(1, round(self.share * min(seeds.shape) / 2))
            near = ndimage.maximum_filter(seeds == 1, size=2 * reach + 1)
            labels[near & (labels == cv2.GC_BGD)] = cv2.GC_PR_FGD
        labels[seeds == 1], labels[seeds == 2] = cv2.GC_FGD, cv2.GC_BGD
        found = self._cut(labels)
        kept = np.isin(found, (cv2.GC_FGD, cv2.GC_PR_FGD)).sum()
        if box is not None and kept < 0.02 * (box[2] - box[0]) * (box[3] - box[1]):
            labels[self._middle(box) & (seeds == 0)] = cv2.GC_FGD
            found = self._cut(labels)
        return np.isin(found, (cv2.GC_FGD, cv2.GC_PR_FGD)), found

    def _cut(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """OpenCV's labels after five iterations, begun at these."""
        cv2 = opencv()
        sure = np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD))
        if sure.all() or not sure.any():
            return labels
        cv2.setRNGSeed(0)
        part = _window(labels != cv2.GC_BGD)
        inside, models = np.ascontiguousarray(labels[part]), (np.zeros((1, 65)), np.zeros((1, 65)))
        bgr = np.ascontiguousarray(self.image[part][..., ::-1])
        cv2.grabCut(bgr, inside, None, *models, 5, cv2.GC_INIT_WITH_MASK)
        labels = labels.copy()
        labels[part] = inside
        return labels


def _window(mask: BoolMask) -> tuple[slice, slice]:
    """The mask's box, and half its sides more on each side."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = []
    for places in (rows, columns):
        first, last = int(places[0]), int(places[-1]) + 1
        margin = max(2, (last - first) // 2)
        part.append(slice(max(0, first - margin), last + margin))
    return part[0], part[1]


class RandomWalker(_Classical):
    """scikit-image's random walker; beta: how hard edges are to cross."""

    longest = 192

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def _mask(self, box: Box | None, seeds: NDArray[np.uint8], state: Any) -> tuple[BoolMask, Any]:
        closed = self._closed(box, seeds)
        walk = _skimage().random_walker
        options = {"beta": self.beta, "mode": "cg_j", "tol": 1e-3, "channel_axis": -1}
        with warnings.catch_warnings():  # of probabilities a little beyond 0 and 1
            warnings.simplefilter("ignore", UserWarning)
            labels = walk(self.image / 255, closed.astype(np.int32), **options)
        return labels == 1, None


class Watershed(_Classical):
    """scikit-image's watershed on the picture's gradient; sigma: of its smoothing, in pixels."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def _mask(self, box: Box | None, seeds: NDArray[np.uint8], state: Any) -> tuple[BoolMask, Any]:
        channels = np.moveaxis(self.image.astype(np.float32), -1, 0)
        slope = np.max([ndimage.gaussian_gradient_magnitude(c, self.sigma) for c in channels], axis=0)
        return _skimage().watershed(slope, self._closed(box, seeds).astype(np.int32)) == 1, None


class FloodFill(_Classical):
    """OpenCV's flood fill; tolerance: of each channel, of 255."""

    def __init__(self, tolerance: int) -> None:
        self.tolerance = tolerance

    def _mask(self, box: Box | None, seeds: NDArray[np.uint8], state: Any) -> tuple[BoolMask, Any]:
        inside = np.ones(seeds.shape, bool)
        if box is not None:
            inside[:] = False
            inside[box[1] : box[3], box[0] : box[2]] = True
            middle = (box[1] + box[3] - 1) // 2, (box[0] + box[2] - 1) // 2
            if seeds[middle] == 0:
                seeds = seeds.copy()
                seeds[middle] = 1
        kept = ndimage.binary_fill_holes(self._flooded(seeds == 1) & inside) & ~self._flooded(seeds == 2)
        return (kept & inside) | (seeds == 1), None

    def _flooded(self, where: BoolMask) -> BoolMask:
        """What is flooded from the middle of each patch of seeds."""
        cv2 = opencv()
        smooth = cv2.GaussianBlur(self.image, (0, 0), 1)
        found = np.zeros((where.shape[0] + 2, where.shape[1] + 2), np.uint8)
        patches, count = ndimage.label(where, np.ones((3, 3)))
        for y, x in ndimage.center_of_mass(where, patches, range(1, count + 1)):
            flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
            fresh = np.zeros_like(found)
            spread = (self.tolerance,) * 3
            cv2.floodFill(smooth, fresh, (round(x), round(y)), 0, spread, spread, flags)
            found |= fresh
        return found[1:-1, 1:-1] > 0


FAMILIES: dict[str, dict[str, Callable[[], BoxSegmenter]]] = {
    "GrabCut": {f"GrabCut {s}": partial(GrabCut, s) for s in (0.15, 0.3)},
    "random walker": {f"random walker {b}": partial(RandomWalker, b) for b in (130, 1000)},
    "watershed": {f"watershed {s}": partial(Watershed, s) for s in (1, 3)},
    "flood fill": {f"flood fill {t}": partial(FloodFill, t) for t in (15, 30, 60)},
}
"""Tools, and the settings of each that are tried."""
