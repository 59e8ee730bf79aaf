"""COCO JSON: detection results, and whole data sets with images, annotations and categories."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sam2.masks import geometry, rle
from sam2.masks.files import write_bytes
from sam2.masks.inputs import Mask, MaskSet, as_mask, as_masks
from sam2.masks.polygons import Polygon, as_ring, bridge, mask_to_polygons, polygons_to_mask

Segmentation: TypeAlias = Literal["rle", "polygons"]


def to_segmentation(
    mask: npt.ArrayLike, kind: Segmentation = "rle", tolerance: float = 0.0
) -> rle.RLE | list[list[float]]:
    """COCO ``segmentation`` of a mask: compressed RLE (exact), or a list of rings x0, y0, x1, y1, ...

    COCO's rings know no holes, so a ring with holes has them bridged in. ``tolerance`` (pixels) simplifies
    polygons. pycocotools rounds polygons in its own way, off by up to a pixel along edges; RLE is exact.

    Raises:
        ValueError: not a mask, or another ``kind``.
    """
    if kind == "rle":
        return rle.encode_compressed(mask)
    if kind == "polygons":
        polygons = mask_to_polygons(mask, tolerance)
        return [bridge([polygon]).ravel().tolist() for polygon in polygons]
    raise ValueError(f'a segmentation is "rle" or "polygons", not {kind!r}')


def from_segmentation(segmentation: Any, size: tuple[int, int]) -> Mask:
    """Mask ``bool [H, W]`` of a COCO ``segmentation``: RLE, plain or compressed, or rings.

    Raises:
        ValueError: malformed, or an RLE of another size than ``size`` (height, width).
    """
    if isinstance(segmentation, Mapping):
        return as_mask(rle.decode(segmentation), size)
    return polygons_to_mask([Polygon(as_ring(ring)) for ring in segmentation], size)


def results(
    image_id: int,
    masks: MaskSet,
    *,
    scores: Mapping[int, float] | None = None,
    category_ids: Mapping[int, int] | int = 1,
) -> list[dict[str, Any]]:
    """Entries of a COCO results file for one image, which ``COCO.loadRes`` reads; empty masks give none.

    Each has image_id, category_id, segmentation (compressed RLE), bbox, area, score (1 where none is given)
    and object_id, the key of the mask.
    """
    entries: list[dict[str, Any]] = []
    for object_id, mask in as_masks(masks).items():
        encoded = rle.encode_compressed(mask)
        if not (area := rle.area(encoded)):
            continue
        entries.append(
            {
                "image_id": image_id,
                "category_id": category_ids if isinstance(category_ids, int) else category_ids[object_id],
                "segmentation": encoded,
                "bbox": list(rle.to_xywh(encoded)),
                "area": area,
                "score": float(scores[object_id]) if scores is not None else 1.0,
                "object_id": object_id,
            }
        )
    return entries


class CocoDataset:
    """A COCO data set built up image by image; ids of images and annotations count from 1.

    Args:
        categories: names by id; one category, "object", by default.
        description: free text of the ``info`` field.
    """

    def __init__(self, categories: Mapping[int, str] | None = None, description: str = "") -> None:
        self.categories = dict(categories or {1: "object"})
        self.description = description
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add_image(self, file_name: str, width: int, height: int) -> int:
        """Add an image and return its id."""
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        return image_id

    def add_annotation(
        self,
        image_id: int,
        mask: npt.ArrayLike,
        category_id: int = 1,
        *,
        segmentation: Segmentation = "rle",
        tolerance: float = 0.0,
        crowd: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Add one object's mask to an image and return the annotation's id.

        Args:
            image_id: as ``add_image`` returned it.
            mask: ``[H, W]`` of the image's size, not empty.
            category_id: one of ``categories``.
            segmentation: "rle" or "polygons"; see ``to_segmentation``, also for ``tolerance``.
            crowd: mark a group of objects; COCO wants plain RLE for it, whatever ``segmentation`` says.
            extra: further fields, such as a score or an object id.

        Raises:
            ValueError: an unknown image or category, an empty mask, or one of another size.
        """
        if not 1 <= image_id <= len(self.images):
            raise ValueError(f"there is no image {image_id}: add it with add_image first")
        if category_id not in self.categories:
            raise ValueError(f"there is no category {category_id}; there are {sorted(self.categories)}")
        image = self.images[image_id - 1]
        array = as_mask(mask, (image["height"], image["width"]))
        box = geometry.mask_to_box(array)
        if box is None:
            raise ValueError(f"the mask for image {image_id} is empty: COCO has no annotation without pixels")
        self.annotations.append(
            {
                **(extra or {}),
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": category_id,
                "segmentation": rle.encode(array)
                if crowd
                else to_segmentation(array, segmentation, tolerance),
                "area": int(np.count_nonzero(array)),
                "bbox": list(geometry.box_to_xywh(box)),
                "iscrowd": int(crowd),
            }
        )
        return len(self.annotations)

    def to_dict(self) -> dict[str, Any]:
        """The data set as JSON-ready dictionaries."""
        return {
            "info": {"description": self.description},
            "licenses": [],
            "images": self.images,
            "annotations": self.annotations,
            "categories": [
                {"id": key, "name": name, "supercategory": ""} for key, name in self.categories.items()
            ],
        }

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the data set as JSON. Raises as ``files.atomic_path``."""
        return write_json(path, self.to_dict(), force=force)


def write_json(path: str | os.PathLike[str], content: Any, *, force: bool = False) -> Path:
    """Write JSON on one line, whole or not at all (NaN is refused). Raises as ``files.atomic_path``."""
    data = json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n"
    return write_bytes(path, data.encode(), force=force)
