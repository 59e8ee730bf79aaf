"""A session on disk: a log of events, which is the truth, and what was computed from it, which may be lost.

`log.jsonl` holds an event a line, each synced before its answer is given. `results.jsonl` and `results.bin`
hold what the model answered to some of them, with checksums; without them the events are replayed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sam2.studio.document import Result

VERSION = 1


class LogError(ValueError):
    """A file that is no session's log."""


class JsonLines:
    """A file of JSON lines, each with a checksum; a torn last line is cut off at opening."""

    def __init__(self, path: Path, sync: bool) -> None:
        self.path = path
        self._sync = sync
        self.lines = list(self._read())
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the session

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        good = 0
        with open(self.path, "rb") as file:
            for line in file:
                value = _parsed(line)
                if value is None:
                    break
                good += len(line)
                yield value
        if good < self.path.stat().st_size:
            os.truncate(self.path, good)

    def append(self, value: Mapping[str, Any]) -> None:
        """Adds a line; when this returns, it is on the disk.

        Raises:
            OSError: the disk is full; the file is as it was.
        """
        text = json.dumps(value, separators=(",", ":"))
        line = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(28, "the disk is full", str(self.path))
            if self._sync:
                os.fsync(self._file.fileno())
        except OSError:
            os.truncate(self.path, size)
            raise

    def close(self) -> None:
        self._file.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    text = line[9:-1]
    try:
        if int(line[:8], 16) != zlib.crc32(text):
            return None
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class EventLog:
    """The events of one session, and the results that belong to them by number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._events = JsonLines(folder / "log.jsonl", sync=True)
        self._open_results()

    def _open_results(self) -> None:
        self._results = JsonLines(self.folder / "results.jsonl", sync=False)
        self._records = open(self.folder / "results.bin", "a+b", buffering=0)  # noqa: SIM115
        self._size = os.fstat(self._records.fileno()).st_size

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was in the log when it was opened."""
        return self._events.lines

    def forget_lines(self) -> None:
        """Lets go of what was read at opening."""
        self._events.lines, self._results.lines = [], []

    def results(self) -> dict[int, dict[int, Result]]:
        """Results by number of their event and by object, those whose records are whole."""
        found = {}
        for line in self._results.lines:
            parts = {int(obj): Result.from_json(values) for obj, values in line["objects"].items()}
            if all(part.record[0] + part.record[1] <= self._size for part in parts.values()):
                found[line["seq"]] = parts
        return found

    def append(self, event: Mapping[str, Any]) -> None:
        """Adds an event; it is on the disk when this returns."""
        self._events.append(event)

    def put_record(self, record: bytes) -> tuple[int, int, int]:
        """Keeps what the model needs to go on; returns address, length and checksum."""
        address = self._size
        written = self._records.write(record)
        if written != len(record):
            os.truncate(self.folder / "results.bin", address)
            raise OSError(28, "the disk is full", str(self.folder / "results.bin"))
        self._size += len(record)
        return address, len(record), zlib.crc32(record)

    def get_record(self, place: tuple[int, int, int]) -> bytes:
        """A record.

        Raises:
            LogError: it is damaged.
        """
        address, length, checksum = place
        record = os.pread(self._records.fileno(), length, address)
        if zlib.crc32(record) != checksum or len(record) != length:
            raise LogError(f"{self.folder / 'results.bin'} is damaged at byte {address}")
        return record

    def put_results(self, seq: int, results: Mapping[int, Result]) -> None:
        """Keeps the results of an event, before the event itself is kept."""
        self._results.append({"seq": seq, "objects": {obj: r.to_json() for obj, r in results.items()}})

    def forget_results(self) -> None:
        """Drops everything that can be computed again."""
        self._results.close()
        self._records.close()
        for name in ("results.jsonl", "results.bin"):
            (self.folder / name).unlink(missing_ok=True)
        self._open_results()

    def close(self) -> None:
        """Lets the files go."""
        self._events.close()
        self._results.close()
        self._records.close()
