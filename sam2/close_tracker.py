"""Objects followed from near: each in a window of its own, which moves and grows with it.

A small model sees a frame in few cells, and an object that covers a hundredth of it in one or two. Here each
object has its own video: crops around it, one a frame, in which memory and attention work as ever (to them a
moving window is a moving camera). One object costs what it costs otherwise; N objects cost N encodings a
frame.

Shapes: N objects, H x W the video, S the model's input size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2.memory import FifoPolicy, StorageOptions, TreePolicy, make_policy
from sam2.modeling.outputs import NO_OBJ_SCORE, FrameOutput
from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD, FrameReader, normalize, resize_frame
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking.features import FeatureBudget, FeatureCache
from sam2.tracking.passes import Direction, planned
from sam2.tracking.pieces import close_together, gap_within
from sam2.tracking.prompting import ObjectPrompt, checked_points
from sam2.tracking.results import FrameResult, keep_strongest
from sam2.tracking.session import NothingToTrackError, VideoSession
from sam2.tracking.track import ObjectTrack
from sam2.video.ahead import ReadAhead
from sam2.zoom import View, Window, Zoom, around, extent, paste, square

SHRUNK = 0.1
"""A mask below this share of the object's usual area is no longer the object."""
BACK = (0.2, 5.0)
"""Bounds of the area with which an object comes back, as shares of its usual one."""
CALMING = 0.9
"""Share of an object's speed that is left a frame later, if it stands still then."""
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
    sure: float = 2.0
    """Presence logit from which on an object that was gone is taken to be back, since what is mistaken for it
    would be followed for good; while it is seen, 0 is enough."""
    patience: int = 3
    """Frames without the object after which the window grows, until it is the whole frame."""


@dataclass(frozen=True)
class CloseResult:
    """Masks of all objects on one frame; the first axis of every tensor follows `obj_ids`."""

    frame_idx: int
    obj_ids: list[int]
    views: list[View]
    """Each object's mask in its window."""
    predicted_iou: Tensor
    """[N]"""
    object_score_logits: Tensor
    """Presence logits [N]."""
    video_size: tuple[int, int]
    """(height, width) in pixels."""
    non_overlap: bool = False

    @property
    def logits(self) -> Tensor:
        """Mask logits at the size of the video [N, 1, H, W], made at each call."""
        if not self.views:
            return self.predicted_iou.new_zeros(0, 1, *self.video_size)
        logits = torch.stack([paste(view, self.video_size, None, Zoom())[None] for view in self.views])
        return keep_strongest(logits) if self.non_overlap else logits

    @property
    def masks(self) -> Tensor:
        """Masks at the size of the video, bool [N, H, W]."""
        return self.logits[:, 0] > 0


class _Frames:
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
        crop = resize_frame(np.ascontiguousarray(self.reader[index][y0:y1, x0:x1]), self.image_size)
        pixels = torch.from_numpy(crop).to(self.device).permute(2, 0, 1)
        return normalize(pixels.contiguous().float() / 255.0, IMAGENET_MEAN, IMAGENET_STD)

    def window(self, index: int) -> Window:
        """What is shown of a frame."""
        return self.windows.get(index) or Window(0, 0, self.reader.width, self.reader.height)

    def close(self) -> None:
        """The reader is the caller's."""


