"""Folders of frames and label pictures: DAVIS 2017, YouTube-VOS, MOSE, LVOS, and the validation sets of SA-V.

    JPEGImages/[480p/]<video>/00000.jpg          JPEGImages_24fps/<video>/00000.jpg
    Annotations/[480p/]<video>/00000.png         Annotations_6fps/<video>/<object>/00000.png

The frames of a clip are those that have an annotation (every frame of DAVIS, every fifth of YouTube-VOS).
On the left objects share a label picture; on the right each has a folder of black-and-white pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2.data.clip import Clip
from sam2.data.readers.base import (
    MAX_ID,
    ClipDataset,
    DatasetError,
    Problem,
    clip_of_labels,
    picture_files,
    read_frame,
    read_labels,
    read_object,
    subfolders,
)

_IMAGES = ("JPEGImages", "JPEGImages_24fps")
_ANNOTATIONS = ("Annotations", "Annotations_6fps")
_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")


_SHARED = -1
"""In place of an object's number: label pictures that hold all objects."""


@dataclass(frozen=True)
class _Files:
    frames: dict[str, Path]
    """By stem, in order."""
    annotations: dict[int, dict[str, Path]]
    """By object number (or _SHARED) and stem."""


def find_vos(root: Path) -> tuple[Path, Path] | None:
    """The folders of frames and of annotations under ``root`` (or its train or valid), or None."""
    for base in (root, root / "train", root / "valid", root / "val"):
        images = next((base / n for n in _IMAGES if (base / n).is_dir()), None)
        annotations = next((base / n for n in _ANNOTATIONS if (base / n).is_dir()), None)
        if images is None or annotations is None:
            continue
        for resolution in _RESOLUTIONS:
            if (images / resolution).is_dir() and (annotations / resolution).is_dir():
                return images / resolution, annotations / resolution
        return images, annotations
    return None


class VosFolders(ClipDataset):
    """Videos as folders of frames with annotations beside them.

    ``split``: only the videos listed, one a line, in ``<split>.txt`` under ``root`` (DAVIS: ImageSets/2017).
    Raises DatasetError where ``root`` has not this layout or the list is missing.
    """

    format = "vos"

    def __init__(self, root: Path, split: str | None = None) -> None:
        found = find_vos(root)
        if found is None:
            raise DatasetError(root, "no JPEGImages and Annotations folders here")
        self.images, self.annotations = found
        names = subfolders(self.annotations)
        if split is not None:
            names = _listed(root, split)
        super().__init__(root, names)
        first = self.annotations / names[0] if names else self.annotations
        self.exclusive = not (first.is_dir() and subfolders(first))
        self._last: tuple[str, _Files] | None = None

    def _files(self, name: str) -> _Files:
        if self._last is None or self._last[0] != name:
            self._last = name, self._find_files(name)
        return self._last[1]

    def _find_files(self, name: str) -> _Files:
        images, annotations = self.images / name, self.annotations / name
        if not images.is_dir():
            raise DatasetError(images, "the frames of an annotated video are missing")
        if not annotations.is_dir():
            raise DatasetError(annotations, "the annotations of a listed video are missing")
        objects: dict[int, dict[str, Path]] = {}
        for folder in subfolders(annotations):
            if not folder.isdecimal():
                raise DatasetError(annotations / folder, "the folder of an object is named by its number")
            objects[int(folder)] = picture_files(annotations / folder)
        return _Files(picture_files(images), objects or {_SHARED: picture_files(annotations)})

    def _stems(self, name: str) -> list[str]:
        files = self._files(name)
        marked = {stem for pictures in files.annotations.values() for stem in pictures}
        stems = [stem for stem in files.frames if stem in marked]
        if not stems:
            raise DatasetError(self.annotations / name, "no annotation has the name of a frame")
        return stems

    def num_frames(self, index: int) -> int:
        return len(self._stems(self.names[index]))

    def footage(self, index: int) -> tuple[list[Path], list[int]]:
        frames = self._files(self.names[index]).frames
        marked = set(self._stems(self.names[index]))
        return list(frames.values()), [number for number, stem in enumerate(frames) if stem in marked]

    def load(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        name = self.names[index]
        stems = self._stems(name)
        chosen = stems if frames is None else [stems[i] for i in frames]
        files = self._files(name)
        pictures = [read_frame(files.frames[stem]) for stem in chosen]
        size = pictures[0].shape[0], pictures[0].shape[1]
        for stem, picture in zip(chosen, pictures):
            if picture.shape[:2] != size:
                raise DatasetError(files.frames[stem], f"not of the size of {files.frames[chosen[0]].name}")
        if _SHARED in files.annotations:
            labels = [read_labels(files.annotations[_SHARED][stem], size) for stem in chosen]
            return clip_of_labels(pictures, labels, name)
        blank = np.zeros(size, np.bool_)
        seen: dict[int, np.ndarray] = {}
        for number, masks in files.annotations.items():
            stack = np.stack([read_object(masks[s], size) if s in masks else blank for s in chosen])
            if stack.any():
                seen[number] = stack
        joined = np.stack(list(seen.values()), 1) if seen else np.zeros((len(chosen), 0, *size), np.bool_)
        return Clip(np.stack(pictures), joined, tuple(seen), name)

    def problems(self, index: int) -> Iterator[Problem]:
        name = self.names[index]
        try:
            files = self._files(name)
        except DatasetError as error:
            yield Problem(error.path, error.reason)
            return
        sizes: dict[str, tuple[int, int]] = {}
        for stem, path in files.frames.items():
            try:
                height, width = read_frame(path).shape[:2]
            except DatasetError as error:
                yield Problem(error.path, error.reason)
                continue
            sizes[stem] = height, width
            first = next(iter(sizes.values()))
            if sizes[stem] != first:
                yield Problem(path, f"the frame is {width}x{height}, the first one {first[1]}x{first[0]}")
        for number, pictures in files.annotations.items():
            yield from self._annotation_problems(name, number, pictures, files.frames, sizes)

    def _annotation_problems(
        self,
        name: str,
        number: int,
        pictures: dict[str, Path],
        frames: dict[str, Path],
        sizes: dict[str, tuple[int, int]],
    ) -> Iterator[Problem]:
        folder = self.annotations / name if number == _SHARED else self.annotations / name / f"{number:03d}"
        if number > MAX_ID:
            yield Problem(folder, f"object id {number} is above {MAX_ID}: renumber the objects")
        empty = True
        for stem, path in pictures.items():
            if stem not in frames:
                yield Problem(path, "no frame has the name of this annotation")
            elif stem in sizes:
                read = read_labels if number == _SHARED else read_object
                try:
                    empty = not read(path, sizes[stem]).any() and empty
                except DatasetError as error:
                    empty = False
                    yield Problem(error.path, error.reason)
        if empty and any(stem in sizes for stem in pictures):
            yield Problem(folder, "empty masks: no annotation here holds an object")

    def layout_problems(self) -> Iterator[Problem]:
        for name in subfolders(self.images):
            if not (self.annotations / name).is_dir():
                yield Problem(self.images / name, "no annotations for this video")
        for folder in (self.images, self.annotations):
            for stem, path in picture_files(folder).items():
                yield Problem(path, f"a picture ({stem}) outside the folder of a video is not read")


def _listed(root: Path, split: str) -> list[str]:
    lists = sorted(root.rglob(f"{split}.txt"))
    if not lists:
        raise DatasetError(root, f"no list {split}.txt here: name a split that exists, or none")
    return lists[0].read_text().split()
