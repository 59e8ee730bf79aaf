"""A video for each object: crops of the frames around it, and how they follow it.

Shapes: H x W the video, S the model's input size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.close_labels import Labels
from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD, FrameReader, normalize
from sam2.tracking.session import VideoSession
from sam2.video.ahead import ReadAhead
from sam2.zoom import View, Window

ONLY = 0
"""The object's id in its own video."""


@dataclass(frozen=True)
class Following:
    """How a window follows its object."""

    margin: float = 3.0
    """Side of the window, over the object's longer side, while it stays where it is."""
    lead: float = 4.0
    """The window of an object that moves is wider by so many frames of its way."""
    widest: float = 4.5
    """Side of the widest window so, over the object's longer side."""
    smallest: int = 64
    """Side of the smallest window, pixels."""
    drift: float = 0.12
    """The window moves once its middle is further than this from the object's, as a share of its side."""
    change: float = 1.4
    """And changes its size once that is wrong by this factor."""
    pace: float = 1.15
    """By which factor its side changes at most from frame to frame."""
    max_gap: float = 0.35
    """Pieces of a mask further than this from its largest one, as a share of the longer side of that box,
    are let go as another thing's, unless the object was prompted so."""
    sure: float = 0.4
    """Predicted IoU from which on an object that was gone is taken to be back, since what is mistaken for it
    would be followed for good; while it is seen, its presence is enough."""
    patience: int = 3
    """Frames without the object after which the window looks for it elsewhere."""
    wider: float = 1.5
    """Side of the windows that look for it, over the one in which it usually is seen."""
    most: float = 4.0
    """The longer side of the video over that of such a window, at most."""
    detail: float = 1.8
    """Side of the window of a second look at the object where the first found it (`sam2.close_details`), over
    the object's longer side: better outlines, for the time of a second encoding. 0: one look is all."""
    carries: bool = True
    """Masks are carried from frame to frame by correspondence (`sam2.close_labels`), which suits the packaged
    model; with False the first look takes those that the model reads from memory, as better models can."""
    agreement: float = 0.5
    """IoU with the first look's mask from which on the second one's is believed."""

    def __post_init__(self) -> None:
        if self.detail and self.detail < 1:
            raise ValueError(f"detail is {self.detail}: the window must hold the object, so 1 or more, or 0")


class SharedFrames:
    """The frames of the video, the last one kept for all objects, and coming ones read ahead in a thread."""

    def __init__(self, video: FrameReader) -> None:
        self.video = video
        self.width, self.height = video.width, video.height
        self._last: tuple[int, np.ndarray] | None = None
        self._ahead: ReadAhead[np.ndarray, np.ndarray] | None = None
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._last is None or self._last[0] != index:
            taken = None if self._ahead is None else self._ahead.take(index)
            self._last = index, self._read(index) if taken is None else taken
        return self._last[1]

    def _read(self, index: int) -> np.ndarray:
        with self._turn:
            return self.video[index]

    @contextmanager
    def ahead(self, order: Sequence[int]) -> Iterator[None]:
        """While the block lasts."""
        before = self._ahead
        mine = self._ahead = ReadAhead(self._read, lambda frame: frame, order)
        try:
            yield
        finally:
            mine.close()
            self._ahead = before

    def close(self) -> None:
        """The video is the caller's."""


class Windows:
    """The frames of an object's own video: `windows[i]` of frame i as float32 [3, S, S], normalised.

    A frame without a window shows the whole.
    """

    def __init__(self, reader: FrameReader, image_size: int, device: torch.device) -> None:
        self.reader = reader
        self.image_size = image_size
        self.device = device
        self.windows: dict[int, Window] = {}

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Tensor:
        x0, y0, x1, y1 = self.window(index)
        crop = torch.from_numpy(self.reader[index][y0:y1, x0:x1].copy()).permute(2, 0, 1)
        # as `resize_frame` but for rounding, four times as fast
        side = (self.image_size, self.image_size)
        pixels = F.interpolate(crop[None], side, mode="bicubic", antialias=True)[0].to(self.device)
        return normalize(pixels.float() / 255.0, IMAGENET_MEAN, IMAGENET_STD)

    def window(self, index: int) -> Window:
        """What is shown of a frame."""
        return self.windows.get(index) or Window(0, 0, self.reader.width, self.reader.height)

    def close(self) -> None:
        """The reader is the caller's."""


@dataclass
class OwnVideo:
    """A video of one object: the crops of the frames, and what is known of it there."""

    session: VideoSession
    frames: Windows
    labels: Labels
    reverse: bool = field(default=False, kw_only=True)
    """The pass goes backwards."""

    def look_at(self, frame_idx: int, window: Window) -> None:
        """Chooses the window of a frame."""
        if self.frames.window(frame_idx) != window or frame_idx not in self.frames.windows:
            self.frames.windows[frame_idx] = window
            self.session.features.clear()  # what it holds was seen through other windows

    def point_out(self, frame_idx: int, mask: Tensor) -> None:
        """Takes a prompt's mask for one that others are carried from, bool [S, S] as the window shows it."""
        self.labels.prompted(frame_idx, self.frames.window(frame_idx), mask)

    def redrawn(self, frame_idx: int, own: Tensor, score: float) -> Tensor:
        """The mask that frames near by make on a frame, logits [s, s], else `own`, whose predicted IoU is
        `score`."""
        return self.labels.redrawn(frame_idx, self.frames.window(frame_idx), own, score, self.reverse)

    def keep(self, frame_idx: int, logits: Tensor) -> None:
        """Takes the mask [s, s] of a tracked frame for one that others are carried from."""
        self.labels.found(frame_idx, self.frames.window(frame_idx), logits)

    def latest(self, frame_idx: int) -> View | None:
        """The object's latest mask on a frame, None where it has none."""
        track = self.session.tracks.get(ONLY)
        shown = None if track is None else track.latest(frame_idx)
        if shown is None:
            return None
        return View(
            self.frames.window(frame_idx),
            shown.logits[0, 0].float(),
            float(shown.predicted_iou),
            float(shown.object_score_logits),
        )


def as_seen(mask: np.ndarray, window: Window, side: int) -> Tensor:
    """A mask bool [H, W] as a window shows it to the model, bool [side, side]."""
    crop = np.ascontiguousarray(mask[window.y0 : window.y1, window.x0 : window.x1])
    whole = torch.from_numpy(crop).float()[None, None]
    return F.interpolate(whole, (side, side), mode="bilinear", antialias=True)[0, 0] >= 0.5


def middle_of(window: Window) -> tuple[float, float]:
    """x and y, pixels of the picture."""
    return (window.x0 + window.x1) / 2, (window.y0 + window.y1) / 2
