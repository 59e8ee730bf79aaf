"""Sessions and objects as files: written aside and renamed, so that a kill leaves the old file whole.

A file is a zip archive without compression: `session.json`, and for each object streams of records
(`sam2.memory.records`), whose checksums the zip archive holds.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam2.memory.archive import HistoryLostError
from sam2.memory.entry import MemoryEntry
from sam2.memory.judges import Follower
from sam2.memory.records import RecordError, pack, pack_fields, unpack, unpack_fields
from sam2.memory.shelf import Shelf
from sam2.tracking.track import ObjectMask, ObjectTrack, PendingMask

_ENTRY = struct.Struct("<qQ")  # frame, length
VERSION = 2


class SessionFileError(ValueError):
    """A file that holds no session, or a damaged one."""


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """A zip file that takes the place of `path` once it is complete and on the disk; else nothing changes."""
    target = Path(path)
    handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_json(archive: zipfile.ZipFile, values: dict[str, Any]) -> None:
    """The description of the file, `session.json`."""
    try:
        archive.writestr("session.json", json.dumps({"version": VERSION, **values}))
    except TypeError as error:
        raise ValueError(f"object ids must be numbers or text to be saved: {error}") from None


@contextmanager
def opened(path: str | os.PathLike[str], kind: str) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """A file of `kind` and its description.

    Raises:
        SessionFileError: not such a file, or a damaged one. FileNotFoundError: no file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            description = json.loads(archive.read("session.json"))
            if description.get("kind") != kind or description.get("version") != VERSION:
                found = f"a {description.get('kind')} of version {description.get('version')}"
                raise SessionFileError(f"{path} holds {found}, not a {kind} of version {VERSION}")
            yield archive, description
    except (
        zipfile.BadZipFile,
        KeyError,
        json.JSONDecodeError,
        zlib.error,
        RecordError,
        struct.error,
    ) as error:
        raise SessionFileError(f"{path} holds no {kind}, or is damaged: {error}") from None


def _write_records(archive: zipfile.ZipFile, name: str, records: Iterable[tuple[int, bytes]]) -> None:
    with archive.open(name, "w", force_zip64=True) as stream:
        for frame, record in records:
            stream.write(_ENTRY.pack(frame, len(record)))
            stream.write(record)


def _read_records(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[int, bytes]]:
    with archive.open(name) as stream:
        while head := stream.read(_ENTRY.size):
            frame, length = _ENTRY.unpack(head)
            yield frame, stream.read(length)


def write_track(archive: zipfile.ZipFile, number: int, track: ObjectTrack) -> dict[str, Any]:
    """Writes one object; returns its part of the description. Reads the past record by record.

    Frames whose record is lost count as dropped, and a warning names them.
    """
    name = f"objects/{number}"
    lost: dict[int, HistoryLostError] = {}

    def readable(shelf: Shelf[Any]) -> Iterator[tuple[int, bytes]]:
        for frame in shelf:
            try:
                yield frame, pack_fields(shelf[frame])
            except HistoryLostError as error:
                lost[frame] = error

    _write_records(archive, f"{name}/found", readable(track.found))
    _write_records(archive, f"{name}/recent", readable(track.bank.recent))
    if lost:
        warnings.warn(
            f"{len(lost)} frames of object {track.obj_id}, {min(lost)} to {max(lost)}, are not in the saved "
            f"session: {lost[min(lost)]}",
            stacklevel=4,
        )
    conditioning = track.bank.conditioning.items()
    _write_records(archive, f"{name}/conditioning", ((f, pack_fields(e)) for f, e in conditioning))
    prompts = [(f, pack({"kind": "points"}, list(p.values()))) for f, p in track.points.items()]
    prompts += [(f, pack({"kind": "mask"}, [m.bool()])) for f, m in track.masks_given.items()]
    _write_records(archive, f"{name}/prompts", prompts)
    pending = ((f, _pack_pending(p)) for f, p in track.pending.items())
    _write_records(archive, f"{name}/pending", pending)
    known = []
    if track.follower is not None:
        assert track.followed is not None
        known.append((track.followed, pack(*track.follower.state())))
    _write_records(archive, f"{name}/follower", known)
    return {
        "id": track.obj_id,
        "followed": track.followed,
        "tracked": _runs(track.tracked),
        "dropped": _runs(dict(sorted({**track.dropped, **dict.fromkeys(lost, True)}.items()))),
    }