@dataclass
class _Close:
    """One object and its own video."""

    session: VideoSession
    frames: Windows
    following: Following
    points: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Points [P, 2] in pixels of the video and labels [P] by prompted frame, for corrections."""
    lost: int = 0
    """Frames since the object was last seen."""
    area: float = 0.0
    """Pixels of the video that it usually covers; 0 where that is not known."""
    last: tuple[int, np.ndarray] | None = None
    """The frame on which it was last seen, and its middle there, pixels."""
    speed: float = 0.0
    """Pixels a frame: the fastest of late."""
    looking_at: int = 0
    """The frame that is being tracked."""
    gone: bool = False
    """It was not seen on the frame before that."""

    def review(self, tracks: Sequence[ObjectTrack], out: FrameOutput) -> tuple[FrameOutput, list[bool]]:
        """The mask without what lies apart from the object, or none where that can hardly be the object; then
        the frame is not remembered."""
        (track,), how = tracks, self.following
        prompted = (track.found[t].logits[0, 0] > 0 for t in track.bank.conditioning if t in track.found)
        gap = max(how.max_gap, *map(gap_within, prompted), 0.0)
        out = replace(out, low_res_masks=close_together(out.low_res_masks, gap))
        window = self.frames.window(self.looking_at)
        area = float((out.low_res_masks > 0).float().mean()) * window.size[0] * window.size[1]
        presence = float(out.object_score_logits)
        if self.gone:
            low, high = BACK
            seen = presence > how.sure and (not self.area or low < area / self.area < high)
        else:
            seen = presence > 0 and area >= SHRUNK * self.area
        if seen:
            self.area += 0.05 * (area - self.area)
            return out, [True]
        absent = torch.full_like(out.low_res_masks, NO_OBJ_SCORE)
        score = -out.object_score_logits.abs() - 0.1  # 0 is not yet absent
        return replace(out, low_res_masks=absent, object_score_logits=score), [False]

    def seen_at(self, frame_idx: int, middle: np.ndarray) -> None:
        """Learns the speed from frames next to each other."""
        if self.last is not None and abs(self.last[0] - frame_idx) == 1:
            way = float(np.hypot(*(middle - self.last[1])))
            self.speed = max(way, CALMING * self.speed)
        self.last = frame_idx, middle

    def look_at(self, frame_idx: int, window: Window) -> None:
        """Chooses the window of a frame."""
        if self.frames.window(frame_idx) != window or frame_idx not in self.frames.windows:
            self.frames.windows[frame_idx] = window
            self.session.features.clear()  # what it holds was seen through other windows

    def mask_on(self, frame_idx: int, size: tuple[int, int]) -> np.ndarray | None:
        """The object's latest mask on a frame, bool [H, W]; None where it has none."""
        track = self.session.tracks.get(ONLY)
        shown = None if track is None else track.latest(frame_idx)
        if shown is None:
            return None
        view = View(self.frames.window(frame_idx), shown.logits[0, 0].float(), 0.0, 0.0)
        return (paste(view, size, None, Zoom()) > 0).cpu().numpy()

    def view(self, result: FrameResult) -> View:
        """The object's mask on a frame of its own video."""
        return View(
            self.frames.window(result.frame_idx),
            result.low_res_logits[0, 0].float(),
            float(result.predicted_iou[0]),
            float(result.object_score_logits[0]),
        )


