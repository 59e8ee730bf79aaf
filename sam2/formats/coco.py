"""COCO JSON."""

from __future__ import annotations

from pathlib import Path

from sam2.formats.frames import FrameMasks, Source
from sam2.formats.options import Options
from sam2.formats.stills import Files
from sam2.masks import coco


class Coco(Files):
    """One COCO data set of all frames."""

    in_order = True

    def __init__(self, root: Path, source: Source, options: Options) -> None:
        super().__init__(root, source, options)
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
