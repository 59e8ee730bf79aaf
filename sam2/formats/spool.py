"""Pieces of text kept on disk until they can be written in another order."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path


class Spool:
    """Pieces by key in a hidden file beside the output: memory holds two numbers a piece.

    Args:
        folder: where the file is made; made itself where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._places: dict[int, array[int]] = {}

    def append(self, key: int, text: str) -> None:
        """Add a piece to those of a key."""
        data = text.encode()
        at = self._file.seek(0, 2)
        self._file.write(data)
        self._places.setdefault(key, array("Q")).extend((at, len(data)))

    def pieces(self, key: int) -> Iterator[str]:
        """The pieces of a key, in the order in which they came."""
        places = self._places.get(key, ())
        for at, length in zip(places[::2], places[1::2]):
            self._file.seek(at)
            yield self._file.read(length).decode()

    def __contains__(self, key: int) -> bool:
        return key in self._places

    def close(self) -> None:
        """Delete the file; may be called again."""
        self._file.close()
