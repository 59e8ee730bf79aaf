"""Generated scenes kept on disk, so that training reads in half a millisecond what took many to make.

A pool is a folder: ``pool.json`` (the recipe), and for every shard ``shard-00000.bin`` (pictures and owner
numbers, scene after scene) and ``shard-00000.json`` (where each lies, and its targets). The ``.json``
is renamed into place last: where it is, the shard is whole, and a run that was cut off goes on behind it.

    sam2 data make OUT --count 20000 --size 128 --difficulty 0,0.5 --workers 2
"""

from __future__ import annotations

import io
import json
import mmap
import multiprocessing
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam2.masks.files import write_bytes

from .clip import Clip
from .readers.base import ClipDataset, DatasetError, Problem
from .recipe import Recipe
from .targets import Painting, Target

SHARD = 256
"""Scenes in a shard, at most."""
CODECS = ("raw", "jpeg")


def _encode(painting: Painting, codec: str, quality: int) -> tuple[list[bytes], bytes]:
    if codec == "raw":
        frames = [frame.tobytes() for frame in painting.frames]
    else:
        frames = []
        for frame in painting.frames:
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling=0)
            frames.append(file.getvalue())
    return frames, zlib.compress(painting.owners.tobytes(), 1)


def _write_shard(folder: Path, shard: int, numbers: range, recipe: Recipe, codec: str, quality: int) -> int:
    blobs: list[bytes] = []
    entries: list[dict[str, Any]] = []
    offset = 0
    for number in numbers:
        painting = recipe.paint(number)
        frames, owners = _encode(painting, codec, quality)
        entries.append(
            {
                "at": offset,
                "frames": [len(f) for f in frames],
                "owners": len(owners),
                "targets": [[t.kind, *t.owners] for t in painting.targets],
                "name": painting.name,
                "difficulty": round(recipe.difficulty_at(number), 4),
            }
        )
        blobs += [*frames, owners]
        offset += sum(len(f) for f in frames) + len(owners)
    write_bytes(folder / f"shard-{shard:05d}.bin", b"".join(blobs), force=True)
    write_bytes(
        folder / f"shard-{shard:05d}.json", json.dumps(entries, separators=(",", ":")).encode(), force=True
    )
    return len(entries)


def _settings(recipe: Recipe, codec: str, quality: int) -> dict[str, Any]:
    settings = {**asdict(recipe), "codec": codec, "quality": quality}
    return json.loads(json.dumps(settings))


