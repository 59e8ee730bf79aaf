"""CVAT 1.1: XML for images (shapes on each) and for video (tracks).

CVAT tracks no masks: in its own video files a mask is a track of one frame, and on import becomes a shape of
that frame. A polygon track holds one polygon a frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from sam2.formats.choices import CvatOptions
from sam2.formats.frames import FrameMasks, Source
from sam2.formats.streams import StreamedText
from sam2.masks.colors import to_hex
from sam2.masks.cvat import mask_attributes, points_attribute
from sam2.masks.inputs import Mask
from sam2.masks.polygons import bridge, mask_to_polygons

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def quoted(text: object) -> str:
    """An attribute's value with its quotes; characters that XML cannot hold become ``?``."""
    entities = {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
    return '"' + escape(_NOT_XML.sub("?", str(text)), entities) + '"'


def _element(name: str, **attributes: object) -> str:
    return f"<{name} " + " ".join(f"{key}={quoted(value)}" for key, value in attributes.items()) + "/>"


class _Cvat(StreamedText):
    """The head of both kinds, and shapes."""

    mode: str

    def __init__(self, path: Path, source: Source, options: CvatOptions) -> None:
        super().__init__(path, source)
        self._tolerance = options.tolerance
        height, width = source.size
        labels = "".join(
            f"<label><name>{escape(_NOT_XML.sub('?', name))}</name>"
            f"<color>{to_hex(color)}</color><type>any</type><attributes/></label>"
            for name, color in source.class_colors.items()
        )
        self.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>'
            f"<name>{escape(_NOT_XML.sub('?', source.file_name))}</name><size>{source.frames}</size>"
            f"<mode>{self.mode}</mode><overlap>0</overlap><flipped>False</flipped><labels>{labels}</labels>"
            f"<original_size><width>{width}</width><height>{height}</height></original_size>"
            "</task></meta>\n"
        )

    def finish(self) -> None:
        self.write("</annotations>\n")
        self.close()


class _Images(_Cvat):
    """An ``<image>`` a frame; the parts of one object share its id as their group."""

    mode = "annotation"

    def __init__(self, path: Path, source: Source, options: CvatOptions) -> None:
        super().__init__(path, source, options)
        self._polygons = options.shapes == "polygons"

    def add(self, frame: FrameMasks) -> None:
        height, width = self.source.size
        file_name = quoted(frame.file_name)
        self.write(f'<image id="{frame.index}" name={file_name} width="{width}" height="{height}">\n')
        for order, (object_id, found) in enumerate(frame.objects.items()):
            common = {
                "label": self.source.class_name(object_id),
                "source": "auto",
                "occluded": 0,
                "z_order": order,
                "group_id": object_id,
            }
            for name, shape in self._shapes(found.mask):
                self.write(_element(name, **common, **shape) + "\n")
        self.write("</image>\n")

    def _shapes(self, mask: Mask) -> Iterator[tuple[str, dict[str, str]]]:
        if self._polygons:
            for polygon in mask_to_polygons(mask, self._tolerance):
                yield "polygon", {"points": points_attribute(bridge([polygon]))}
        elif (attributes := mask_attributes(mask)) is not None:
            yield "mask", attributes


class _MaskTracks(_Cvat):
    """A track of one frame for each mask."""

    mode = "interpolation"

    def __init__(self, path: Path, source: Source, options: CvatOptions) -> None:
        super().__init__(path, source, options)
        self._tracks = 0

    def add(self, frame: FrameMasks) -> None:
        for order, (object_id, found) in enumerate(frame.objects.items()):
            shape = mask_attributes(found.mask)
            if shape is None:
                continue
            label = quoted(self.source.class_name(object_id))
            element = _element(
                "mask", frame=frame.index, keyframe=1, outside=0, occluded=0, z_order=order, **shape
            )
            group = f'group_id="{object_id}"'
            self.write(f'<track id="{self._tracks}" label={label} source="auto" {group}>{element}</track>\n')
            self._tracks += 1


class _PolygonTracks(_Cvat):
    """A track an object; where it leaves, its last polygon is marked as outside."""

    mode = "interpolation"

    def __init__(self, path: Path, source: Source, options: CvatOptions) -> None:
        super().__init__(path, source, options)
        self._shown: dict[int, tuple[int, str]] = {}

    def add(self, frame: FrameMasks) -> None:
        seen: dict[int, tuple[int, str]] = {}
        for object_id, found in frame.objects.items():
            self.source.name(object_id)
            polygons = mask_to_polygons(found.mask, self._tolerance)
            if polygons:
                seen[object_id] = (frame.index, points_attribute(bridge(polygons)))
        for object_id, (last, points) in self._shown.items():
            if seen.get(object_id, (None,))[0] != last + 1:
                self._append(object_id, last + 1, points, outside=1)
        for object_id, (index, points) in seen.items():
            self._append(object_id, index, points, outside=0)
        self._shown = seen

    def _append(self, object_id: int, index: int, points: str, outside: int) -> None:
        shape = _element(
            "polygon", frame=index, keyframe=1, outside=outside, occluded=0, z_order=0, points=points
        )
        self.spool.append(object_id, shape + "\n")

    def finish(self) -> None:
        for object_id, (last, points) in self._shown.items():
            if last + 1 < self.source.frames:
                self._append(object_id, last + 1, points, outside=1)
        for track, object_id in enumerate(key for key in self.source.objects if key in self.spool):
            label = quoted(self.source.class_name(object_id))
            self.write(f'<track id="{track}" label={label} source="auto" group_id="{object_id}">\n')
            self.write_joined(self.spool.pieces(object_id), "")
            self.write("</track>\n")
        super().finish()


def open_cvat(path: Path, source: Source, options: CvatOptions) -> _Cvat:
    """The writer for what was chosen."""
    if not source.is_video or options.video == "images":
        return _Images(path, source, options)
    return (_MaskTracks if options.shapes == "masks" else _PolygonTracks)(path, source, options)
