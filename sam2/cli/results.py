"""result.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2 import __version__
from sam2.formats.frames import FrameMasks
from sam2.masks.files import write_bytes


class ResultFile:
    """result.json: what was asked of which model, and what was found, a frame a line."""

    def __init__(self, verb: str, details: Mapping[str, Any]) -> None:
        self.head: dict[str, Any] = {"sam2": __version__, "command": verb, **details}
        self._frames: list[tuple[int, str]] = []

    def add(self, frame: FrameMasks) -> None:
        """Frames may come in any order, each once."""
        self._frames.append((frame.index, json.dumps(frame.to_json(), allow_nan=False)))

    def write(self, path: Path, interrupted: bool) -> None:
        """Writes the file."""
        head = json.dumps({**self.head, "interrupted": interrupted}, indent=2, allow_nan=False)
        frames = ",\n    ".join(text for _, text in sorted(self._frames))
        write_bytes(path, f'{head[:-2]},\n  "frames": [\n    {frames}\n  ]\n}}\n'.encode())
