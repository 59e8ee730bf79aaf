"""COCO JSON: a data set with an image a frame, or YouTube-VIS with an annotation an object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam2.formats.choices import CocoOptions
from sam2.formats.frames import Found, FrameMasks, Source
from sam2.formats.streams import StreamedText, to_json
from sam2.masks import coco, rle

_IMAGES = -1  # keys of the spool that are no object ids
_NAMES = -2


class _Annotated(StreamedText):
    """What both kinds have in common."""

    def __init__(self, path: Path, source: Source, options: CocoOptions) -> None:
        super().__init__(path, source)
        self._options = options
        self._frames = 0
        self._annotations = 0
        self.write('{"info":{"description":"masks by sam2"},"licenses":[],"annotations":[')

    def _segmentation(self, found: Found) -> Any:
        if self._options.segmentation == "rle":
            return rle.compress(found.rle)
        return coco.to_segmentation(found.mask, "polygons", self._options.tolerance)

    def _annotate(self, fields: str) -> None:
        self._annotations += 1
        self.write(f'{"," if self._annotations > 1 else ""}\n{{"id":{self._annotations},{fields[1:]}')

    def _write_categories(self) -> None:
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in enumerate(self.source.classes, start=1)
        ]
        self.write(f',"categories":{to_json(categories)}}}\n')


class _Images(_Annotated):
    """An image a frame, an annotation for each object that is there."""

    def add(self, frame: FrameMasks) -> None:
        self._frames += 1
        height, width = self.source.size
        image = {"id": self._frames, "file_name": frame.file_name, "width": width, "height": height}
        self.spool.append(_IMAGES, to_json(image))
        for object_id, found in frame.objects.items():
            if found.box is None:
                continue
            x0, y0, x1, y1 = found.box
            annotation = {
                "image_id": self._frames,
                "category_id": self.source.class_of(object_id) + 1,
                "segmentation": self._segmentation(found),
                "area": found.area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "object_id": object_id,
                "object_name": self.source.name(object_id),
                "score": round(found.predicted_iou, 4),
            }
            self._annotate(to_json(annotation))

    def finish(self) -> None:
        self.write('],"images":[')
        self.write_joined(self.spool.pieces(_IMAGES), ",")
        self.write("]")
        self._write_categories()
        self.close()


class _Videos(_Annotated):
    """One video; an annotation an object, with a segmentation (or null) for every frame."""

    def add(self, frame: FrameMasks) -> None:
        self._frames += 1
        self.spool.append(_NAMES, to_json(frame.file_name))
        for object_id in self.source.objects:
            found = frame.objects.get(object_id)
            if found is None or found.box is None:
                piece = "null\nnull\nnull"
            else:
                x0, y0, x1, y1 = found.box
                segmentation = to_json(self._segmentation(found))
                piece = f"{segmentation}\n{to_json([x0, y0, x1 - x0, y1 - y0])}\n{found.area}"
            self.spool.append(object_id, piece)
        for object_id in frame.objects:
            self.source.name(object_id)  # refuses an object that was not announced

    def finish(self) -> None:
        height, width = self.source.size
        for object_id in self.source.objects:
            if all(area == "null" for area in self._column(object_id, 2)):
                continue
            head = {
                "video_id": 1,
                "category_id": self.source.class_of(object_id) + 1,
                "iscrowd": 0,
                "width": width,
                "height": height,
                "length": self._frames,
                "object_id": object_id,
                "object_name": self.source.name(object_id),
            }
            self._annotate(to_json(head)[:-1])
            for column, key in enumerate(("segmentations", "bboxes", "areas")):
                self.write(f',"{key}":[')
                self.write_joined(self._column(object_id, column), ",")
                self.write("]")
            self.write("}")
        video = {"id": 1, "width": width, "height": height, "length": self._frames}
        self.write(f'],"videos":[{to_json(video)[:-1]},"file_names":[')
        self.write_joined(self.spool.pieces(_NAMES), ",")
        self.write("]}]")
        self._write_categories()
        self.close()

    def _column(self, object_id: int, column: int) -> Iterator[str]:
        return (piece.split("\n")[column] for piece in self.spool.pieces(object_id))


def open_coco(path: Path, source: Source, options: CocoOptions) -> _Images | _Videos:
    """The writer for what was chosen; a picture is always an image."""
    return (_Videos if source.is_video and options.video == "ytvis" else _Images)(path, source, options)
