"""A small source with objects, for the tests of export formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sam2.formats import Found, FrameMasks, ObjectInfo, Source

SIZE = (30, 41)
"""(height, width), odd on purpose."""
CAT = 'cat/"dog", <&>'
NAMES = {3: ObjectInfo('a "b", <c>\n&', CAT), 300: ObjectInfo("猫,é"), 7: ObjectInfo()}
TIMES = [0.0, 0.1, 0.25, 0.3, 0.7]


def picture_of(index: int) -> np.ndarray:
    """A gradient that moves."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x * 6 % 256, y * 8 % 256, x * 0 + 20 * index], axis=-1).astype(np.uint8)


def mask_of(object_id: int, index: int) -> np.ndarray:
    """3: a ring that moves. 300: two squares, absent on frames 1 and 4. 7: never there."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    away = (x - 14 - index) ** 2 + (y - 14) ** 2
    if object_id == 3:
        return (away < 100) & (away >= 16)
    if object_id == 300 and index not in (1, 4):
        return ((x < 6) & (y < 5)) | ((x > 35) & (y > 22))
    return np.zeros(SIZE, dtype=bool)


def source_of(is_video: bool = True, **changes: Any) -> Source:
    return Source(
        **{
            "picture": picture_of,
            "size": SIZE,
            "is_video": is_video,
            "objects": NAMES,
            "file_name": "clip.mp4" if is_video else "photo.jpg",
            "frames": 5 if is_video else 1,
            "fps": 10.0,
            "timestamps": np.array(TIMES) if is_video else None,
            **changes,
        }
    )


def frames_of(is_video: bool = True, objects: Mapping[int, ObjectInfo] = NAMES) -> Iterator[FrameMasks]:
    for index in range(5 if is_video else 1):
        found = {key: Found.of(mask_of(key, index), 0.875, 0.5) for key in objects}
        name = f"{index:05d}.png" if is_video else "photo.jpg"
        yield FrameMasks(index, name, TIMES[index] if is_video else None, found)
