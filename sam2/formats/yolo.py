"""A YOLO segmentation data set: pictures, labels, and data.yaml."""

from __future__ import annotations

import io
from pathlib import Path

import yaml
from PIL import Image

from sam2.formats.choices import YoloOptions
from sam2.formats.frames import FrameMasks, Source
from sam2.formats.stills import Files
from sam2.masks import yolo
from sam2.masks.files import write_bytes

_SPLIT = "train"


class Yolo(Files):
    """yolo/labels/train/FRAME.txt beside yolo/images/train/FRAME.jpg, and yolo/data.yaml."""

    def __init__(self, root: Path, source: Source, options: YoloOptions) -> None:
        super().__init__(root, source, options)
        self._options = options

    def add(self, frame: FrameMasks) -> None:
        lines = [
            line + "\n" for object_id in frame.objects if (line := self._line(frame, object_id)) is not None
        ]
        write_bytes(self.root / "labels" / _SPLIT / f"{frame.name}.txt", "".join(lines).encode())
        kind = self._options.pictures
        if kind != "none":
            encoded = io.BytesIO()
            picture = Image.fromarray(self.source.picture(frame.index))
            picture.save(encoded, "JPEG" if kind == "jpg" else "PNG", quality=95)
            write_bytes(self.root / "images" / _SPLIT / f"{frame.name}.{kind}", encoded.getvalue())

    def _line(self, frame: FrameMasks, object_id: int) -> str | None:
        class_id = self.source.class_of(object_id)
        return yolo.to_line(frame.objects[object_id].mask, class_id, self._options.tolerance)

    def finish(self) -> None:
        # Without `path`, what it says is relative to the file itself. Both splits must be named.
        data = {
            "train": f"images/{_SPLIT}",
            "val": f"images/{_SPLIT}",
            "names": dict(enumerate(self.source.classes)),
        }
        text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
        write_bytes(self.root / "data.yaml", text.encode())
