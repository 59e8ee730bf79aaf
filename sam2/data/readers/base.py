"""What every data set on disk looks like: clips by number, read when asked for, and a check of its files."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam2.data.clip import Clip
from sam2.masks.png import MaskFileError, read_label_map, read_mask
from sam2.video import PICTURE_SUFFIXES, PictureError, natural_sorted, read_picture

MAX_ID = 255
"""Object ids in label pictures are one byte; 0 is the ground."""


class DatasetError(ValueError):
    """A data set, or one of its files, cannot be used. ``path`` is the file or folder to look at."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.reason = message


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set."""

    path: Path
    """The offending file or folder."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ClipDataset(ABC, Sequence[Clip]):
    """A data set on disk: ``len``, ``names``, ``[i]`` -> Clip; nothing is decoded before it is asked for.

    ``[i]`` and ``load`` raise DatasetError naming the file where one is missing, damaged or does not fit;
    the others stay readable, so a training run can skip and count.
    """

    format: str = ""
    exclusive: bool = False
    """Whether a pixel belongs to one object at most, as where label pictures hold them."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = root
        self.names = names
        """One for each clip."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.load(i) for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"clip {index} is out of range: {self.root} holds {len(self)}")
        return self.load(position)

    def num_frames(self, index: int) -> int:
        """Annotated frames of clip ``index``; stills have 1."""
        return 1

    @abstractmethod
    def load(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        """Clip ``index``, or its annotated frames number ``frames`` alone (under num_frames), in that order.

        Its objects are those annotated in at least one of these frames.
        """

    def footage(self, index: int) -> tuple[Any, list[int]]:
        """All frames of clip ``index``, annotated or not, and the numbers of the annotated ones among them.

        The frames are what ``sam2.video.open_video`` takes: a path, or a list of pictures or their paths.
        """
        frames = list(self.load(index).frames)
        return frames, list(range(len(frames)))

    @abstractmethod
    def problems(self, index: int) -> Iterator[Problem]:
        """All that is wrong with the files of clip ``index``."""

    def layout_problems(self) -> Iterator[Problem]:
        """Files without partners and the like, which no clip holds."""
        return iter(())

    def check(self) -> list[Problem]:
        """Read everything once; all problems found, files without partners first."""
        found = list(self.layout_problems())
        for index in range(len(self)):
            found += self.problems(index)
        return found


def picture_files(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by stem, in natural order.

    Raises DatasetError where two differ in their suffix alone, for no one could say which is meant.
    """
    found: dict[str, Path] = {}
    for name in natural_sorted(entry.name for entry in os.scandir(folder) if entry.is_file()):
        path = folder / name
        if path.suffix.lower() not in PICTURE_SUFFIXES or name.startswith("."):
            continue
        if path.stem in found:
            raise DatasetError(path, f"{found[path.stem].name} has the same name: remove one of the two")
        found[path.stem] = path
    return found


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, in natural order, hidden ones left out."""
    return natural_sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def read_frame(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]; DatasetError where it cannot be read."""
    try:
        return read_picture(path)
    except PictureError as error:
        raise DatasetError(path, _without_name(str(error), path)) from error


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] of object ids; DatasetError: unreadable, another size than ``size``, an id above 255."""
    try:
        labels = read_label_map(path)
    except FileNotFoundError as error:
        raise DatasetError(path, "the annotation is missing") from error
    except MaskFileError as error:
        raise DatasetError(path, _without_name(str(error), path)) from error
    check_size(path, labels.shape, size)
    if labels.max(initial=0) > MAX_ID:
        raise DatasetError(path, f"object id {labels.max()} is above {MAX_ID}: renumber the objects")
    return labels.astype(np.uint8)


def read_object(path: Path, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of a picture of one object; DatasetError: unreadable, or another size than ``size``."""
    try:
        mask = read_mask(path)
    except FileNotFoundError as error:
        raise DatasetError(path, "the mask is missing") from error
    except MaskFileError as error:
        raise DatasetError(path, _without_name(str(error), path)) from error
    check_size(path, mask.shape, size)
    return mask


def check_size(path: Path, mask: tuple[int, ...], size: tuple[int, int]) -> None:
    """DatasetError where a mask [H, W] does not fit its picture's ``size`` (height, width)."""
    if tuple(mask) != tuple(size):
        raise DatasetError(
            path,
            f"the mask is {mask[1]}x{mask[0]} but its picture {size[1]}x{size[0]} (width x height): "
            "resize the mask to the picture, with nearest-neighbour sampling",
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file; DatasetError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(path, "the annotation is missing") from error
    except (OSError, ValueError) as error:
        raise DatasetError(path, f"not readable as JSON ({error})") from error


def clip_of_labels(frames: list[np.ndarray], labels: list[np.ndarray], name: str) -> Clip:
    """Clip of frames uint8 [H, W, 3] and their label pictures uint8 [H, W]; all of one size."""
    stack = np.stack(labels)
    ids = [int(i) for i in np.flatnonzero(np.bincount(stack.ravel(), minlength=256)) if i]
    masks = np.empty((len(stack), len(ids), *stack.shape[1:]), np.bool_)
    for n, object_id in enumerate(ids):
        np.equal(stack, object_id, out=masks[:, n])
    return Clip(np.stack(frames), masks, tuple(ids), name)


def _without_name(message: str, path: Path) -> str:
    """``message`` without the path that DatasetError puts before it anyway."""
    return message.removeprefix(f"{path} ").removeprefix(f"{path}: ")
