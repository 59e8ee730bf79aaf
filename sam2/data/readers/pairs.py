"""Plain folders of pictures and masks, paired by their names.

images/a.jpg  masks/a.png              one file a picture: an indexed PNG of objects, or black and white
images/a.jpg  masks/a_1.png a_2.png    one file an object (any text may follow the underscore)
images/a.jpg  masks/a/1.png 2.png      the same, in a folder of the picture's name
a.jpg a_mask.png                       all in one folder
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sam2.data.clip import Clip
from sam2.data.readers.base import (
    MAX_ID,
    ClipDataset,
    DatasetError,
    Problem,
    check_size,
    picture_files,
    read_frame,
    read_labels,
    read_object,
    subfolders,
)
from sam2.data.readers.stills import check_still
from sam2.masks.png import MaskFileError, read_label_map

_IMAGES = ("images", "image", "imgs", "img", "pictures", "photos", "frames", "JPEGImages")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "gt", "segmentations", "Annotations")


_LOSSY = (".jpg", ".jpeg", ".webp")
"""Pictures whose greys are not to be taken for ids."""


def find_pairs(root: Path) -> tuple[Path, Path] | None:
    """The folders of pictures and masks in ``root`` (the same one where masks end in _mask), or None."""
    images = next((root / name for name in _IMAGES if (root / name).is_dir()), None)
    masks = next((root / name for name in _MASKS if (root / name).is_dir()), None)
    if images is not None and masks is not None:
        return images, masks
    if root.is_dir() and any(path.stem.endswith("_mask") for path in root.iterdir() if path.is_file()):
        return root, root
    return None


class ImageMaskPairs(ClipDataset):
    """Pictures with masks of the same name beside them; see the module for the ways to name them.

    ``images`` and ``masks`` name the folders where ``root`` has them under unusual names.
    """

    format = "pairs"

    def __init__(self, root: Path, images: Path | None = None, masks: Path | None = None) -> None:
        if images is None or masks is None:
            found = find_pairs(root)
            if found is None:
                raise DatasetError(
                    root, "no folders images and masks here, and no pictures a.jpg with a_mask.png"
                )
            images, masks = found
        self.images, self.masks = images, masks
        together = images == masks
        pictures = {
            stem: path
            for stem, path in picture_files(images).items()
            if not (together and stem.endswith("_mask"))
        }
        self._pictures = pictures
        self._masks: dict[str, list[Path]] = {stem: [] for stem in pictures}
        self._stray: list[Path] = []
        candidates = list(picture_files(masks).values())
        for path in candidates:
            if together and not path.stem.endswith("_mask"):
                continue
            owner = _owner(path.stem, pictures)
            (self._masks[owner] if owner is not None else self._stray).append(path)
        for name in [] if together else subfolders(masks):
            if name in pictures:
                self._masks[name] += picture_files(masks / name).values()
            else:
                self._stray.append(masks / name)
        super().__init__(root, [stem for stem in pictures if self._masks[stem]])

    def load(self, index: int, frames: Sequence[int] | None = None) -> Clip:
        check_still(frames)
        name = self.names[index]
        frame = read_frame(self._pictures[name])
        objects = self._objects(name, (frame.shape[0], frame.shape[1]))
        seen = {number: mask for number, mask in objects.items() if mask.any()}
        masks = np.stack(list(seen.values())) if seen else np.zeros((0, *frame.shape[:2]), np.bool_)
        return Clip(frame[None], masks[None], tuple(seen), name)

    def _objects(self, name: str, size: tuple[int, int]) -> dict[int, np.ndarray]:
        files = self._masks[name]
        if len(files) > 1:
            return {number: read_object(path, size) for number, path in enumerate(files, 1)}
        return _of_one_file(files[0], size)

    def problems(self, index: int) -> Iterator[Problem]:
        name = self.names[index]
        try:
            size = read_frame(self._pictures[name]).shape[:2]
        except DatasetError as error:
            yield Problem(error.path, error.reason)
            return
        files = self._masks[name]
        if len(files) > MAX_ID:
            yield Problem(
                files[MAX_ID], f"object id {len(files)} is above {MAX_ID}: too many masks of {name}"
            )
        for path in files:
            try:
                whole = (size[0], size[1])
                objects = {1: read_object(path, whole)} if len(files) > 1 else _of_one_file(path, whole)
                if not any(mask.any() for mask in objects.values()):
                    yield Problem(path, "empty mask")
            except DatasetError as error:
                yield Problem(error.path, error.reason)

    def layout_problems(self) -> Iterator[Problem]:
        for stem, path in self._pictures.items():
            if not self._masks[stem]:
                yield Problem(path, "no mask has the name of this picture")
        for path in self._stray:
            yield Problem(path, "no picture has the name of this mask")


def _owner(stem: str, pictures: dict[str, Path]) -> str | None:
    """The picture a mask belongs to: of its own name, or of the longest that an underscore follows."""
    if stem in pictures:
        return stem
    while "_" in stem:
        stem = stem.rpartition("_")[0]
        if stem in pictures:
            return stem
    return None


def _of_one_file(path: Path, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Objects of a picture that holds ids (indexed, or grey with ids), else the one object it shows."""
    if path.suffix.lower() in _LOSSY:
        return {1: read_object(path, size)}
    try:
        labels = read_label_map(path)
    except MaskFileError:
        return {1: read_object(path, size)}
    check_size(path, labels.shape, size)
    values = np.unique(labels)
    # White for the most part: a mask with soft edges. Two values of 16 bits: black and white.
    soft = values[-1] == 255 and np.count_nonzero(labels == 255) * 2 > np.count_nonzero(labels)
    if soft or (len(values) <= 2 and (values[-1] == 1 or values[-1] > MAX_ID)):
        return {1: read_object(path, size)}
    ids = read_labels(path, size)
    return {int(value): ids == value for value in values if value}
