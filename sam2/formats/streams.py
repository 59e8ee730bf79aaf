"""A text file that grows with the frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from sam2.formats.frames import Source
from sam2.formats.spool import Spool


def to_json(value: Any) -> str:
    """JSON on one line; NaN is refused."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class StreamedText:
    """Writes ``path`` piece by piece; what must wait goes into ``spool``."""

    in_order = True

    def __init__(self, path: Path, source: Source) -> None:
        self.source = source
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = open(path, "x", encoding="utf-8", newline="")  # noqa: SIM115
        self.spool = Spool(path.parent)

    def write(self, text: str) -> None:
        """Append to the file."""
        self._file.write(text)

    def write_joined(self, pieces: Iterable[str], separator: str) -> None:
        """Append pieces with something between them."""
        for number, piece in enumerate(pieces):
            self._file.write(separator + piece if number else piece)

    def close(self) -> None:
        """Close what is open."""
        try:
            self._file.close()  # on a full disk the rest cannot be written
        finally:
            self.spool.close()
