"""The calls of the published camera forks over the streaming tracker."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import FrameGoneError, FrameResult, ObjectPrompt, StreamingTracker

CameraResult = tuple[list[int], Tensor]
"""Object ids, mask logits float32 [N, 1, H, W] at the size of the frame."""


class SAM2CameraPredictor(SAM2VideoPredictor):
    """Objects followed through frames that come one by one, from a camera say.

    `load_first_frame`, prompts, then `track` for each further frame. Prompts may come at any time, on the
    newest frame. Frames are RGB uint8 [H, W, 3], tensors, PIL pictures or PyAV frames.

    Args:
        kwargs: options of `SAM2VideoPredictor`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tracker: StreamingTracker | None = None
        self._loaded = 0

    def load_first_frame(self, img: Any) -> None:
        """Begins a new stream with a frame; objects of an earlier one are forgotten."""
        self.tracker = self.stream()
        self.tracker.push(img)
        self._loaded = 1

    def add_conditioning_frame(self, img: Any) -> int:
        """Takes a frame to be prompted, without tracking to it; returns its index."""
        index = self._started().push(img)
        self._loaded += 1
        return index

    def add_new_prompt(
        self,
        frame_idx: int,
        obj_id: int,
        points: Any = None,
        bbox: Any = None,
        labels: Any = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> tuple[int, list[int], Tensor]:
        """Prompts an object with points, a box or both.

        Args:
            frame_idx: the newest frame: its index in the stream, or counting only frames that
                `load_first_frame` and `add_conditioning_frame` gave.
            points, labels: [P, 2] in pixels, and [P].
            bbox: x0, y0, x1, y1, or [[x0, y0], [x1, y1]].
            normalize_coords: coordinates are pixels; otherwise shares of the frame's size.

        Returns:
            Frame index, object ids, mask logits.

        Raises:
            ValueError: no frame yet, a frame that is gone, a prompt that does not fit.
        """
        prompt = ObjectPrompt(obj_id, points, labels, bbox, clear_old_points=clear_old_points)
        return self._asked(self._started().session, self._newest(frame_idx), prompt, not normalize_coords)

    def add_new_points(
        self,
        frame_idx: int,
        obj_id: int,
        points: Any,
        labels: Any,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> tuple[int, list[int], Tensor]:
        """`add_new_prompt` with points only."""
        return self.add_new_prompt(
            frame_idx, obj_id, points, None, labels, clear_old_points, normalize_coords
        )

    def add_new_mask(  # type: ignore[override]
        self, frame_idx: int, obj_id: int, mask: Any
    ) -> tuple[int, list[int], Tensor]:
        """Prompts an object with its mask [H, W]; otherwise as `add_new_prompt`."""
        prompt = ObjectPrompt(obj_id, mask=mask)
        return self._asked(self._started().session, self._newest(frame_idx), prompt)

    def track(self, img: Any) -> CameraResult:
        """Follows all objects to a new frame: object ids and mask logits."""
        result: FrameResult = self._started().step(img)
        return result.obj_ids, result.logits

    def _started(self) -> StreamingTracker:
        if self.tracker is None:
            raise ValueError("there is no frame yet: call load_first_frame first")
        return self.tracker

    def _newest(self, frame_idx: int) -> int:
        newest = self._started().frame_idx
        if frame_idx not in (newest, self._loaded - 1):
            raise FrameGoneError(f"frame {frame_idx} is gone: prompt the newest frame, {newest}")
        return newest
