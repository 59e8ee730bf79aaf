"""Records that are seldom read: in host memory up to a budget, then in one file.

The file is read and written by position instead of being mapped: a mapped file that is truncated under
the process kills it, and mapped pages count as resident memory.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
import weakref
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

_HEAD = struct.Struct("<4sIQI")  # mark, CRC-32 of the record, its length, CRC-32 of these three
_MARK = b"s2ar"


class HistoryLostError(ValueError):
    """Something of the past was asked for that is no longer held."""


@dataclass(frozen=True)
class StorageOptions:
    """Where the past of a session goes once no coming frame reads it."""

    history: Literal["all", "none"] = "all"
    """Keep everything, so that any frame can be corrected later; or drop what is no longer read."""
    host_bytes: int = 2**30
    """Most bytes of host memory; what is older goes to a file."""
    file_bytes: int | None = None
    """Most bytes of the file; None for no limit."""
    folder: str | Path | None = None
    """Where the file is made; None for the system's folder for temporary files."""

    def __post_init__(self) -> None:
        if self.history not in ("all", "none"):
            raise ValueError(f"history is {self.history!r}: say 'all' or 'none'")
        if self.host_bytes < 0 or (self.file_bytes is not None and self.file_bytes < 0):
            raise ValueError("budgets of bytes must be 0 or more")


class Archive:
    """Records by address; threads take turns.

    Invariant: a record lies in host memory or in the file at its address, which is reserved from the
    beginning. A failing disk loses records, never the session: reading one then says what happened.
    """

    def __init__(self, options: StorageOptions | None = None) -> None:
        self.options = options or StorageOptions()
        self.fault: str | None = None
        """Why the file last refused a record."""
        self.host_nbytes = 0
        self._host: OrderedDict[int, bytes] = OrderedDict()
        self._file: IO[bytes] | None = None
        self._closing: weakref.finalize[..., Archive] | None = None
        self._end = 0
        self._written_end = 0
        self._free: dict[int, list[int]] = {}
        self._lost: set[int] = set()  # addresses where an older record may lie in place of a lost one
        self._lock = threading.RLock()

    @property
    def file_nbytes(self) -> int:
        """Bytes of the file, 0 before the first record went there."""
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def put(self, record: bytes) -> int:
        """Stores a record; returns its address."""
        size = _HEAD.size + len(record)
        with self._lock:
            room = self._free.get(size)
            if room:
                address = room.pop()
            else:
                address, self._end = self._end, self._end + size
            self._host[address] = record
            self.host_nbytes += len(record)
            while self.host_nbytes > self.options.host_bytes:
                oldest, overflow = self._host.popitem(last=False)
                self.host_nbytes -= len(overflow)
                self._write(oldest, overflow)
            return address

    def get(self, address: int) -> bytes:
        """The record at an address.

        Raises:
            HistoryLostError: it could not be written, or the file was damaged since.
        """
        with self._lock:
            record = self._host.get(address)
            if record is None:
                record = self._read(address)
        if record is None:
            reason = self.fault or "the file that held it was changed or cut"
            raise HistoryLostError(f"this part of the session's history is lost: {reason}")
        return record

    def drop(self, address: int) -> None:
        """Frees an address."""
        with self._lock:
            record = self._host.pop(address, None)
            if record is not None:
                length: int | None = len(record)
                self.host_nbytes -= len(record)
            else:  # the head alone: an object of a long video has gigabytes in the file
                found = self._head_at(address)
                length = None if found is None else found[1]
            if length is not None:
                self._free.setdefault(_HEAD.size + length, []).append(address)

    def close(self) -> None:
        """Drops everything; the file is gone afterwards."""
        with self._lock:
            self._host.clear()
            self._free.clear()
            self._lost.clear()
            self.host_nbytes = self._end = self._written_end = 0
            if self._closing is not None:
                self._closing()
                self._file = self._closing = None

    def _write(self, address: int, record: bytes) -> None:
        limit = self.options.file_bytes
        if limit is not None and address + _HEAD.size + len(record) > limit:
            self.fault = f"the budget of {limit:,} bytes for its file is spent (file_bytes)"
            return
        data = _head(record) + record
        try:
            if self._file is None:
                folder = self.options.folder
                self._file = tempfile.TemporaryFile(prefix="sam2-", dir=folder, buffering=0)  # noqa: SIM115
                self._closing = weakref.finalize(self, self._file.close)
            self._file.seek(address)
            if self._file.write(data) != len(data):
                raise OSError("the disk is full")
        except OSError as error:
            self.fault = f"writing to disk failed ({error.strerror or error})"
            if address < self._written_end:
                self._lost.add(address)
            return
        self._lost.discard(address)
        self._written_end = max(self._written_end, address + len(data))

    def _head_at(self, address: int) -> tuple[int, int] | None:
        """CRC-32 and length of the record in the file, which then stands at its first byte; None: damaged."""
        if self._file is None or address in self._lost:
            return None
        try:
            self._file.seek(address)
            head = self._file.read(_HEAD.size)
        except OSError:
            return None
        if len(head) < _HEAD.size:
            return None
        _, checksum, length, own = _HEAD.unpack(head)
        return (checksum, length) if own == zlib.crc32(head[:-4]) else None

    def _read(self, address: int) -> bytes | None:
        head = self._head_at(address)
        if head is None or self._file is None:
            return None
        checksum, length = head
        try:
            record = self._file.read(length)
        except OSError:
            return None
        return record if len(record) == length and zlib.crc32(record) == checksum else None


def _head(record: bytes) -> bytes:
    head = _HEAD.pack(_MARK, zlib.crc32(record), len(record), 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))
