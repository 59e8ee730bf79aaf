"""What was found on one picture or frame, and result.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2 import __version__
from sam2.masks import rle
from sam2.masks.files import write_bytes
from sam2.masks.inputs import Mask


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

    @property
    def area(self) -> int:
        """Pixels."""
        return rle.area(self.rle)

    def to_json(self, object_id: int) -> dict[str, Any]:
        """The entry of result.json."""
        x, y, width, height = rle.to_xywh(self.rle)
        return {
            "id": object_id,
            "area": self.area,
            "box": [x, y, x + width, y + height] if width else None,
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
    objects: dict[int, Found]
    labels: npt.NDArray[np.uint8] | None = None
    """Ids [H, W] where each pixel belongs to one object, where the model decided it by its logits."""

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


class ResultFile:
    """result.json: what was asked of which model, and what was found, a frame a line."""

    def __init__(self, verb: str, details: Mapping[str, Any]) -> None:
        self.head: dict[str, Any] = {"sam2": __version__, "command": verb, **details}
        self._frames: list[tuple[int, str]] = []

    def add(self, frame: FrameMasks) -> None:
        """Frames may come in any order, each once."""
        self._frames.append((frame.index, json.dumps(frame.to_json(), allow_nan=False)))

    def write(self, path: Path, interrupted: bool) -> None:
        """Writes the file."""
        head = json.dumps({**self.head, "interrupted": interrupted}, indent=2, allow_nan=False)
        frames = ",\n    ".join(text for _, text in sorted(self._frames))
        write_bytes(path, f'{head[:-2]},\n  "frames": [\n    {frames}\n  ]\n}}\n'.encode())
