"""Real photos: objects outlined by hand, and the IoU that a tool reaches on them from clicks and boxes.

The outlines (`real_objects.json`) were drawn for this purpose, on enlarged crops, to within 3 pixels. The
pictures are not here: they come with scikit-image and scikit-learn, and from a folder of media where there is
one. None of it may ever be used in training, and nothing in `sam2.training` reads it.

Shapes: H and W, the sides of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources, util
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sam2.build_sam import build_sam2, resolve_model
from sam2.evaluation.clicks import (
    BoolMasks,
    BoxSegmenter,
    Guess,
    Sam2Segmenter,
    boxes_of,
    masks_iou,
    next_clicks,
)
from sam2.masks.polygons import polygons_to_mask
from sam2.sam2_image_predictor import SAM2ImagePredictor

BoolMask = NDArray[np.bool_]

PROMPTS = ("click_1", "click_3", "click_5", "best_of_3", "box", "box_clicks_2")
"""One, three and five clicks; the best mask offered for the first; the box; the box and two clicks more."""
FOLDERS = {"skimage": ("skimage", "data"), "sklearn": ("sklearn", "datasets", "images")}
MEDIA = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "media"
"""Where photos and clips lie beside a checkout of this project."""


@dataclass(frozen=True)
class Outline:
    """Where an object is: rings of pixel coordinates x0, y0, x1, y1, ..., and rings of what is not it."""

    polygons: tuple[tuple[float, ...], ...]
    holes: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Outline:
        """From JSON."""
        return cls(
            tuple(map(tuple, content.get("polygons", ()))), tuple(map(tuple, content.get("holes", ())))
        )

    def mask(self, size: tuple[int, int]) -> BoolMask:
        """bool [H, W] for a picture of (height, width)."""
        flat = [np.asarray(ring, dtype=np.float64) for ring in self.polygons]
        gaps = [np.asarray(ring, dtype=np.float64) for ring in self.holes]
        return polygons_to_mask(flat, size) & ~polygons_to_mask(gaps, size)


@dataclass(frozen=True)
class RealObject:
    """One thing in one photo."""

    source: str
    """`skimage`, `sklearn` or `media`."""
    picture: str
    name: str
    note: str
    """What belongs to it."""
    outline: Outline


@dataclass
class Photo:
    """A picture and the objects outlined in it."""

    name: str
    image: NDArray[np.uint8]
    """[H, W, 3], RGB."""
    names: list[str]
    masks: list[BoolMask] = field(repr=False)


@dataclass(frozen=True)
class Trial:
    """What one tool made of one object."""

    tool: str
    picture: str
    object: str
    area: int
    iou: Mapping[str, float]
    """By the names of `PROMPTS`."""
    masks: Mapping[str, BoolMask] = field(repr=False)
    clicks: NDArray[np.float32] = field(repr=False)
    """[K, 2], pixels, in the order in which they were made; the first does not depend on the tool."""

    def row(self) -> dict[str, Any]:
        """For a table."""
        return {
            "tool": self.tool,
            "picture": self.picture,
            "object": self.object,
            "area": self.area,
            **self.iou,
        }


def read_outlines(path: Path | None = None) -> list[RealObject]:
    """The outlined objects, those that this package brings unless a file is named."""
    file = path or resources.files("sam2.evaluation") / "real_objects.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return [
        RealObject(o["source"], o["picture"], o["name"], o["note"], Outline.read(o))
        for o in content["objects"]
    ]


def folder_of(source: str, media: Path = MEDIA) -> Path:
    """Where the pictures of a source lie; for `media` the folder may be absent.

    Raises:
        ValueError: the package that brings them is not installed, with the command to install it.
    """
    if source == "media":
        return media
    package, *parts = FOLDERS[source]
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"the real photos of {package} are not here: pip install 'sam2[judge]'")
    return Path(spec.origin).parent.joinpath(*parts)


def photos(objects: Sequence[RealObject], media: Path = MEDIA) -> Iterator[Photo]:
    """Each picture with its objects; pictures of `media` that are not on this machine are left out."""
    for (source, name), group in groupby(objects, key=lambda o: (o.source, o.picture)):
        path = folder_of(source, media) / name
        if source == "media" and not path.exists():
            continue
        with Image.open(path) as opened:
            image = np.asarray(opened.convert("RGB"))
        members = list(group)
        size = image.shape[0], image.shape[1]
        yield Photo(
            f"{source}/{name}", image, [o.name for o in members], [o.outline.mask(size) for o in members]
        )


def score_photo(tool: str, segmenter: BoxSegmenter, photo: Photo) -> list[Trial]:
    """Every object of a photo, one at a time."""
    segmenter.set_image(photo.image)
    return [_trial(tool, segmenter, photo.name, name, mask) for name, mask in zip(photo.names, photo.masks)]


def _trial(tool: str, segmenter: BoxSegmenter, picture: str, name: str, mask: BoolMask) -> Trial:
    truth = mask[None]
    clicked, coords = _corrected(truth, 5, None, segmenter.clicks)
    box = boxes_of(truth)
    boxed = segmenter.boxes(box)
    mended, _ = _corrected(truth, 2, boxed, partial(segmenter.box_clicks, box))
    found = {f"click_{k}": clicked[k - 1].chosen[0] for k in (1, 3, 5)}
    found |= {"box": boxed.chosen[0], "box_clicks_2": mended[-1].chosen[0]}
    ious = {key: float(masks_iou(found[key], mask)) for key in found}
    ious["best_of_3"] = float(masks_iou(clicked[0].offered[0], truth).max())
    return Trial(tool, picture, name, int(mask.sum()), {key: ious[key] for key in PROMPTS}, found, coords[0])


def _corrected(
    truth: BoolMasks,
    count: int,
    before: Guess | None,
    ask: Callable[[NDArray[np.float32], NDArray[np.int32], Any], Guess],
) -> tuple[list[Guess], NDArray[np.float32]]:
    """Guesses after each of `count` clicks, each made where the guess before errs most, and the clicks."""
    guesses: list[Guess] = []
    coords = np.zeros((len(truth), 0, 2), dtype=np.float32)
    labels = np.zeros((len(truth), 0), dtype=np.int32)
    for _ in range(count):
        point, label = next_clicks(truth, None if before is None else before.chosen)
        coords, labels = np.concatenate([coords, point], 1), np.concatenate([labels, label], 1)
        before = ask(coords, labels, None if before is None else before.state)
        guesses.append(before)
    return guesses, coords


def model_segmenter(
    model: str | None, checkpoint: str | None, device: str | None, dtype: torch.dtype | None = None
) -> BoxSegmenter:
    """SAM 2 by name, by checkpoint (which names its configuration), or by configuration and checkpoint."""
    config, weights = resolve_model(model or checkpoint)
    built = build_sam2(config, checkpoint or weights, device=device)
    return Sam2Segmenter(SAM2ImagePredictor(built, dtype=dtype))