class CloseTracker:
    """Prompts on any frame, masks of every object on all frames, each object seen from near.

        with open_video("clip.mp4") as video:
            tracker = CloseTracker(build_sam2_video_predictor(), video)
            tracker.prompt(0, obj_id=1, box=(80, 60, 240, 200))
            for result in tracker.propagate():
                result.frame_idx, result.obj_ids, result.masks

    Args:
        predictor: the model and its options.
        video: frames by number, from `sam2.video.open_video`; it stays the caller's to close.
        policy: which memories a frame reads, as of `SAM2VideoPredictor.init_state`, but for "tree".
        storage: where masks and memories of past frames go.
        following: how windows move.

    Raises:
        ValueError: no such policy, or "tree", whose past masks change.
    """

    def __init__(
        self,
        predictor: SAM2VideoPredictor,
        video: FrameReader,
        *,
        policy: str | FifoPolicy | None = None,
        storage: StorageOptions | None = None,
        following: Following | None = None,
    ) -> None:
        self.predictor = predictor
        self.video = video
        self._frames = _Frames(video)
        self.following = following or Following()
        self._policy = None if policy is None else make_policy(policy, predictor.memory_policy)
        if isinstance(self._policy, TreePolicy):
            raise ValueError("policy 'tree' changes past masks: objects cannot be followed closely with it")
        self._storage = storage or StorageOptions()
        self._pictures = SAM2ImagePredictor(predictor, zoom=True, dtype=predictor.dtype)
        self._shown: int | None = None
        self._objects: dict[int, _Close] = {}

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order in which they came."""
        return list(self._objects)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return self.video.height, self.video.width

    def prompt(
        self,
        frame_idx: int,
        obj_id: int,
        *,
        points: Any = None,
        labels: Any = None,
        box: Any = None,
        mask: Any = None,
        clear_old_points: bool = True,
    ) -> CloseResult:
        """Prompts an object, or corrects it; its mask comes from `SAM2ImagePredictor` with zoom.

        Args:
            points, labels, box: as `add_new_points_or_box` of the video predictor takes them, in pixels.
            mask: bool [H, W], alone.
            clear_old_points: forget earlier points on this frame; a box requires it.

        Raises:
            ValueError: a prompt that does not fit, or no such frame; nothing has changed then.
        """
        ObjectPrompt(obj_id, points, labels, box, mask, clear_old_points)  # checks what goes together
        if mask is None:
            height, width = self.size
            checked_points(points, labels, box, clear_old_points, (width, height), self.predictor.image_size)
        if not 0 <= frame_idx < len(self.video):
            raise ValueError(f"there is no frame {frame_idx}: the video has {len(self.video)}")
        known = self._objects.get(obj_id)
        close = known or self._new()
        coords, kinds = close.points.get(frame_idx, (np.zeros((0, 2), np.float32), np.zeros(0, np.int32)))
        if clear_old_points:
            coords, kinds = coords[:0], kinds[:0]
        if points is not None:
            coords = np.concatenate([coords, np.asarray(points, np.float32).reshape(-1, 2)])
            kinds = np.concatenate([kinds, np.asarray(labels, np.int32).reshape(-1)])
        if mask is not None:
            whole = self._as_mask(mask)
        else:
            before = close.mask_on(frame_idx, self.size) if box is None else None
            whole = self._segmented(frame_idx, coords, kinds, box, before)
        window = self._window_of(whole, box)
        if frame_idx in close.frames.windows and close.session.tracks:
            old = close.frames.window(frame_idx)
            window = old if _holds(old, window) else window
        close.look_at(frame_idx, window)
        close.points[frame_idx] = coords, kinds
        close.area = float(whole.sum())
        crop = np.ascontiguousarray(whole[window.y0 : window.y1, window.x0 : window.x1])
        side = self.predictor.image_size
        small = torch.from_numpy(crop).float()[None, None]
        seen = (
            torch.nn.functional.interpolate(small, (side, side), mode="bilinear", antialias=True)[0, 0] >= 0.5
        )
        self.predictor.engine.ask(close.session, frame_idx, ObjectPrompt(ONLY, mask=seen))
        self._objects[obj_id] = close
        return self.result(frame_idx)

    def remove(self, obj_id: int) -> None:
        """Forgets an object.

        Raises:
            ValueError: there is no such object.
        """
        if obj_id not in self._objects:
            known = ", ".join(map(str, self._objects)) or "none yet"
            raise ValueError(f"object id {obj_id!r} is unknown; objects of this video: {known}")
        session = self._objects.pop(obj_id).session
        session.review = None  # which holds the session
        session.close()

    def result(self, frame_idx: int) -> CloseResult:
        """The latest masks of all objects on a frame; an object not seen there yet is absent."""
        engine = self.predictor.engine
        found = [engine.result(close.session, frame_idx) for close in self._objects.values()]
        return CloseResult(
            frame_idx,
            self.obj_ids,
            [close.view(result) for close, result in zip(self._objects.values(), found)],
            torch.cat([result.predicted_iou for result in found]),
            torch.cat([result.object_score_logits for result in found]),
            self.size,
            self.predictor.non_overlap_masks,
        )

    @torch.inference_mode()
    def propagate(
        self,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[CloseResult]:
        """Follows all objects, frame by frame; arguments as of `SAM2VideoPredictor.propagate_in_video`.

        Raises:
            NothingToTrackError: nothing was prompted.
        """
        if not self._objects:
            raise NothingToTrackError(
                "there is nothing to track: prompt an object with points, a box or a mask first"
            )
        if start_frame_idx is None:
            start_frame_idx = min(min(close.points) for close in self._objects.values())
        direction: Direction = "backward" if reverse else "forward"
        for frames, backwards in planned(len(self.video), start_frame_idx, max_frame_num_to_track, direction):
            with self._frames.ahead(frames):
                for frame_idx in frames:
                    for close in self._objects.values():
                        self._follow(close, frame_idx, backwards)
                    yield self.result(frame_idx)

    def forget_tracked(self, centres: Sequence[int]) -> None:
        """Lets masks and memories go that frames about `centres` do not read; prompts and their masks stay.

        Called as frames are tracked, a long video takes no more memory than a short one.
        """
        for close in self._objects.values():
            session = close.session
            session.forget_tracked(centres, self.predictor.engine.policy(session).horizon())

    def close(self) -> None:
        """Lets memories go; the video stays open."""
        for obj_id in self.obj_ids:
            self.remove(obj_id)

    def __enter__(self) -> CloseTracker:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ one object

    def _new(self) -> _Close:
        model = self.predictor
        frames = Windows(self._frames, model.image_size, model.device)
        session = VideoSession(
            images=frames,
            video_height=model.image_size,
            video_width=model.image_size,
            device=model.device,
            storage_device=model.device,
            storage=self._storage,
            features=FeatureCache(FeatureBudget(1, host_bytes=0)),
            policy=self._policy,
        )
        close = _Close(session, frames, self.following)
        session.review = close.review
        return close

    def _follow(self, close: _Close, frame_idx: int, reverse: bool) -> None:
        """Tracks an object to a frame, in a window chosen by where it was on the frame before."""
        engine, track = self.predictor.engine, close.session.tracks[ONLY]
        engine.commit(close.session)
        if frame_idx not in track.bank.conditioning:
            before = frame_idx + 1 if reverse else frame_idx - 1
            close.gone = False
            if track.latest(before) is None:
                if not any((t > frame_idx) == reverse for t in track.bank.conditioning):
                    return  # its first prompt is still to come
            else:
                shown = engine.result(close.session, before)
                close.look_at(frame_idx, self._next_window(close, shown))
                close.gone = float(shown.object_score_logits[0]) <= 0
        close.looking_at = frame_idx
        engine.track_frame(close.session, frame_idx, reverse)

    def _next_window(self, close: _Close, before: FrameResult) -> Window:
        """Where to look on the next frame."""
        view, how = close.view(before), self.following
        window, box = view.window, extent(view)
        side = float(max(window.size))
        if box is None or view.presence <= 0:
            close.lost += 1
            if close.lost <= how.patience:
                return window
            x, y = _middle(window)
            return square(x, y, how.pace * side, self.size)
        close.lost = 0
        middle, longer = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        close.seen_at(before.frame_idx, middle)
        widest = max(how.widest, how.margin) * longer
        wanted = max(min(how.margin * longer + how.lead * close.speed, widest), how.smallest)
        off = np.abs(middle - _middle(window)).max()
        if 1 / how.change < wanted / side < how.change and off < how.drift * side:
            return window
        side = float(np.clip(wanted, side / how.pace, side * how.pace))
        return square(float(middle[0]), float(middle[1]), side, self.size)

    # ------------------------------------------------------------------ prompts

    def _segmented(
        self, frame_idx: int, coords: np.ndarray, labels: np.ndarray, box: Any, before: np.ndarray | None
    ) -> np.ndarray:
        """The mask bool [H, W] for a prompt; `before` is the one that it corrects."""
        if self._shown != frame_idx:
            self._shown = None
            self._pictures.set_image(self._frames[frame_idx])
            self._shown = frame_idx
        masks, ious, _ = self._pictures.predict(
            coords if len(coords) else None,
            labels if len(coords) else None,
            box,
            None if before is None else self._pictures.mask_to_input(before),
            multimask_output=box is None and before is None and len(coords) == 1,
        )
        found: np.ndarray = masks[ious.argmax()] > 0
        return found

    def _as_mask(self, mask: Any) -> np.ndarray:
        given = np.asarray(mask)
        if given.shape != self.size:
            raise ValueError(f"the mask is {given.shape}, but the video is {self.size} (height, width)")
        return given.astype(bool)

    def _window_of(self, mask: np.ndarray, box: Any) -> Window:
        """Around a mask; around the box where the mask is empty, and the whole frame without one."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        elif box is None:
            return Window(0, 0, self.size[1], self.size[0])
        flat = np.asarray(box, np.float32).reshape(-1)
        return around(flat, self.following.margin, self.size, self.following.smallest)


def _middle(window: Window) -> tuple[float, float]:
    return (window.x0 + window.x1) / 2, (window.y0 + window.y1) / 2


def _holds(window: Window, other: Window) -> bool:
    return window.x0 <= other.x0 and window.y0 <= other.y0 and window.x1 >= other.x1 and window.y1 >= other.y1
