"""The state of one video: what was asked of each object, and what was found."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

import sam2.utils.misc as misc
from sam2.memory.bank import MemoryBank
from sam2.memory.entry import MemoryEntry
from sam2.memory.policies import FifoPolicy
from sam2.modeling.outputs import FrameFeatures


@dataclass(frozen=True)
class ObjectMask:
    """One object on one frame.

    Invariant: `logits` is what a person is shown, holes already filled.
    """

    logits: Tensor
    """Low-resolution mask logits [1, 1, S / 4, S / 4]."""
    predicted_iou: Tensor
    """[1]"""
    object_score_logits: Tensor
    """Presence logits [1, 1]."""


@dataclass(frozen=True)
class PendingMask:
    """What a prompt gave, before it enters memory."""

    mask: ObjectMask
    obj_ptr: Tensor
    """[1, C]"""
    is_conditioning: bool


@dataclass
class ObjectTrack:
    """One object through the video.

    Invariants: a frame in `pending` has a prompt in `points` or `masks_given`, never in both;
    each frame in `bank` has its mask in `found`.
    """

    obj_id: int
    points: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Prompts by frame: `point_coords` [1, N, 2] in pixels of the model's input, `point_labels` [1, N]."""
    masks_given: dict[int, Tensor] = field(default_factory=dict)
    """Mask prompts by frame [1, 1, S, S], 0 or 1."""
    pending: dict[int, PendingMask] = field(default_factory=dict)
    """Results of prompts since the last propagation."""
    found: dict[int, ObjectMask] = field(default_factory=dict)
    """Final masks by frame."""
    bank: MemoryBank = field(default_factory=MemoryBank)
    tracked: dict[int, bool] = field(default_factory=dict)
    """Frames that a propagation reached, and whether it ran backwards."""

    @property
    def prompted_frames(self) -> set[int]:
        """Frames with a prompt."""
        return self.points.keys() | self.masks_given.keys()

    def latest(self, frame_idx: int) -> ObjectMask | None:
        """The mask that a person was last shown on a frame, or None."""
        waiting = self.pending.get(frame_idx)
        return waiting.mask if waiting is not None else self.found.get(frame_idx)

    def forget_results(self) -> None:
        """Drops masks, memories and prompts; the object stays."""
        for part in (self.points, self.masks_given, self.pending, self.found, self.tracked):
            part.clear()
        self.bank.clear()


class FeatureCache:
    """Features of the frames used last."""

    def __init__(self, max_frames: int = 4) -> None:
        self.max_frames = max_frames
        self.hits = 0
        self.misses = 0
        self._frames: OrderedDict[int, FrameFeatures] = OrderedDict()

    def get(self, frame_idx: int, encode: Callable[[], FrameFeatures]) -> FrameFeatures:
        """The features of a frame, encoded where they are not held."""
        if frame_idx in self._frames:
            self.hits += 1
            self._frames.move_to_end(frame_idx)
            return self._frames[frame_idx]
        self.misses += 1
        features = encode()
        self._frames[frame_idx] = features
        while len(self._frames) > self.max_frames:
            self._frames.popitem(last=False)
        return features

    def clear(self) -> None:
        """Lets all features go."""
        self._frames.clear()

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[int]]:
        return FeatureCache, (self.max_frames,)


