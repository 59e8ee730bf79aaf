"""Objects followed from near: each in a window of its own, which moves and grows with it.

A small model sees a frame in few cells, and an object that covers a hundredth of it in one or two. Here each
object has its own video: crops around it, one a frame, in which memory and attention work as ever (to them a
moving window is a moving camera). One object costs what it costs otherwise; N objects cost N encodings a
frame.

Shapes: N objects, H x W the video, S the model's input size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2.close_details import Detail
from sam2.close_labels import Labels
from sam2.close_object import CloseObject
from sam2.close_windows import ONLY, Following, SharedFrames, Windows, as_seen
from sam2.memory import FifoPolicy, StorageOptions, TreePolicy, make_policy
from sam2.preprocess import FrameReader
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking.features import FeatureBudget, FeatureCache
from sam2.tracking.passes import Direction, planned
from sam2.tracking.prompting import ObjectPrompt, checked_points
from sam2.tracking.results import keep_strongest
from sam2.tracking.session import NothingToTrackError, VideoSession
from sam2.zoom import View, Zoom, paste

__all__ = ["CLOSE_OBJECTS", "CloseResult", "CloseTracker", "Following", "follows_closely"]

CLOSE_OBJECTS = 6
"""So many objects are followed from near by themselves: each costs encodings of its own."""


def follows_closely(predictor: SAM2VideoPredictor, objects: int, policy: str | FifoPolicy | None) -> bool:
    """Whether objects of a video are followed from near where nobody says otherwise."""
    tree = policy == "tree" or isinstance(policy, TreePolicy)
    return predictor.zoom and objects <= CLOSE_OBJECTS and not tree


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
        self._frames = SharedFrames(video)
        self.following = following or Following()
        self._policy = None if policy is None else make_policy(policy, predictor.memory_policy)
        if isinstance(self._policy, TreePolicy):
            raise ValueError("policy 'tree' changes past masks: objects cannot be followed closely with it")
        self._storage = storage or StorageOptions()
        self._pictures = SAM2ImagePredictor(predictor, zoom=True, dtype=predictor.dtype)
        self._shown: int | None = None
        self._objects: dict[int, CloseObject] = {}

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
            before = close.mask_on(frame_idx) if box is None else None
            whole = self._segmented(frame_idx, coords, kinds, box, before)
        window = close.window_for_prompt(frame_idx, whole, box)
        close.look_at(frame_idx, window)
        close.points[frame_idx] = coords, kinds
        close.prompted(frame_idx, whole)
        engine = self.predictor.engine
        seen = as_seen(whole, window, self.predictor.image_size)
        engine.ask(close.session, frame_idx, ObjectPrompt(ONLY, mask=seen))
        close.point_out(frame_idx, seen)
        if close.detail is not None:
            close.detail.prompt(engine, frame_idx, whole)
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
        close = self._objects.pop(obj_id)
        for own in (close, close.detail):
            if own is not None:
                own.session.review = None  # which holds the session
                own.session.close()

    def result(self, frame_idx: int) -> CloseResult:
        """The latest masks of all objects on a frame; an object not seen there yet is absent."""
        engine = self.predictor.engine
        found = [engine.result(close.session, frame_idx) for close in self._objects.values()]
        views = [close.shown(result) for close, result in zip(self._objects.values(), found)]
        return CloseResult(
            frame_idx,
            self.obj_ids,
            views,
            torch.tensor([view.score for view in views], device=self.predictor.device),
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
                        first = close.latest(frame_idx)
                        if close.detail is not None and first is not None:
                            own = close.own or first
                            close.detail.follow(
                                self.predictor.engine, frame_idx, first, own, close.gap(), backwards
                            )
                    yield self.result(frame_idx)

    def prompted(self, obj_id: int) -> set[int]:
        """Frames on which an object was prompted."""
        return set(self._objects[obj_id].points)

    def reached(self, frame_idx: int) -> list[int]:
        """Ids of the objects that were prompted on a frame or followed to it, absent ones too."""
        return [obj_id for obj_id, close in self._objects.items() if close.latest(frame_idx) is not None]

    def forget_tracked(self, centres: Sequence[int]) -> None:
        """Lets masks and memories go that frames about `centres` do not read; prompts and their masks stay.

        Called as frames are tracked, a long video takes no more memory than a short one.
        """
        owned = [own for close in self._objects.values() for own in (close, close.detail)]
        for session in (own.session for own in owned if own is not None):
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

    def _new(self) -> CloseObject:
        close = CloseObject(*self._own_video(), self.following)
        close.session.review = close.review
        if self.following.detail:
            close.detail = Detail(*self._own_video(), self.following)
        return close

    def _own_video(self) -> tuple[VideoSession, Windows, Labels]:
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
        return session, frames, Labels(lambda frame_idx: model.engine.features(session, frame_idx))

    def _follow(self, close: CloseObject, frame_idx: int, reverse: bool) -> None:
        """Tracks an object to a frame, in a window chosen by where it was on the frame before."""
        engine, track = self.predictor.engine, close.session.tracks[ONLY]
        engine.commit(close.session)
        close.gone = False
        if frame_idx not in track.bank.conditioning:
            before = frame_idx + 1 if reverse else frame_idx - 1
            if track.latest(before) is None:
                if not any((t > frame_idx) == reverse for t in track.bank.conditioning):
                    return  # its first prompt is still to come
            else:
                shown = engine.result(close.session, before)
                close.look_at(frame_idx, close.next_window(shown))
                close.gone = float(shown.object_score_logits[0]) <= 0
        close.looking_at, close.reverse = frame_idx, reverse
        close.glancing = close.gone
        engine.track_frame(close.session, frame_idx, reverse)
        if close.gone:
            self._look_again(close, frame_idx, reverse)

    def _look_again(self, close: CloseObject, frame_idx: int, reverse: bool) -> None:
        """Whether what was found of a lost object is the object, seen from as near as it is known."""
        engine, far = self.predictor.engine, close.frames.window(frame_idx)
        close.glancing = False
        glanced = engine.result(close.session, frame_idx)
        if float(glanced.object_score_logits[0]) <= 0:
            return
        close.look_at(frame_idx, close.nearer_window(glanced))
        looked = engine.track_frame(close.session, frame_idx, reverse)
        if float(looked.object_score_logits[0]) <= 0:
            close.look_at(frame_idx, far)

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
