"""Objects followed through a stream of unknown length: frame in, masks out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sam2.memory import FifoPolicy, StorageOptions, make_policy
from sam2.preprocess import LazyFrames, resize_frame
from sam2.tracking.engine import TrackingEngine
from sam2.tracking.features import FeatureBudget, FeatureCache
from sam2.tracking.prompting import ObjectPrompt
from sam2.tracking.results import FrameResult
from sam2.tracking.session import VideoSession
from sam2.tracking.stream import ResizedFrame, StreamReader
from sam2.video import LiveFrame, VideoReader, VideoWarning, is_live, open_live, open_video
from sam2.video.ahead import ReadAhead

STREAM_COND_FRAMES = 4
"""Conditioning frames that a frame of a stream reads where the model sets no limit of its own."""


class StreamingTracker:
    """Tracks objects frame by frame; prompts, new objects, corrections and removals at any moment.

    Gives the numbers of a whole video tracked forwards. Two differences are deliberate: the length of a
    stream is unknown, so the time of object pointers is scaled as in videos of 16 frames or more; and a
    frame reads at most `max_cond_frames` prompted frames, so that memory and time stay flat however often
    objects are corrected.

    Args:
        engine: the model and its options, `predictor.engine` say.
        max_cond_frames: most prompted frames read, the closest in time; None for the model's own limit,
            or 4 where it has none.
        correct_as_conditioning: a frame corrected after it was tracked counts as prompted from then on.
        keep_frames: how many of the newest frames can be prompted.
        storage: where masks and memories of past frames go; dropped by default.
        feature_budget: where encoded frames are kept; by default the newest on the device only.
        policy: which memories a frame reads: "fifo", "stride", "motion", "distractor", "tree", or a policy.
        session: a stream's session to go on with (`VideoSession.load`); its own options stay.
    """

    def __init__(
        self,
        engine: TrackingEngine,
        *,
        max_cond_frames: int | None = None,
        correct_as_conditioning: bool = True,
        keep_frames: int = 1,
        storage: StorageOptions | None = None,
        feature_budget: FeatureBudget | None = None,
        policy: str | FifoPolicy = "fifo",
        session: VideoSession | None = None,
    ) -> None:
        self.engine = engine
        self.correct_as_conditioning = correct_as_conditioning
        model = engine.model
        start = 0 if session is None else session.num_frames
        self._reader = StreamReader(keep_frames, start)
        self._frames = frames = LazyFrames(
            self._reader, model.image_size, model.device, cache_size=keep_frames, close_reader=True
        )
        features = FeatureCache(feature_budget or FeatureBudget(keep_frames, host_bytes=0))
        if session is not None:
            if not session.endless:
                raise ValueError("this session belongs to a video: go on with SAM2VideoPredictor.propagate")
            session.images = frames
            session.features = features
            self.session = session
            return
        chosen = make_policy(policy, model.memory_policy)
        if max_cond_frames is None:
            max_cond_frames = STREAM_COND_FRAMES if chosen.max_cond_frames == -1 else chosen.max_cond_frames
        self.session = VideoSession(
            images=frames,
            video_height=0,
            video_width=0,
            device=model.device,
            storage_device=model.device,
            endless=True,
            features=features,
            storage=storage or StorageOptions(history="none"),
            policy=replace(chosen, max_cond_frames=max_cond_frames),
        )

    @property
    def frame_idx(self) -> int:
        """Index of the newest frame, -1 before the first."""
        return len(self._reader) - 1

    @torch.inference_mode()
    def push(self, frame: Any, prompts: Sequence[ObjectPrompt] = ()) -> int:
        """Takes a frame with its prompts without tracking objects to it; returns its index.

        Args:
            frame: uint8 RGB [H, W, 3], a tensor, a PIL picture or a PyAV frame; its size may change.
            prompts: in pixels of this frame.

        Raises:
            ValueError: not a picture, or a prompt that does not fit it.
        """
        with self.session.lock:
            self.engine.commit(self.session)
            sized = frame if isinstance(frame, ResizedFrame) else None
            index = self._reader.push(frame if sized is None else sized.pixels)
            if sized is not None:
                self._frames.put(index, sized.resized)
            self.session.video_height, self.session.video_width = self._reader.height, self._reader.width
            self._ask(prompts)
            return index

    @torch.inference_mode()
    def step(
        self, frame: Any, prompts: Sequence[ObjectPrompt] = (), timestamp: float | None = None
    ) -> FrameResult:
        """Takes a frame, follows all objects to it, and gives their masks.

        An object prompted here is segmented from its prompt; without objects the result is empty.
        Arguments and errors as in `push`; where a prompt is refused, the frame counts as pushed.
        """
        with self.session.lock:
            index = self.push(frame, prompts)
            self.engine.commit(self.session)
            result = self.engine.track_frame(self.session, index, reverse=False)
            return replace(result, timestamp=timestamp)

    @torch.inference_mode()
    def prompt(self, *prompts: ObjectPrompt, frame_idx: int | None = None) -> FrameResult:
        """Prompts new objects or corrects known ones on the newest frame, after it was tracked.

        Args:
            frame_idx: an older frame among those kept.

        Returns:
            The masks of all objects on that frame.

        Raises:
            ValueError: a prompt that does not fit; no frame yet; a frame that is gone.
        """
        with self.session.lock:
            self._ask(prompts, frame_idx)
            index = self.frame_idx if frame_idx is None else frame_idx
            return self.engine.result(self.session, index)

    def _ask(self, prompts: Iterable[ObjectPrompt], frame_idx: int | None = None) -> None:
        index = self.frame_idx if frame_idx is None else frame_idx
        for one in prompts:
            if index < 0:
                raise ValueError("there is no frame yet: push one before prompting")
            self.engine.ask(self.session, index, one, correct_as_conditioning=self.correct_as_conditioning)

    def remove(self, obj_id: int) -> None:
        """Forgets an object.

        Raises:
            ValueError: there is no such object.
        """
        self.session.remove(obj_id)

    def follow(
        self,
        source: str | os.PathLike[str] | Iterable[Any],
        prompts: Mapping[int, Sequence[ObjectPrompt]] | None = None,
    ) -> Iterator[FrameResult]:
        """Results for each frame of a source, with its times where it has some.

        Frames of a video are read and resized in threads while the model works. Those of a live source are
        decoded in one, but resized when it is their turn: made ready before, they would be older.

        Args:
            source: frames as `push` takes them, or `LiveFrame`s (`open_live` gives them), or an open video;
                or what to open: "camera:0", an rtsp:// or http:// address, "-" for standard input, or the
                path of a video.
            prompts: by frame index.

        Raises:
            VideoError: the source cannot be opened, or was lost; LiveStallError: it gives no frame. Objects
                and memories stay: call again to go on.
        """
        asked = prompts or {}
        size = self.engine.model.image_size
        with closing(_frames_of(source, size)) as frames:  # type: ignore[type-var]
            for timestamp, frame in frames:
                yield self.step(frame, asked.get(self.frame_idx + 1, ()), timestamp)

    def close(self) -> None:
        """Lets frames and memories go."""
        self.session.close()

    def __enter__(self) -> StreamingTracker:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _frames_of(
    source: str | os.PathLike[str] | Iterable[Any], size: int
) -> Iterator[tuple[float | None, Any]]:
    """(seconds or None, frame) of whatever `StreamingTracker.follow` takes."""
    if is_live(source):
        with open_live(source) as live:
            yield from ((item.timestamp, item.frame) for item in live)
            if live.corrupt:
                warnings.warn(
                    f"{live.name}: {live.corrupt} packets did not decode", VideoWarning, stacklevel=2
                )
    elif isinstance(source, (str, os.PathLike)):
        with open_video(source, cache_frames=0) as reader:
            yield from _resized_frames(reader, size)
    elif isinstance(source, VideoReader):
        yield from _resized_frames(source, size)
    else:
        for item in source:
            if isinstance(item, LiveFrame):
                yield item.timestamp, item.frame
            else:
                yield getattr(item, "time", None), item  # a PyAV frame has one


def _resized_frames(reader: VideoReader, size: int) -> Iterator[tuple[float, ResizedFrame]]:
    """(seconds, frame) of a video, read ahead of their use."""

    def resized(pixels: np.ndarray) -> ResizedFrame:
        return ResizedFrame(pixels, resize_frame(pixels, size))

    with closing(ReadAhead(reader.view, resized, range(len(reader)))) as ahead:
        for index, timestamp in enumerate(map(float, reader.timestamps)):
            frame = ahead.take(index)
            assert frame is not None
            yield timestamp, frame
