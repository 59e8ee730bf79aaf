"""Writers of the output formats: each takes frame after frame, and makes one entry of the output folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam2.cli.results import FrameMasks
from sam2.masks import coco, png, yolo
from sam2.masks.files import write_bytes
from sam2.masks.overlay import overlay
from sam2.masks.sheets import sheet
from sam2.prompts.files import FramePrompt
from sam2.video import VideoSink

Picture = npt.NDArray[np.uint8]
MAX_LABELS = 255
_OVERLAY_AT_A_TIME = 16


@dataclass(frozen=True)
class Source:
    """What the masks are of."""

    picture: Callable[[int], Picture]
    """The picture of a frame by its index, uint8 [H, W, 3]."""
    size: tuple[int, int]
    """(height, width)"""
    is_video: bool
    names: Mapping[int, str]
    """The names of the objects that have one."""
    prompts: Mapping[int, Sequence[FramePrompt]]
    """What was pointed at, by frame."""
    label_ids: bool = True
    """Write each object's name or id into overlays of several objects."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes: those of the objects, "object" for those without."""
        return list(dict.fromkeys(self.names.values())) or ["object"]

    def class_of(self, object_id: int) -> int:
        """Index into `classes`."""
        name = self.names.get(object_id)
        return 0 if name is None else self.classes.index(name)


class Format(Protocol):
    """Writes one format.

    `in_order`: frames must come by rising index. `close` ends early; what was written is thrown away.
    """

    in_order: bool

    def add(self, frame: FrameMasks) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class _Files:
    """A format of separate files, which are whole as they come."""

    in_order = False

    def __init__(self, root: Path, source: Source) -> None:
        self.root = root
        self.source = source

    def finish(self) -> None:
        return None

    def close(self) -> None:
        return None

    def _path(self, frame: FrameMasks, object_id: int) -> Path:
        """root/ID/FRAME.png of a video, root/ID.png of a picture."""
        parts = (str(object_id), frame.name) if self.source.is_video else (str(object_id),)
        return self.root.joinpath(*parts[:-1], f"{parts[-1]}.png")


class Davis(_Files):
    """Indexed PNG: davis/FRAME.png of a video, davis.png of a picture."""

    def add(self, frame: FrameMasks) -> None:
        labels = frame.labels
        if labels is None:
            labels = np.zeros(self.source.size, dtype=np.uint8)
            best_last = sorted(frame.objects, key=lambda key: frame.objects[key].predicted_iou)
            for object_id in best_last[-MAX_LABELS:]:
                labels[frame.objects[object_id].mask] = object_id
        path = self.root / f"{frame.name}.png" if self.source.is_video else self.root
        write_bytes(path, png.encode_indexed_png(labels))


class BinaryPng(_Files):
    """Grey PNG per object."""

    def add(self, frame: FrameMasks) -> None:
        for object_id, found in frame.objects.items():
            png.write_binary_png(self._path(frame, object_id), found.mask)


class CutOut(_Files):
    """PNG with alpha per object."""

    def add(self, frame: FrameMasks) -> None:
        picture = self.source.picture(frame.index)
        for object_id, found in frame.objects.items():
            png.write_cut_out(self._path(frame, object_id), picture, found.mask)


class Yolo(_Files):
    """yolo/FRAME.txt, and the names of the classes in yolo/classes.txt."""

    def add(self, frame: FrameMasks) -> None:
        lines = [
            line + "\n"
            for object_id, found in frame.objects.items()
            if (line := yolo.to_line(found.mask, self.source.class_of(object_id))) is not None
        ]
        write_bytes(self.root / f"{frame.name}.txt", "".join(lines).encode())

    def finish(self) -> None:
        text = "".join(f"{name}\n" for name in self.source.classes)
        write_bytes(self.root / "classes.txt", text.encode())


class Coco(_Files):
    """One COCO data set of all frames."""

    in_order = True

    def __init__(self, root: Path, source: Source) -> None:
        super().__init__(root, source)
        self._data = coco.CocoDataset(dict(enumerate(source.classes, start=1)), "masks by sam2")

    def add(self, frame: FrameMasks) -> None:
        height, width = self.source.size
        image_id = self._data.add_image(frame.file_name, width, height)
        for object_id, found in frame.objects.items():
            if found.area:
                extra = {"object_id": object_id, "score": round(found.predicted_iou, 4)}
                category = self.source.class_of(object_id) + 1
                self._data.add_annotation(image_id, found.mask, category, extra=extra)

    def finish(self) -> None:
        self._data.write(self.root)


class OverlayPicture(_Files):
    """overlay.png of a picture; of several candidates for one object, a sheet with one beside the other."""

    def __init__(self, root: Path, source: Source, candidates: bool) -> None:
        super().__init__(root, source)
        self._candidates = candidates

    def add(self, frame: FrameMasks) -> None:
        if self._candidates:
            pictures = [drawn(self.source, frame, [object_id]) for object_id in frame.objects]
            captions = [
                f"{object_id}: predicted IoU {found.predicted_iou:.2f}"
                for object_id, found in frame.objects.items()
            ]
            width = min(640, self.source.size[1])
            picture = sheet(pictures, captions, columns=len(pictures), cell_width=width)
        else:
            picture = drawn(self.source, frame, list(frame.objects))
        write_bytes(self.root, _encoded(picture))


class OverlayVideo:
    """overlay.mp4, with the times of the source's frames and its sound."""

    in_order = True

    def __init__(
        self, root: Path, source: Source, timestamps: npt.NDArray[np.float64], sound: Path | None
    ) -> None:
        self.source = source
        self._sink = VideoSink(root, timestamps=timestamps, audio_from=sound)

    def add(self, frame: FrameMasks) -> None:
        self._sink.write(drawn(self.source, frame, list(frame.objects)), frame.time)

    def finish(self) -> None:
        self._sink.finish()

    def close(self) -> None:
        self._sink.abort()


def _encoded(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def drawn(source: Source, frame: FrameMasks, object_ids: Sequence[int]) -> Picture:
    """The picture of a frame with some objects and what was pointed at; large masks below small ones."""
    picture = source.picture(frame.index)
    below_first = sorted(object_ids, key=lambda key: -frame.objects[key].area)
    labels: dict[int, str] = {}
    if source.label_ids and (len(object_ids) > 1 or source.names):
        labels = {object_id: source.names.get(object_id, str(object_id)) for object_id in object_ids}
    for start in range(0, len(below_first), _OVERLAY_AT_A_TIME):
        some = {key: frame.objects[key].mask for key in below_first[start : start + _OVERLAY_AT_A_TIME]}
        picture = overlay(picture, some, labels=labels)
    for prompt in source.prompts.get(frame.index, ()):
        picture = overlay(
            picture,
            {},
            points=None if prompt.points is None else prompt.points.coords,
            point_labels=None if prompt.points is None else prompt.points.labels,
            boxes=None if prompt.box is None else prompt.box.array,
        )
    return picture
