"""SA-V training videos: ``<id>.mp4`` with ``<id>_manual.json`` or ``<id>_auto.json`` beside it.

The JSON holds ``masklet`` (for each annotated frame a list with one COCO RLE an object) and ``masklet_id``.
Videos run at 24 frames a second, annotations at 6: annotation k belongs to frame 4k.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam2.data.clip import Clip
from sam2.data.readers.base import MAX_ID, ClipDataset, DatasetError, Problem, check_size, read_json
from sam2.masks import rle
from sam2.video import VideoError, VideoWarning, open_video

STRIDE = 4
"""Frames of video to one annotation."""
KINDS = ("manual", "auto")


class SavVideos(ClipDataset):
    """Videos of SA-V with their masklets; frames are counted as annotations are (6 a second).

    ``kinds``: the files taken up, "manual", "auto" or both. Where a video has both, their objects are joined;
    should two share an id, automatic ones are numbered on behind. Sub-folders (sav_000, ...) are searched.
    """

    format = "sav"

    def __init__(self, root: Path, kinds: Sequence[str] = KINDS) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"kinds are {' and '.join(KINDS)}, not {kind!r}")
        self.kinds = tuple(kinds)
        self._videos = {str(v.relative_to(root).with_suffix("")): v for v in sorted(root.rglob("*.mp4"))}
        super().__init__(root, [name for name, video in self._videos.items() if self._notes(video)])
        self._last: tuple[int, tuple[list[int], list[list[Any]], Path]] | None = None

    def _notes(self, video: Path) -> list[Path]:
        notes = [video.with_name(f"{video.stem}_{kind}.json") for kind in self.kinds]
        return [note for note in notes if note.exists()]

    def _masklets(self, index: int) -> tuple[list[int], list[list[Any]], Path]:
        """Ids of the objects, [annotated frame][object] RLEs, and the file to blame; the last is kept."""
        if self._last is None or self._last[0] != index:
            self._last = index, self._read_masklets(index)
        return self._last[1]

    def _read_masklets(self, index: int) -> tuple[list[int], list[list[Any]], Path]:
        ids: list[int] = []
        table: list[list[Any]] = []
        notes = self._notes(self._videos[self.names[index]])
        for note in notes:
            content = read_json(note)
            try:
                own, rows = [int(i) for i in content["masklet_id"]], [list(row) for row in content["masklet"]]
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(
                    note, f"not an SA-V annotation (masklet, masklet_id): {error!r}"
                ) from error
            if any(len(row) != len(own) for row in rows):
                raise DatasetError(note, f"a frame has not one RLE for each of {len(own)} masklets")
            if table and len(table) != len(rows):
                raise DatasetError(
                    note, f"{len(rows)} annotated frames, but {notes[0].name} has {len(table)}"
                )
            shift = max(ids) + 1 if ids and set(ids) & set(own) else 0
            ids += [i + shift for i in own]
            table = [a + b for a, b in zip(table, rows)] if table else rows
        if not table:
            raise DatasetError(notes[0], "no annotated frame")
        return ids, table, notes[0]

    def num_frames(self, index: int) -> int:
        return len(self._masklets(index)[1])

    def footage(self, index: int) -> tuple[Path, list[int]]:
        return self._videos[self.names[index]], [STRIDE * k for k in range(self.num_frames(index))]

    def load(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        name = self.names[index]
        ids, table, note = self._masklets(index)
        chosen = list(range(len(table))) if frames is None else [range(len(table))[i] for i in frames]
        path = self._videos[name]
        pictures: dict[int, np.ndarray] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", VideoWarning)
                with open_video(path) as video:
                    for k in sorted(set(chosen)):
                        if k * STRIDE >= len(video):
                            raise DatasetError(
                                path, f"annotation {k} needs frame {k * STRIDE}, but there are {len(video)}"
                            )
                        pictures[k] = video[k * STRIDE]
        except (VideoError, VideoWarning) as error:
            raise DatasetError(path, str(error)) from error
        size = next(iter(pictures.values())).shape[:2]
        masks = np.zeros((len(chosen), len(ids), *size), np.bool_)
        for t, k in enumerate(chosen):
            for n, encoded in enumerate(table[k]):
                masks[t, n] = _decoded(encoded, note, size[0], size[1])
        seen = np.asarray(masks.any((0, 2, 3)))
        kept = tuple(i for i, there in zip(ids, seen) if there)
        return Clip(np.stack([pictures[k] for k in chosen]), masks[:, seen], kept, name)

    def problems(self, index: int) -> Iterator[Problem]:
        try:
            ids, table, note = self._masklets(index)
        except DatasetError as error:
            yield Problem(error.path, error.reason)
            return
        for n, object_id in enumerate(ids):
            if object_id > MAX_ID:
                yield Problem(note, f"object id {object_id} is above {MAX_ID}: renumber the objects")
            if not any(_area(row[n]) for row in table):
                yield Problem(note, f"empty masks: masklet {object_id} is never seen")
        for k in range(len(table)):
            try:
                self.load(index, [k])
            except DatasetError as error:
                yield Problem(error.path, error.reason)
                return

    def layout_problems(self) -> Iterator[Problem]:
        for video in self._videos.values():
            if not self._notes(video):
                yield Problem(video, f"no annotation ({' or '.join(self.kinds)}) beside this video")
        for note in sorted(self.root.rglob("*.json")):
            stem, _, kind = note.stem.rpartition("_")
            if kind in self.kinds and not note.with_name(f"{stem}.mp4").exists():
                yield Problem(note, "the video of this annotation is missing")


def _decoded(encoded: Any, note: Path, height: int, width: int) -> np.ndarray:
    try:
        mask = rle.decode(encoded)
    except (ValueError, TypeError) as error:
        raise DatasetError(note, f"a damaged RLE: {error}") from error
    check_size(note, mask.shape, (height, width))
    return mask


def _area(encoded: Any) -> int:
    try:
        return rle.area(encoded)
    except (ValueError, TypeError):
        return 1  # damaged, which loading reports
