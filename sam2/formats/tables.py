"""CSV: a row for each object on each frame."""

from __future__ import annotations

import csv
from pathlib import Path

from sam2.formats.frames import FrameMasks, Source
from sam2.formats.options import Options
from sam2.formats.streams import StreamedText

COLUMNS = (
    "frame", "time", "file", "object", "name", "category", "area", "x0", "y0", "x1", "y1",
    "predicted_iou", "presence",
)  # fmt: skip


class Table(StreamedText):
    """masks.csv; an empty mask has area 0 and no box."""

    def __init__(self, path: Path, source: Source, _options: Options) -> None:
        super().__init__(path, source)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def add(self, frame: FrameMasks) -> None:
        for object_id, found in frame.objects.items():
            self._rows.writerow(
                (
                    frame.index,
                    "" if frame.time is None else f"{frame.time:.6f}",
                    frame.file_name,
                    object_id,
                    self.source.name(object_id),
                    self.source.class_name(object_id),
                    found.area,
                    *(found.box or ("",) * 4),
                    f"{found.predicted_iou:.4f}",
                    "" if found.presence is None else f"{found.presence:.4f}",
                )
            )

    def finish(self) -> None:
        self.close()
