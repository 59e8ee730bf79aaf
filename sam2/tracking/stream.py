"""The frames of a stream: the newest few, as model inputs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam2.video import read_picture


class FrameGoneError(ValueError):
    """A frame was asked for that the stream no longer holds."""


@dataclass(frozen=True, eq=False)
class ResizedFrame:
    """A frame, and what `sam2.preprocess.resize_frame` made of it beforehand, at the model's size."""

    pixels: np.ndarray
    """uint8 [H, W, 3]"""
    resized: np.ndarray
    """uint8 [S, S, 3]"""


class StreamReader:
    """Frames as they come; `len` counts all of them, only the `keep` newest can be read.

    A frame may differ in size from the one before: `width` and `height` are those of the newest.

    Args:
        keep: how many frames are held, at least 1.
        start: index of the first frame to come.
    """

    def __init__(self, keep: int = 1, start: int = 0) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: a stream holds at least its newest frame")
        self.keep = keep
        self.width = 0
        self.height = 0
        self._count = start
        self._frames: OrderedDict[int, np.ndarray] = OrderedDict()

    def push(self, frame: Any) -> int:
        """Takes a frame and returns its index.

        Args:
            frame: uint8 RGB [H, W, 3], a tensor [3, H, W] or [H, W, 3], a PIL picture or a PyAV frame.

        Raises:
            ValueError: not a picture; the stream is as it was.
        """
        if hasattr(frame, "to_ndarray"):
            frame = frame.to_ndarray(format="rgb24")
        pixels = read_picture(frame).copy()  # callers reuse their buffers
        self.height, self.width = pixels.shape[:2]
        self._frames[self._count] = pixels
        self._count += 1
        while len(self._frames) > self.keep:
            self._frames.popitem(last=False)
        return self._count - 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> np.ndarray:
        if index not in self._frames:
            held = f"frames {min(self._frames)} to {max(self._frames)}" if self._frames else "none yet"
            raise FrameGoneError(
                f"frame {index} of the stream is gone (held: {held}): prompt the newest frame, or let the "
                "tracker keep more with keep_frames="
            )
        return self._frames[index]

    def close(self) -> None:
        """Lets all frames go."""
        self._frames.clear()
