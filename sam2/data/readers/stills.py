"""Annotated stills: SA-1B (a JSON beside each picture), COCO instances (one JSON for many pictures)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam2.data.clip import Clip
from sam2.data.readers.base import (
    ClipDataset,
    DatasetError,
    Problem,
    check_size,
    picture_files,
    read_frame,
    read_json,
)
from sam2.masks.coco import from_segmentation


class Stills(ClipDataset):
    """Pictures with a list of annotated objects each; what SA-1B and COCO have in common."""

    @abstractmethod
    def picture(self, index: int) -> Path:
        """The file of picture ``index``."""

    @abstractmethod
    def annotations(self, index: int) -> tuple[Path, list[dict[str, Any]]]:
        """The file to blame, and the objects in COCO's form (``segmentation``, perhaps ``id``)."""

    def load(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        check_still(frames)
        note, entries = self.annotations(index)
        frame = read_frame(self.picture(index))
        size = frame.shape[0], frame.shape[1]
        masks = np.empty((1, len(entries), *size), np.bool_)
        for n, entry in enumerate(entries):
            masks[0, n] = object_mask(note, entry, size)
        seen = masks.any((0, 2, 3))
        ids = tuple(int(n) + 1 for n in np.flatnonzero(seen))
        return Clip(frame[None], masks[:, seen], ids, self.names[index])

    def problems(self, index: int) -> Iterator[Problem]:
        try:
            note, entries = self.annotations(index)
            size = read_frame(self.picture(index)).shape[:2]
        except DatasetError as error:
            yield Problem(error.path, error.reason)
            return
        if not entries:
            yield Problem(note, f"no object in {self.names[index]}")
        for n, entry in enumerate(entries):
            try:
                if not object_mask(note, entry, (size[0], size[1])).any():
                    yield Problem(note, f"empty mask: object {entry.get('id', n)} of {self.names[index]}")
            except DatasetError as error:
                yield Problem(error.path, f"{self.names[index]}: {error.reason}")


class Sa1b(Stills):
    """SA-1B: ``sa_1.jpg`` with ``sa_1.json`` (``annotations`` with RLE), in ``root`` or folders in it."""

    format = "sa1b"

    def __init__(self, root: Path) -> None:
        folders = sorted({path.parent for path in root.rglob("*.json")} | {root})
        self._pictures: dict[str, Path] = {}
        for folder in folders:
            for path in picture_files(folder).values():
                self._pictures[str(path.relative_to(root).with_suffix(""))] = path
        super().__init__(root, [n for n, p in self._pictures.items() if p.with_suffix(".json").exists()])

    def picture(self, index: int) -> Path:
        return self._pictures[self.names[index]]

    def annotations(self, index: int) -> tuple[Path, list[dict[str, Any]]]:
        note = self.picture(index).with_suffix(".json")
        content = read_json(note)
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise DatasetError(note, "not an SA-1B annotation: it has no list of annotations")
        return note, content["annotations"]

    def layout_problems(self) -> Iterator[Problem]:
        for path in self._pictures.values():
            if not path.with_suffix(".json").exists():
                yield Problem(path, "no annotation (JSON of the same name) beside this picture")
        there = {path.with_suffix(".json") for path in self._pictures.values()}
        for note in sorted(self.root.rglob("*.json")):
            if note not in there:
                yield Problem(note, "the picture of this annotation is missing")


class CocoInstances(Stills):
    """COCO instances: ``root`` is the JSON; ``images`` the folder of pictures, found beside it unless given.

    Crowds (``iscrowd``) are left out, and pictures without objects.
    """

    format = "coco"

    def __init__(self, root: Path, images: Path | None = None) -> None:
        content = read_json(root)
        try:
            entries = {int(entry["id"]): str(entry["file_name"]) for entry in content["images"]}
            self._objects: dict[int, list[dict[str, Any]]] = {}
            for entry in content["annotations"]:
                if not entry.get("iscrowd"):
                    self._objects.setdefault(int(entry["image_id"]), []).append(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(root, f"not COCO instances (images, annotations): {error!r}") from error
        self.images = images if images is not None else _beside(root, list(entries.values()))
        self._keys = [key for key in entries if key in self._objects]
        self._files = entries
        super().__init__(root, [entries[key] for key in self._keys])

    def picture(self, index: int) -> Path:
        return self.images / self._files[self._keys[index]]

    def annotations(self, index: int) -> tuple[Path, list[dict[str, Any]]]:
        return self.root, self._objects[self._keys[index]]

    def layout_problems(self) -> Iterator[Problem]:
        for key in self._objects:
            if key not in self._files:
                yield Problem(self.root, f"annotations name image {key}, which is not listed")


def _beside(note: Path, files: list[str]) -> Path:
    """The folder that holds the first picture: beside the JSON, or in a folder near it."""
    if not files:
        raise DatasetError(note, "no image is listed")
    near = [note.parent, note.parent.parent]
    folders = near + [f for base in near for f in sorted(base.iterdir()) if f.is_dir()]
    for file in files[:20]:
        for folder in folders:
            if (folder / file).is_file():
                return folder
    raise DatasetError(note, f"its pictures ({files[0]}, ...) are not beside it: pass images=FOLDER")


def object_mask(note: Path, entry: Any, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of one object in COCO's form; DatasetError where it is damaged or of another size."""
    try:
        segmentation = entry["segmentation"]
        if isinstance(segmentation, dict):
            check_size(note, tuple(segmentation["size"]), size)
        return from_segmentation(segmentation, size)
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(note, f"a damaged segmentation: {error}") from error


def check_still(frames: Sequence[int] | None) -> None:
    """IndexError for any frame of a still but its only one."""
    if frames is not None and list(frames) not in ([0], [-1]):
        raise IndexError(f"a still has frame 0 alone, not {list(frames)}")