def write_pool(
    folder: str | os.PathLike[str],
    recipe: Recipe,
    count: int,
    workers: int = 1,
    codec: str = "jpeg",
    quality: int = 95,
    report: bool = False,
) -> ClipPool:
    """Fill ``folder`` with scenes 0..count-1 of ``recipe``; shards that are there already are kept.

    ``codec``: "jpeg" (small) or "raw" (exact and quickest to read). ``count`` is rounded up to whole shards
    (of 256 scenes, or of the first count asked for if that was smaller). Raises ValueError where the folder
    holds a pool of another recipe, and OSError (disk full), leaving all finished shards readable.
    """
    if codec not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, not {codec!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = _settings(recipe, codec, quality)
    each = min(SHARD, count)
    note = folder / "pool.json"
    if note.exists():
        # Pools written before scenes could lack things, or have cutouts, say nothing of it.
        there = {
            "without": [],
            "cutouts": [],
            "cutout_share": Recipe.cutout_share,
            **json.loads(note.read_text()),
        }
        each = there.pop("shard")
        if there != settings:
            changed = sorted(k for k in settings if there.get(k) != settings[k])
            raise ValueError(
                f"{folder} holds a pool of another recipe ({', '.join(changed)}): name a new folder"
            )
    write_bytes(note, json.dumps({**settings, "shard": each}, indent=1).encode(), force=True)
    todo = [
        (shard, range(shard * each, (shard + 1) * each))
        for shard in range(-(-count // each))
        if not (folder / f"shard-{shard:05d}.json").exists()
    ]
    start, done = time.perf_counter(), 0
    if min(workers, len(todo)) <= 1:
        for shard, numbers in todo:
            done += _write_shard(folder, shard, numbers, recipe, codec, quality)
            _progress(report, done, start)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [pool.submit(_write_shard, folder, s, n, recipe, codec, quality) for s, n in todo]
            try:
                for job in as_completed(jobs):
                    done += job.result()
                    _progress(report, done, start)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return ClipPool(folder)


def _progress(report: bool, done: int, start: float) -> None:
    if report:
        rate = done / (time.perf_counter() - start)
        print(f"{done} scenes written, {rate:.0f} a second", flush=True)


class ClipPool(ClipDataset):
    """The scenes of a pool on disk: a data set of clips, and ``painting(i)`` with owner numbers and kinds.

    Only whole shards are seen, so a pool still being written can be read (``refresh`` finds new ones).
    Files are memory-mapped at first use; the object can be sent to worker processes.
    Raises FileNotFoundError where there is no pool, DatasetError naming the shard where one is damaged.
    """

    format = "pool"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        super().__init__(self.folder, [])
        note = self.folder / "pool.json"
        if not note.exists():
            raise FileNotFoundError(f"{self.folder} holds no pool: pool.json is missing")
        self.settings: dict[str, Any] = json.loads(note.read_text())
        self.size: int = self.settings["size"]
        self.length: int = self.settings["length"]
        self._entries: list[tuple[Path, dict[str, Any]]] = []
        self._maps: dict[Path, mmap.mmap] = {}
        self._known: set[str] = set()
        self.refresh()

    def refresh(self) -> int:
        """Take up shards written since; answers the number of scenes there are now."""
        for index in sorted(self.folder.glob("shard-*.json")):
            if index.name in self._known:
                continue
            try:
                entries = json.loads(index.read_text())
            except ValueError as error:
                raise DatasetError(index, f"damaged ({error}): delete it and write again") from error
            self._known.add(index.name)
            data = index.with_suffix(".bin")
            self._entries += [(data, entry) for entry in entries]
            self.names += [entry["name"] for entry in entries]
        return len(self._entries)

    def num_frames(self, index: int) -> int:
        return self.length

    def difficulty(self, index: int) -> float:
        return float(self._entries[index][1]["difficulty"])

    def painting(self, index: int, frames: Sequence[int] | None = None) -> Painting:
        """Scene ``index``, or its frames number ``frames`` alone; targets are those of the whole scene."""
        path, entry = self._entries[index]
        chosen = range(self.length) if frames is None else [range(self.length)[t] for t in frames]
        at = entry["at"]
        ends = np.cumsum([at, *entry["frames"]])
        data = self._open(path)
        shape = (self.size, self.size)
        try:
            pictures = [self._frame(data[ends[t] : ends[t + 1]]) for t in chosen]
            packed = data[ends[-1] : ends[-1] + entry["owners"]]
            owners = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(self.length, *shape)
        except (OSError, ValueError, zlib.error) as error:
            raise DatasetError(path, f"scene {index} is damaged ({error}): write the shard again") from error
        targets = tuple(Target(tuple(owners_), kind) for kind, *owners_ in entry["targets"])
        stack = pictures[0][None] if len(pictures) == 1 else np.stack(pictures)
        return Painting(stack, owners if frames is None else owners[list(chosen)], targets, entry["name"])

    def _frame(self, data: bytes) -> np.ndarray:
        if self.settings["codec"] == "raw":
            return np.frombuffer(data, np.uint8).reshape(self.size, self.size, 3)
        return np.asarray(Image.open(io.BytesIO(data)))

    def load(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        clip = self.painting(index, frames).clip()
        seen = np.asarray(clip.masks.any((0, 2, 3)))
        if seen.all():
            return clip
        ids = tuple(i for i, there in zip(clip.object_ids, seen) if there)
        kinds = tuple(kind for kind, there in zip(clip.kinds, seen) if there)
        return Clip(clip.frames, clip.masks[:, seen], ids, clip.name, kinds)

    def problems(self, index: int) -> Iterator[Problem]:
        try:
            self.painting(index)
        except DatasetError as error:
            yield Problem(error.path, error.reason)

    def _open(self, path: Path) -> mmap.mmap:
        found = self._maps.get(path)
        if found is None:
            with path.open("rb") as file:
                found = self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return found

    def close(self) -> None:
        for open_map in self._maps.values():
            open_map.close()
        self._maps.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}
