"""Label Studio import: tasks with brush or polygon regions, or boxes that follow objects through a video.

Label Studio has no masks in videos. A video becomes one task with a box an object (``videorectangle``), or a
task a frame with masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sam2 import __version__
from sam2.formats.choices import LabelStudioOptions
from sam2.formats.cvat import quoted
from sam2.formats.frames import Found, FrameMasks, Source
from sam2.formats.streams import StreamedText, to_json
from sam2.masks.colors import to_hex
from sam2.masks.files import write_bytes
from sam2.masks.labelstudio import encode_brush
from sam2.masks.polygons import bridge, mask_to_polygons


class _Tasks(StreamedText):
    """labelstudio/tasks.json, and the labelling interface to go with it, labelstudio/config.xml."""

    view: str
    """The interface around the labels, with ``{}`` for them."""

    def __init__(self, root: Path, source: Source, options: LabelStudioOptions) -> None:
        super().__init__(root / "tasks.json", source)
        self._root = root
        self._options = options
        self.write("[")

    def finish(self) -> None:
        self.write("\n]\n")
        self.close()
        labels = "".join(
            f"    <Label value={quoted(name)} background={quoted(to_hex(color))}/>\n"
            for name, color in self.source.class_colors.items()
        )
        write_bytes(self._root / "config.xml", self.view.format(labels).encode())

    def _head(self, file_name: str, kind: str) -> str:
        """A task up to its results."""
        prefix = self._options.prefix
        is_address = "?" in prefix or prefix.startswith(("http://", "https://"))
        head = to_json({"data": {kind: prefix + (quote(file_name) if is_address else file_name)}})[:-1]
        if self._options.results == "annotations":
            return f'{head},"annotations":[{{"result":['
        return f'{head},"predictions":[{{"model_version":{to_json(f"sam2 {__version__}")},"result":['


class _Frames(_Tasks):
    """A task a picture."""

    def __init__(self, root: Path, source: Source, options: LabelStudioOptions) -> None:
        super().__init__(root, source, options)
        self._tag = "PolygonLabels" if options.shapes == "polygons" else "BrushLabels"
        self.view = (
            '<View>\n  <Image name="image" value="$image"/>\n'
            f'  <{self._tag} name="label" toName="image">\n{{}}  </{self._tag}>\n</View>\n'
        )
        self._first = True

    def add(self, frame: FrameMasks) -> None:
        self.write("\n" if self._first else ",\n")
        self._first = False
        self.write(self._head(frame.file_name, "image"))
        self.write_joined(
            (
                to_json(self._region(frame.index, object_id, part, found, value))
                for object_id, found in frame.objects.items()
                for part, value in enumerate(self._values(found))
            ),
            ",",
        )
        self.write("]}]}")

    def _region(
        self, index: int, object_id: int, part: int, found: Found, value: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = self.source.size
        kind = self._tag.lower()
        return {
            "id": f"{index}-{object_id}-{part}",
            "type": kind,
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": round(found.predicted_iou, 4),
            "meta": {"text": [self.source.name(object_id)]},
            "value": {**value, kind: [self.source.class_name(object_id)]},
        }

    def _values(self, found: Found) -> Iterator[dict[str, Any]]:
        if found.box is None:
            return
        if self._options.shapes == "brush":
            yield {"format": "rle", "rle": encode_brush(found.mask)}
            return
        height, width = self.source.size
        for polygon in mask_to_polygons(found.mask, self._options.tolerance):
            percent = bridge([polygon]) * (100 / width, 100 / height)
            yield {"points": percent.round(4).tolist(), "closed": True}


class _Boxes(_Tasks):
    """One task with the video. A box holds until the next one while it is ``enabled``."""

    view = (
        '<View>\n  <Video name="video" value="$video"/>\n  <VideoRectangle name="box" toName="video"/>\n'
        '  <Labels name="label" toName="video">\n{}  </Labels>\n</View>\n'
    )

    def __init__(self, root: Path, source: Source, options: LabelStudioOptions) -> None:
        super().__init__(root, source, options)
        self._waiting: dict[int, dict[str, Any]] = {}
        self._scores: dict[int, float] = {}

    def add(self, frame: FrameMasks) -> None:
        height, width = self.source.size
        for object_id, found in frame.objects.items():
            self.source.name(object_id)
            if found.box is None:
                continue
            self._scores[object_id] = max(found.predicted_iou, self._scores.get(object_id, -math.inf))
            number = frame.index + 1  # frames count from 1
            before = self._waiting.get(object_id)
            if before is not None:
                self._append(object_id, enabled=before["frame"] == number - 1)
            x0, y0, x1, y1 = found.box
            self._waiting[object_id] = {
                "frame": number,
                "rotation": 0,
                "x": round(100 * x0 / width, 4),
                "y": round(100 * y0 / height, 4),
                "width": round(100 * (x1 - x0) / width, 4),
                "height": round(100 * (y1 - y0) / height, 4),
                "time": round(frame.time or 0.0, 6),
            }

    def _append(self, object_id: int, enabled: bool) -> None:
        self.spool.append(object_id, to_json({**self._waiting[object_id], "enabled": enabled}))

    def finish(self) -> None:
        source = self.source
        self.write("\n" + self._head(source.file_name, "video"))
        for number, object_id in enumerate(self._waiting):
            self._append(object_id, enabled=False)
            head = {
                "id": f"object-{object_id}",
                "type": "videorectangle",
                "from_name": "box",
                "to_name": "video",
                "score": round(self._scores[object_id], 4),
                "meta": {"text": [source.name(object_id)]},
            }
            value = {
                "framesCount": source.frames,
                "duration": round(source.frames / source.fps, 6),
                "labels": [source.class_name(object_id)],
            }
            self.write("," * bool(number))
            self.write(f'{to_json(head)[:-1]},"value":{to_json(value)[:-1]},"sequence":[')
            self.write_joined(self.spool.pieces(object_id), ",")
            self.write("]}}")
        self.write("]}]}")
        super().finish()


def open_labelstudio(root: Path, source: Source, options: LabelStudioOptions) -> _Tasks:
    """The writer for what was chosen."""
    boxes = source.is_video and options.video == "boxes"
    return (_Boxes if boxes else _Frames)(root, source, options)