def read_track(
    archive: zipfile.ZipFile,
    number: int,
    part: dict[str, Any],
    track: ObjectTrack,
    follower: Follower | None,
    device: torch.device,
    storage_device: torch.device,
) -> None:
    """Fills an empty track; what no longer is at hand goes to its archive as it comes.

    Args:
        follower: a new one of the session's policy.
    """
    name = f"objects/{number}"

    def entries(kind: str) -> Iterator[tuple[int, MemoryEntry]]:
        for frame, record in _read_records(archive, f"{name}/{kind}"):
            yield frame, unpack_fields(MemoryEntry, record, storage_device)

    for _, entry in entries("conditioning"):
        track.bank.add(entry)
    for frame, record in _read_records(archive, f"{name}/found"):
        track.found[frame] = unpack_fields(ObjectMask, record, storage_device)
        track.put_away(lambda _: True)
    for _, entry in entries("recent"):
        track.bank.add(entry)
        track.put_away(lambda _: True)
    for frame, record in _read_records(archive, f"{name}/prompts"):
        values, tensors = unpack(record)
        placed = [t.to(device) for t in tensors if t is not None]
        if values["kind"] == "mask":
            track.masks_given[frame] = placed[0].float()
        else:
            track.points[frame] = {"point_coords": placed[0], "point_labels": placed[1]}
    for frame, record in _read_records(archive, f"{name}/pending"):
        track.pending[frame] = _unpack_pending(record, storage_device)
    track.followed = part["followed"]
    for _, record in _read_records(archive, f"{name}/follower"):
        assert follower is not None
        values, tensors = unpack(record)
        follower.restore(values, [None if t is None else t.to(storage_device) for t in tensors])
        track.follower = follower
    for marks, runs in ((track.tracked, part["tracked"]), (track.dropped, part["dropped"])):
        for first, last, value in runs:
            marks.update(dict.fromkeys(range(first, last + 1), bool(value)))
    for frame in track.dropped:
        track.forget_frame(frame)


def _pack_pending(waiting: PendingMask) -> bytes:
    mask = waiting.mask
    tensors: list[Tensor | None] = [
        mask.logits,
        mask.predicted_iou,
        mask.object_score_logits,
        waiting.obj_ptr,
    ]
    return pack({"is_conditioning": waiting.is_conditioning}, tensors)


def _unpack_pending(record: bytes, device: torch.device) -> PendingMask:
    values, tensors = unpack(record)
    logits, iou, score, pointer = (t.to(device) for t in tensors if t is not None)
    return PendingMask(ObjectMask(logits, iou, score), pointer, values["is_conditioning"])


def _runs(marks: Mapping[int, bool]) -> list[tuple[int, int, bool]]:
    """(first frame, last frame, value) of runs of equal marks."""
    runs: list[tuple[int, int, bool]] = []
    for frame, value in marks.items():
        if runs and runs[-1][1] == frame - 1 and runs[-1][2] == value:
            runs[-1] = (runs[-1][0], frame, value)
        else:
            runs.append((frame, frame, value))
    return runs


def export_memory(path: str | os.PathLike[str], track: ObjectTrack, image_size: int) -> None:
    """Writes the memories of an object's prompted frames."""
    frames = sorted(track.bank.conditioning)
    if not frames:
        raise ValueError(
            f"object {track.obj_id} has no memory to export: prompt it and propagate (or step) first"
        )
    with written_whole(path) as archive:
        write_json(archive, {"kind": "object", "id": track.obj_id, "image_size": image_size})
        entries = ((f, pack_fields(track.bank.conditioning[f])) for f in frames)
        _write_records(archive, "conditioning", entries)
        _write_records(archive, "found", ((f, pack_fields(track.found[f])) for f in frames))


def import_memory(
    path: str | os.PathLike[str], track: ObjectTrack, image_size: int, device: torch.device
) -> None:
    """Gives a track exported memories as conditioning frames before its video, the newest at frame -1.

    Raises:
        SessionFileError: not an exported object. ValueError: of a model of another input size.
    """
    with opened(path, "object") as (archive, description):
        if description["image_size"] != image_size:
            raise ValueError(
                f"{path} comes from a model of {description['image_size']} px, this one has {image_size} px"
            )
        entries = [unpack_fields(MemoryEntry, r, device) for _, r in _read_records(archive, "conditioning")]
        masks = [unpack_fields(ObjectMask, r, device) for _, r in _read_records(archive, "found")]
    taken = min([0, *track.bank.conditioning])
    for i, (entry, mask) in enumerate(zip(entries, masks, strict=True)):
        frame = taken - len(entries) + i
        track.bank.add(MemoryEntry(frame, True, entry.features, entry.obj_ptr, entry.object_score_logits))
        track.found[frame] = mask
