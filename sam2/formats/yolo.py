"""YOLO segmentation labels."""

from __future__ import annotations

from sam2.formats.frames import FrameMasks
from sam2.formats.stills import Files
from sam2.masks import yolo
from sam2.masks.files import write_bytes


class Yolo(Files):
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
