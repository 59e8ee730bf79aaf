"""A session on disk: a log of events, which is the truth, and what was computed from it, which may be lost.

`log.jsonl` holds an event a line, each synced before its answer is given. `results.jsonl` and `results.bin`
hold what the model answered to some of them, with checksums; without them the events are replayed.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam2.studio.document import Result

VERSION = 1
RECORDS = "results.bin"
"""The file of records, where the first line of `results.jsonl` names no other."""
NOWHERE = (0, 0, 0)
"""The place of a record that was dropped."""
COMPACT = 8 * 2**20
"""Bytes of records that nothing refers to from which on they may be dropped."""

Place = tuple[int, int, int]
"""Address, length and checksum of a record."""


class LogError(ValueError):
    """A file that is no session's log."""


class JsonLines:
    """A file of JSON lines, each with a checksum; a torn last line is cut off at opening.

    No file stays open: there may be hundreds of sessions.
    """

    def __init__(self, path: Path, sync: bool) -> None:
        self.path = path
        self._sync = sync
        self.lines = list(self._read())

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
        _append(self.path, _line(value), self._sync)

    def replace(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Puts other lines in the place of all, at one moment.

        Raises:
            OSError: the disk is full; the file is as it was.
        """
        aside = self.path.with_suffix(".part")
        try:
            with open(aside, "wb") as file:
                file.writelines(map(_line, values))
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, self.path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _append(path: Path, content: bytes, sync: bool) -> int:
    """Adds bytes to a file, all or none; returns where they begin."""
    with open(path, "ab", buffering=0) as file:
        address = file.tell()
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, "the disk is full", str(path))
            if sync:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(address)
            raise
    return address


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
        self._results = JsonLines(folder / "results.jsonl", sync=False)
        lines = self._results.lines
        self._records = folder / (lines.pop(0)["records"] if lines and "records" in lines[0] else RECORDS)
        for other in (*folder.glob("results*.bin"), *folder.glob("*.part")):
            if other != self._records:  # a kill left it
                other.unlink()

    @staticmethod
    def first_event(folder: Path) -> dict[str, Any] | None:
        """The first event of a session, without reading the others; None where there is none."""
        try:
            with open(folder / "log.jsonl", "rb") as file:
                return _parsed(file.readline())
        except OSError:
            return None

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was in the log when it was opened."""
        return self._events.lines

    def forget_lines(self) -> None:
        """Lets go of what was read at opening."""
        self._events.lines, self._results.lines = [], []

    def results(self) -> dict[int, dict[int, Result]]:
        """Results by number of their event and by object, those whose records are there."""
        size = self._records.stat().st_size if self._records.exists() else 0
        found = {}
        for line in self._results.lines:
            parts = {int(obj): Result.from_json(values) for obj, values in line["objects"].items()}
            if all(part.record[0] + part.record[1] <= size for part in parts.values()):
                found[line["seq"]] = parts
        return found

    def append(self, event: Mapping[str, Any]) -> None:
        """Adds an event; it is on the disk when this returns."""
        self._events.append(event)

    def is_wasteful(self, needed: set[Place]) -> bool:
        """Whether records other than these take much room, and most of the file."""
        size = self._records.stat().st_size if self._records.exists() else 0
        dead = size - sum(length for _, length, _ in needed)
        return dead >= COMPACT and 2 * dead > size

    def compact(self, needed: set[Place]) -> None:
        """Drops all other records; results that refer to them stay, without what the model needs to go on.

        Addresses change: `results` gives the new ones. A kill at any moment leaves the old files or the new.

        Raises:
            OSError, LogError: the disk is full, or a record is damaged; nothing has changed.
        """
        number = int(self._records.stem.partition("-")[2] or 0) + 1
        target = self.folder / f"results-{number}.bin"
        places = {NOWHERE: NOWHERE}
        try:
            with open(target, "wb") as file:
                for place in sorted(needed - {NOWHERE}):
                    places[place] = (file.tell(), *place[1:])
                    file.write(self.get_record(place))
                file.flush()
                os.fsync(file.fileno())
            lines = [self._moved(line, places) for line in self._results.lines]
            self._results.replace([{"records": target.name}, *lines])
        except (OSError, LogError):
            target.unlink(missing_ok=True)
            raise
        self._results.lines = lines
        self._records.unlink()
        self._records = target

    @staticmethod
    def _moved(line: dict[str, Any], places: Mapping[Place, Place]) -> dict[str, Any]:
        results = {obj: Result.from_json(values) for obj, values in line["objects"].items()}
        moved = {obj: replace(r, record=places.get(r.record, NOWHERE)) for obj, r in results.items()}
        return {"seq": line["seq"], "objects": {obj: r.to_json() for obj, r in moved.items()}}

    def put_record(self, record: bytes) -> Place:
        """Keeps what the model needs to go on; returns address, length and checksum."""
        return _append(self._records, record, False), len(record), zlib.crc32(record)

    def get_record(self, place: Place) -> bytes:
        """A record.

        Raises:
            LogError: it is damaged.
        """
        address, length, checksum = place
        with open(self._records, "rb", buffering=0) as file:
            record = os.pread(file.fileno(), length, address)
        if zlib.crc32(record) != checksum or len(record) != length:
            raise LogError(f"{self._records} is damaged at byte {address}: delete it to have it made anew")
        return record

    def put_results(self, seq: int, results: Mapping[int, Result]) -> None:
        """Keeps the results of an event, before the event itself is kept."""
        self._results.append({"seq": seq, "objects": {obj: r.to_json() for obj, r in results.items()}})

    def forget_results(self) -> None:
        """Drops everything that can be computed again."""
        for path in (self._results.path, self._records):
            path.unlink(missing_ok=True)
        self._records = self.folder / RECORDS
