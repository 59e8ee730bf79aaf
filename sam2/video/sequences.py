"""Videos in memory: arrays, tensors, and lists of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from sam2.video.errors import PictureError, PictureNotFoundError, VideoError, VideoNotFoundError
from sam2.video.picture import as_numpy, picture_size, read_picture
from sam2.video.reader import VideoReader

__all__ = ["SequenceReader", "is_sequence"]


def is_sequence(source: Any) -> bool:
    """Whether `source` is an array, a tensor, or a list or tuple."""
    return (
        isinstance(source, (np.ndarray, list, tuple)) or hasattr(source, "numpy") or hasattr(source, "mode")
    )


class SequenceReader(VideoReader):
    """Frames that are already in memory, or a list of picture files; each is converted when asked for."""

    def __init__(
        self, source: Any, *, fps: Fraction, cache_frames: int, cache_bytes: int, prefetch: int
    ) -> None:
        super().__init__(cache_frames=cache_frames, cache_bytes=cache_bytes, prefetch=prefetch)
        self._frames = _frames_of(source)
        if len(self._frames) == 0:
            raise VideoError("the video has no frames: give at least one")
        self.fps = fps
        self.timestamps = np.arange(len(self._frames)) / float(fps)
        self.width, self.height = self._size(0)
        if not isinstance(self._frames, np.ndarray):
            for index in range(1, len(self._frames)):
                size = self._size(index)
                if size != (self.width, self.height):
                    raise VideoError(
                        f"frame {index} is {size[0]}x{size[1]} but frame 0 is {self.width}x{self.height}: "
                        "all frames must have one size"
                    )

    def _size(self, index: int) -> tuple[int, int]:
        frame = self._frames[index]
        try:
            return picture_size(frame)
        except PictureNotFoundError as error:
            raise VideoNotFoundError(f"frame {index}: {error}") from None
        except PictureError as error:
            raise VideoError(f"frame {index}: {error}") from None

    def _load(self, index: int) -> np.ndarray:
        try:
            return read_picture(self._frames[index])
        except PictureError as error:
            raise VideoError(f"frame {index}: {error}") from None

    def _release(self) -> None:
        self._frames = ()


def _frames_of(source: Any) -> Sequence[Any] | np.ndarray:
    if isinstance(source, (list, tuple)):
        return source
    if hasattr(source, "mode"):
        return [source]
    array = source if isinstance(source, np.ndarray) else as_numpy(source)
    if array.ndim == 3 and (array.shape[2] in (3, 4) or array.shape[0] in (3, 4)):
        return [array if array.shape[2] in (3, 4) else array.transpose(1, 2, 0)]
    if array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] not in (1, 3, 4):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4):
        raise VideoError(f"an array of shape {array.shape} is not a video: [T, H, W, 3] or [T, 3, H, W] is")
    return array
