"""Videos that are pictures on disk: a folder of numbered frames, one picture, or an animated picture."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from sam2.video.errors import PictureError, VideoError
from sam2.video.picture import PICTURE_SUFFIXES, picture_size, read_picture
from sam2.video.reader import VideoReader, near_rate

__all__ = ["FolderReader", "PictureReader", "frame_files", "is_picture", "natural_key", "natural_sorted"]

_PICTURE_FORMATS = {"JPEG", "PNG", "WEBP", "BMP", "TIFF", "MPO", "PPM", "JPEG2000", "AVIF"}


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which numbers inside names count by value: frame2 before frame10, 007 equal to 7."""
    key: list[tuple[int, int, str]] = []
    for digits, text in re.findall(r"([0-9]+)|([^0-9]+)", name):
        if digits:
            value = digits.lstrip("0")
            key.append((0, len(value), value))
        else:
            key.append((1, 0, text.casefold()))
    return tuple(key)


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Names in natural order; equal keys ("7" and "007") fall back to plain order, so that it is total."""
    return sorted(names, key=lambda name: (natural_key(name), name))


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order; hidden files, other files and sub-folders are passed over.

    Raises:
        VideoError: there is none, or two files of one name and different endings compete for a place.
    """
    names = [
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in PICTURE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]
    if not names:
        raise VideoError(
            f"{folder} holds no frames: put pictures in it ({', '.join(sorted(PICTURE_SUFFIXES))}), named "
            "by their number"
        )
    by_stem: dict[str, str] = {}
    for name in natural_sorted(names):
        stem = Path(name).stem
        if stem in by_stem:
            raise VideoError(
                f"{folder} holds both {by_stem[stem]} and {name}: keep the frames in a folder of their own, "
                "one file a frame"
            )
        by_stem[stem] = name
    return [folder / name for name in by_stem.values()]


def is_picture(source: Path | bytes) -> bool:
    """Whether Pillow reads this file; it does not read videos, and GIF and animated PNG are videos here."""
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            animated_png = image.format == "PNG" and getattr(image, "n_frames", 1) > 1
            return image.format in _PICTURE_FORMATS and not animated_png
    except Exception:  # Pillow's plugins raise anything at all on what is not theirs
        return isinstance(source, Path) and source.suffix.lower() in PICTURE_SUFFIXES


class FolderReader(VideoReader):
    """A folder of frames; every header is read at opening, pixels when asked for."""

    def __init__(
        self, folder: Path, *, fps: Fraction, cache_frames: int, cache_bytes: int, prefetch: int
    ) -> None:
        super().__init__(cache_frames=cache_frames, cache_bytes=cache_bytes, prefetch=prefetch)
        self.path = folder
        self.files = frame_files(folder)
        self.fps = fps
        self.timestamps = np.arange(len(self.files)) / float(fps)
        self.width, self.height = picture_size(self.files[0])
        for file in self.files[1:]:
            size = picture_size(file)
            if size != (self.width, self.height):
                raise VideoError(
                    f"{file.name} is {size[0]}x{size[1]} but {self.files[0].name} is "
                    f"{self.width}x{self.height}: all frames of {folder} must have one size"
                )

    def _load(self, index: int) -> np.ndarray:
        return read_picture(self.files[index])


class PictureReader(VideoReader):
    """A still picture as a video of one frame, or an animated WebP with its own frame times."""

    def __init__(
        self,
        source: Path | bytes,
        path: Path | None,
        *,
        fps: Fraction,
        cache_frames: int,
        cache_bytes: int,
        prefetch: int,
    ) -> None:
        super().__init__(cache_frames=cache_frames, cache_bytes=cache_bytes, prefetch=prefetch)
        self.path = path
        self.fps = fps
        self._source = source
        first = read_picture(source)
        self._cache.put(0, first)
        self.height, self.width = first.shape[:2]
        self._animation: Image.Image | None = None
        image = self._open()
        if image.format == "WEBP" and getattr(image, "n_frames", 1) > 1:
            self._animation = image
            self.timestamps = self._frame_times(image)
            length = float(self.timestamps[-1])
            if length > 0:
                self.fps = near_rate((len(self.timestamps) - 1) / length)
        else:
            image.close()
            self.timestamps = np.zeros(1)

    def _open(self) -> Image.Image:
        return Image.open(self._source if isinstance(self._source, Path) else io.BytesIO(self._source))

    def _frame_times(self, image: Image.Image) -> np.ndarray:
        times, now = [], 0.0
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            try:
                image.seek(index)
                image.load()
            except (OSError, EOFError, SyntaxError) as error:
                raise PictureError(f"{self.name} is truncated or damaged at frame {index}: {error}") from None
            times.append(now)
            now += float(image.info.get("duration") or 1000.0 / float(self.fps)) / 1000.0
        return np.asarray(times)

    def _load(self, index: int) -> np.ndarray:
        if self._animation is None:
            return read_picture(self._source)
        self._animation.seek(index)
        return read_picture(self._animation.copy())

    def _release(self) -> None:
        if self._animation is not None:
            self._animation.close()