class Frames(Protocol):
    """A video's frames as model inputs, float [3, S, S], made when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class NothingToTrackError(RuntimeError, ValueError):
    """Tracking was asked for before any object was prompted."""


@dataclass(frozen=True)
class VideoSource:
    """How a video was opened, so that it can be opened again."""

    video: Any
    """A path, bytes or pictures, as `sam2.utils.misc.load_video_frames` takes them."""
    image_size: int
    offload_video_to_cpu: bool = False
    async_loading_frames: bool = False

    def open(self, device: torch.device) -> tuple[Frames, int, int]:
        """Frames, height and width in pixels.

        The loader is looked up at the call, since integrators replace it.
        """
        return misc.load_video_frames(
            video_path=self.video,
            image_size=self.image_size,
            offload_video_to_cpu=self.offload_video_to_cpu,
            async_loading_frames=self.async_loading_frames,
            compute_device=device,
        )


@dataclass
class VideoSession:
    """Everything known of one video.

    Object ids are the caller's and never change; the order in which objects came is the order of
    masks in results. The keys of the published state dictionary can be read as `session["obj_ids"]`.
    A context manager: leaving it lets the video's file go. Pickled, it opens its video again.
    """

    images: Frames
    video_height: int
    video_width: int
    device: torch.device
    storage_device: torch.device
    """Where memories and masks of past frames stay."""
    offload_video_to_cpu: bool = False
    offload_state_to_cpu: bool = False
    tracks: dict[int, ObjectTrack] = field(default_factory=dict)
    features: FeatureCache = field(default_factory=FeatureCache)
    source: VideoSource | None = None
    """Where `images` came from; None where the caller made them."""
    endless: bool = False
    """A stream: more frames may come than `images` has now."""
    policy: FifoPolicy | None = None
    """Which memories a frame reads; None for the model's own choice."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    """Held during each prompt and each frame: threads that share a session take turns."""

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self.images)

    @property
    def length(self) -> int | None:
        """`num_frames`, None for a stream."""
        return None if self.endless else self.num_frames

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order in which they came."""
        return list(self.tracks)

    def track_of(self, obj_id: int) -> ObjectTrack:
        """The track of an object.

        Raises:
            ValueError: there is no such object.
        """
        if obj_id not in self.tracks:
            known = ", ".join(map(str, self.tracks)) or "none yet"
            raise ValueError(f"object id {obj_id!r} is unknown; objects of this video: {known}")
        return self.tracks[obj_id]

    def check_frame(self, frame_idx: int) -> None:
        """Raises ValueError where the video has no such frame."""
        if not 0 <= frame_idx < self.num_frames:
            raise ValueError(
                f"frame {frame_idx} is out of range: the video has frames 0 to {self.num_frames - 1}"
            )

    def forget_tracked(self, centres: Sequence[int], reach: int) -> None:
        """Lets masks and memories go of frames that lie more than `reach` frames from each of `centres`.

        Prompts and what they gave stay. With the reach of the model's `memory_policy.horizon()` around the
        frame tracked last, results of later frames are the same, and a long video takes no more memory
        than a short one.
        """
        for track in self.tracks.values():
            for frame_idx in list(track.bank.recent):
                if all(abs(frame_idx - centre) > reach for centre in centres):
                    track.bank.discard(frame_idx)
                    track.found.pop(frame_idx)
                    track.tracked.pop(frame_idx, None)

    def close(self) -> None:
        """Lets the video's file and the features go."""
        self.features.clear()
        for owner in (self.images, getattr(self.images, "reader", None)):
            close = getattr(owner, "close", None)
            if close is not None:
                close()

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "lock"}
        return {**state, "images": self.images if self.source is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.RLock())
        if self.source is not None:
            self.images = self.source.open(self.device)[0]

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the published dictionary

    _DIRECT = (
        "images",
        "num_frames",
        "video_height",
        "video_width",
        "device",
        "storage_device",
        "offload_video_to_cpu",
        "offload_state_to_cpu",
        "obj_ids",
    )

    def _views(self) -> dict[str, Callable[[], Any]]:
        tracks = self.tracks
        return {
            "obj_id_to_idx": lambda: OrderedDict((obj_id, i) for i, obj_id in enumerate(tracks)),
            "obj_idx_to_id": lambda: OrderedDict(enumerate(tracks)),
            "point_inputs_per_obj": lambda: {i: t.points for i, t in enumerate(tracks.values())},
            "mask_inputs_per_obj": lambda: {i: t.masks_given for i, t in enumerate(tracks.values())},
            "output_dict_per_obj": lambda: {i: published_outputs(t) for i, t in enumerate(tracks.values())},
            "temp_output_dict_per_obj": lambda: {
                i: published_pending(t) for i, t in enumerate(tracks.values())
            },
            "frames_tracked_per_obj": lambda: {
                i: {f: {"reverse": back} for f, back in t.tracked.items()}
                for i, t in enumerate(tracks.values())
            },
            "cached_features": dict,
            "constants": dict,
        }

    def keys(self) -> list[str]:
        """Keys of the published dictionary."""
        return [*self._DIRECT, *self._views()]

    def __getitem__(self, key: str) -> Any:
        if key in self._DIRECT:
            return getattr(self, key)
        views = self._views()
        if key not in views:
            raise KeyError(f"{key!r}; a video session has {', '.join(self.keys())}")
        return views[key]()

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def get(self, key: str, default: Any = None) -> Any:
        """`session[key]`, or `default`."""
        return self[key] if key in self.keys() else default


def _published_entry(mask: ObjectMask, memory: MemoryEntry | PendingMask) -> dict[str, Any]:
    features = memory.features if isinstance(memory, MemoryEntry) else None
    return {
        "maskmem_features": features,
        "maskmem_pos_enc": None,
        "pred_masks": mask.logits,
        "obj_ptr": memory.obj_ptr,
        "object_score_logits": mask.object_score_logits,
    }


def published_outputs(track: ObjectTrack) -> dict[str, dict[int, dict[str, Any]]]:
    """A track's results under the published keys."""

    def entries(kind: dict[int, MemoryEntry]) -> dict[int, dict[str, Any]]:
        return {f: _published_entry(track.found[f], memory) for f, memory in kind.items()}

    return {
        "cond_frame_outputs": entries(track.bank.conditioning),
        "non_cond_frame_outputs": entries(track.bank.recent),
    }


def published_pending(track: ObjectTrack) -> dict[str, dict[int, dict[str, Any]]]:
    """A track's results that have not entered memory, under the published keys."""
    found: dict[str, dict[int, dict[str, Any]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for frame, waiting in track.pending.items():
        kind = "cond_frame_outputs" if waiting.is_conditioning else "non_cond_frame_outputs"
        found[kind][frame] = _published_entry(waiting.mask, waiting)
    return found
