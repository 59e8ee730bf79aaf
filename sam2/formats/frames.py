"""What an export is made from: the source, its objects, and what was found on each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2.masks import rle
from sam2.masks.colors import Color, object_color
from sam2.masks.inputs import Mask

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of one object apart from its masks."""

    name: str | None = None
    category: str | None = None
    """Its class in data sets; its name where None."""
    color: Color | None = None
    """RGB; that of ``object_color`` where None."""


@dataclass(frozen=True)
class Marks:
    """What was pointed at on one frame, to be drawn into overlays."""

    points: npt.NDArray | None = None
    """[N, 2], x and y in pixels."""
    point_labels: npt.NDArray | None = None
    """[N], 1 on the object, 0 off it."""
    box: npt.NDArray | None = None
    """[4], x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Source:
    """What the masks are of. Every object of every frame stands in ``objects``, in the order of classes."""

    picture: Callable[[int], Picture]
    """The picture of a frame by its index, uint8 [H, W, 3] RGB."""
    size: tuple[int, int]
    """(height, width)"""
    is_video: bool
    objects: Mapping[int, ObjectInfo]
    file_name: str = "picture.png"
    """Of the picture or video, as annotation files name it."""
    frames: int = 1
    """Frames of the whole source."""
    fps: float = 25.0
    timestamps: npt.NDArray[np.float64] | None = None
    """Seconds of the frames to be exported; their mean distance is the frame rate of videos written."""
    sound: Path | None = None
    """The file whose sound goes into MP4 files."""
    marks: Mapping[int, Sequence[Marks]] = field(default_factory=dict)
    """What was pointed at, by frame."""
    label_objects: bool = True
    """Write each object's name or id into overlays of several objects."""
    candidates: bool = False
    """The objects of a picture are answers to one question, of which one is to be chosen."""

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes: categories, else names; "object" for objects without."""
        return list(dict.fromkeys(self.class_name(key) for key in self.objects)) or ["object"]

    @cached_property
    def class_colors(self) -> dict[str, Color]:
        """The colour of each class: that of its first object."""
        colors: dict[str, Color] = {}
        for object_id in self.objects:
            colors.setdefault(self.class_name(object_id), self.color(object_id))
        return colors or {self.classes[0]: object_color(1)}

    def class_name(self, object_id: int) -> str:
        """The class of an object."""
        info = self._info(object_id)
        return info.category or info.name or "object"

    def class_of(self, object_id: int) -> int:
        """Index into ``classes``."""
        return self.classes.index(self.class_name(object_id))

    def name(self, object_id: int) -> str:
        """What people call the object: its name or its id."""
        return self._info(object_id).name or str(object_id)

    def color(self, object_id: int) -> Color:
        """RGB."""
        return self._info(object_id).color or object_color(object_id)

    def _info(self, object_id: int) -> ObjectInfo:
        try:
            return self.objects[object_id]
        except KeyError:
            known = ", ".join(map(str, self.objects)) or "none"
            raise ValueError(f"object {object_id} is not among the source's objects: {known}") from None


@dataclass(frozen=True)
class Found:
    """One object on one frame; its mask is kept as RLE, so that thousands can be held."""

    rle: rle.RLE
    predicted_iou: float
    """The model's own estimate of the mask's IoU."""
    presence: float | None
    """The model's probability that the object is there at all; None where it was not asked."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further entries for result.json."""

    @classmethod
    def of(cls, mask: Mask, predicted_iou: float, presence: float | None, **extra: Any) -> Found:
        """From a mask bool [H, W]."""
        return cls(rle.encode_compressed(mask), predicted_iou, presence, extra)

    @property
    def mask(self) -> Mask:
        """bool [H, W], decoded at each call."""
        return rle.decode(self.rle)

    @cached_property
    def area(self) -> int:
        """Pixels."""
        return rle.area(self.rle)

    @cached_property
    def box(self) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1), x1 and y1 exclusive; None of an empty mask."""
        x, y, width, height = rle.to_xywh(self.rle)
        return (x, y, x + width, y + height) if width else None

    def to_json(self, object_id: int) -> dict[str, Any]:
        """The entry of result.json."""
        return {
            "id": object_id,
            "area": self.area,
            "box": None if self.box is None else list(self.box),
            "predicted_iou": round(self.predicted_iou, 4),
            "presence": None if self.presence is None else round(self.presence, 4),
            **self.extra,
        }


@dataclass(frozen=True)
class FrameMasks:
    """All objects on one frame."""

    index: int
    file_name: str
    """What annotation files call the frame's picture."""
    time: float | None
    """Seconds from the start of the video; None of a picture."""
    objects: Mapping[int, Found]
    labels: npt.NDArray[np.uint8] | None = None
    """Ids [H, W] where each pixel belongs to one object, where the model decided it by its logits."""

    def union(self, size: tuple[int, int]) -> Mask:
        """The pixels of any object, bool [H, W] of ``size`` (height, width)."""
        whole = np.zeros(size, dtype=np.bool_)
        for found in self.objects.values():
            whole |= found.mask
        return whole

    @property
    def name(self) -> str:
        """What the files made from this frame are called, without ending."""
        return Path(self.file_name).stem

    def to_json(self) -> dict[str, Any]:
        """The entry of result.json."""
        return {
            "frame": self.index,
            **({} if self.time is None else {"time": round(self.time, 6)}),
            "objects": [found.to_json(object_id) for object_id, found in self.objects.items()],
        }
