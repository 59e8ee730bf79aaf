"""Formats of separate pictures, which are whole as they come: indexed PNG, binary PNG, cut-outs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam2.formats.frames import FrameMasks, Source
from sam2.formats.options import Options
from sam2.masks import png
from sam2.masks.files import write_bytes

MAX_LABELS = 255


class Files:
    """A format of separate files."""

    in_order = False

    def __init__(self, root: Path, source: Source, _options: Options) -> None:
        self.root = root
        self.source = source

    def finish(self) -> None:
        """Every file is already in place."""

    def close(self) -> None:
        """Nothing is open."""

    def path(self, frame: FrameMasks, name: str) -> Path:
        """root/NAME/FRAME.png of a video, root/NAME.png of a picture."""
        parts = (name, frame.name) if self.source.is_video else (name,)
        return self.root.joinpath(*parts[:-1], f"{parts[-1]}.png")


class Davis(Files):
    """Indexed PNG: davis/FRAME.png of a video, davis.png of a picture. Ids above 255 are left out."""

    def add(self, frame: FrameMasks) -> None:
        labels = frame.labels
        if labels is None:
            labels = np.zeros(self.source.size, dtype=np.uint8)
            for object_id in sorted(frame.objects, key=lambda key: frame.objects[key].predicted_iou):
                if object_id <= MAX_LABELS:
                    labels[frame.objects[object_id].mask] = object_id
        path = self.root / f"{frame.name}.png" if self.source.is_video else self.root
        write_bytes(path, png.encode_indexed_png(labels))


class BinaryPng(Files):
    """Grey PNG per object."""

    def add(self, frame: FrameMasks) -> None:
        for object_id, found in frame.objects.items():
            png.write_binary_png(self.path(frame, str(object_id)), found.mask)
