"""Data sets on disk as clips: ``open_dataset(path)`` finds their kind, ``check(path)`` what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

from sam2.data.readers.base import ClipDataset, DatasetError, Problem
from sam2.data.readers.pairs import ImageMaskPairs, find_pairs
from sam2.data.readers.sav import SavVideos
from sam2.data.readers.stills import CocoInstances, Sa1b
from sam2.data.readers.vos import VosFolders, find_vos

__all__ = [
    "FORMATS",
    "ClipDataset",
    "CocoInstances",
    "DatasetError",
    "ImageMaskPairs",
    "Problem",
    "Sa1b",
    "SavVideos",
    "VosFolders",
    "check",
    "detect_format",
    "open_dataset",
]

FORMATS = ("vos", "sav", "sa1b", "coco", "pairs", "pool")
"""DAVIS and its like and SA-V val; SA-V train; SA-1B; COCO instances; images and masks; generated pools."""


def detect_format(path: str | os.PathLike[str]) -> str:
    """One of FORMATS.

    Raises FileNotFoundError where nothing is there, DatasetError where it looks like none of them.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: check the path of the data set")
    if root.is_file():
        if root.suffix == ".json":
            return "coco"
        raise DatasetError(root, "a data set is a folder, or the JSON of COCO instances")
    if (root / "pool.json").exists():
        return "pool"
    if find_vos(root) is not None:
        return "vos"
    if next(root.rglob("*.mp4"), None) is not None:
        return "sav"
    if find_pairs(root) is not None:
        return "pairs"
    if any(note.with_suffix(s).exists() for note in root.rglob("*.json") for s in (".jpg", ".jpeg", ".png")):
        return "sa1b"
    raise DatasetError(
        root,
        "no known layout: JPEGImages + Annotations (DAVIS and its like), MP4 + JSON (SA-V), "
        "JPEG + JSON (SA-1B), images + masks; for COCO name the JSON",
    )


def open_dataset(
    path: str | os.PathLike[str], format: str | None = None, split: str | None = None
) -> ClipDataset:
    """The data set at ``path``; nothing but names is read yet.

    ``format``: one of FORMATS, found out where None. ``split``: of folders like DAVIS, only the videos listed
    in ``<split>.txt``. Raises FileNotFoundError, DatasetError (a layout that does not fit), ValueError (an
    unknown format, or a split where the format has none).
    """
    root = Path(path)
    kind = detect_format(root) if format is None else format
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {kind!r}")
    if split is not None and kind != "vos":
        raise ValueError(f"a data set of format {kind} has no split {split!r}: leave it out")
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: check the path of the data set")
    if kind == "vos":
        return VosFolders(root, split)
    if kind == "sav":
        return SavVideos(root)
    if kind == "sa1b":
        return Sa1b(root)
    if kind == "coco":
        return CocoInstances(root)
    if kind == "pool":
        from sam2.data.pool import ClipPool  # a pool is a data set itself

        return ClipPool(root)
    return ImageMaskPairs(root)


def check(path: str | os.PathLike[str], format: str | None = None, split: str | None = None) -> list[Problem]:
    """All that is wrong with the data set at ``path``, each naming the file; reads every file once.

    Raises as ``open_dataset`` does, except for what can be told of one file (which is a problem, too).
    """
    try:
        dataset = open_dataset(path, format, split)
    except DatasetError as error:
        return [Problem(error.path, error.reason)]
    if not len(dataset):
        return [*dataset.layout_problems(), Problem(Path(path), "no annotated clip or picture here")]
    return dataset.check()
