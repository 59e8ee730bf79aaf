"""The state of one video: its frames, its objects, and where its past is kept."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

import sam2.utils.misc as misc
from sam2.memory.archive import Archive, HistoryLostError, StorageOptions
from sam2.memory.named import policy_from_json, policy_to_json
from sam2.memory.policies import FifoPolicy
from sam2.modeling.outputs import FrameOutput
from sam2.preprocess import LazyFrames
from sam2.tracking import saving
from sam2.tracking.features import FeatureCache
from sam2.tracking.published import PublishedState
from sam2.tracking.stream import StreamReader
from sam2.tracking.track import ObjectMask, ObjectTrack, PendingMask
from sam2.tracking.undo import DEPTH, Before

__all__ = ["NothingToTrackError", "ObjectMask", "ObjectTrack", "PendingMask", "VideoSession"]


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


Review = Callable[[Sequence[ObjectTrack], FrameOutput], tuple[FrameOutput, Sequence[bool]]]
"""Objects and what the model says of them, to what is shown of each and whether the frame is remembered."""


@dataclass
class VideoSession(PublishedState):
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
    storage: StorageOptions = field(default_factory=StorageOptions)
    """Where masks and memories go once no coming frame reads them."""
    review: Review | None = None
    """Has the last word on tracked masks, before they are shown and remembered. Not for policy "tree"."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    """Held during each prompt and each frame: threads that share a session take turns."""

    def __post_init__(self) -> None:
        self.archive = Archive(self.storage)
        self.undo_log: deque[Before] = deque(maxlen=DEPTH)

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels."""
        size = self.images.image_size if isinstance(self.images, LazyFrames) else None
        return size or (self.images[0].shape[-1] if self.source is None else self.source.image_size)

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

    def track_for(self, obj_id: int) -> ObjectTrack:
        """The track of an object, or a new one that is not yet among `tracks`."""
        if obj_id in self.tracks:
            return self.tracks[obj_id]
        track = ObjectTrack(obj_id)
        track.attach(self.archive, self.storage_device)
        return track

    def remove(self, obj_id: int) -> None:
        """Forgets an object and all that is kept of it.

        Raises:
            ValueError: there is no such object.
        """
        with self.lock:
            track = self.track_of(obj_id)
            track.forget_results()
            del self.tracks[obj_id]
            kept = [before for before in self.undo_log if before.track is not track]
            self.undo_log = deque(kept, maxlen=DEPTH)

    def undo(self) -> tuple[int, int]:
        """Takes back the last prompt; one can go back 32 prompts. Frames tracked since are as they were.

        Returns:
            The object and the frame; an object whose only prompt it was is gone.

        Raises:
            ValueError: nothing to take back.
        """
        with self.lock:
            if not self.undo_log:
                raise ValueError("there is no prompt to take back")
            before = self.undo_log.pop()
            if before.is_new:
                self.remove(before.track.obj_id)
            else:
                before.restore()
            return before.track.obj_id, before.frame_idx

    def export_object(self, obj_id: int, path: str | os.PathLike[str]) -> None:
        """Writes what is remembered of an object's prompted frames, for `import_object` of another session.

        Raises:
            ValueError: no such object, or nothing remembered yet.
        """
        with self.lock:
            saving.export_memory(path, self.track_of(obj_id), self.image_size)

    def import_object(self, path: str | os.PathLike[str], obj_id: int) -> None:
        """Lets an object, a new one where its id is new, be found by memories from another video.

        They count as prompted frames just before this video; nothing more need be prompted.

        Raises:
            ValueError: not an exported object, or of a model of another input size.
        """
        with self.lock:
            track = self.track_for(obj_id)
            saving.import_memory(path, track, self.image_size, self.storage_device)
            self.tracks[obj_id] = track

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything but the video and cached features; a kill leaves an older file whole.

        What a failing disk lost of the past is left out, with a warning.

        Raises:
            OSError: the file cannot be written.
        """
        with self.lock, saving.written_whole(path) as archive:
            objects = [saving.write_track(archive, i, t) for i, t in enumerate(self.tracks.values())]
            saving.write_json(archive, self._description(objects))

    def _description(self, objects: list[dict[str, Any]]) -> dict[str, Any]:
        source = None
        if self.source is not None and isinstance(self.source.video, (str, os.PathLike)):
            source = os.path.abspath(self.source.video)
        return {
            "kind": "session",
            "video": source,
            "image_size": self.image_size,
            "num_frames": self.num_frames,
            "size": [self.video_height, self.video_width],
            "endless": self.endless,
            "offload": [self.offload_video_to_cpu, self.offload_state_to_cpu],
            "policy": None if self.policy is None else policy_to_json(self.policy),
            "objects": objects,
        }

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        video: Any = None,
        device: torch.device | str = "cpu",
        storage: StorageOptions | None = None,
    ) -> VideoSession:
        """A saved session, to go on exactly where it stood.

        Args:
            video: where the video lies now; needed where it was not opened from a path. Streams need none:
                hand the session to `StreamingTracker`.
            device: of the model that goes on.
            storage: as in `init_state`; that of a stream is dropped by default, as `StreamingTracker` does.

        Raises:
            SessionFileError: not a session, or a damaged one. ValueError: another video.
        """
        device = torch.device(device)
        with saving.opened(path, "session") as (archive, known):
            offload_video, offload_state = known["offload"]
            source = None
            if known["endless"]:
                reader = StreamReader(start=known["num_frames"])
                images: Frames = LazyFrames(
                    reader, known["image_size"], device, cache_size=1, close_reader=True
                )
            else:
                if (video := known["video"] if video is None else video) is None:
                    raise ValueError(f"{path} was not made from a file: say video= where its frames are")
                source = VideoSource(video, known["image_size"], offload_video)
                images, *size = source.open(device)
                if (len(images), size) != (known["num_frames"], known["size"]):
                    raise ValueError(
                        f"{path} belongs to a video of {known['num_frames']} frames of (height, width) "
                        f"{known['size']}, not to one of {len(images)} frames of {size}"
                    )
            session = cls(
                images=images,
                video_height=known["size"][0],
                video_width=known["size"][1],
                device=device,
                storage_device=torch.device("cpu") if offload_state else device,
                offload_video_to_cpu=offload_video,
                offload_state_to_cpu=offload_state,
                source=source,
                endless=known["endless"],
                policy=None if known["policy"] is None else policy_from_json(known["policy"]),
                storage=storage or StorageOptions(history="none" if known["endless"] else "all"),
            )
            for number, part in enumerate(known["objects"]):
                track = session.track_for(part["id"])
                follower = None if session.policy is None else session.policy.new_follower()
                saving.read_track(archive, number, part, track, follower, device, session.storage_device)
                session.tracks[part["id"]] = track
        return session

    def check_history(self, frame_idx: int, reach: int, reverse: bool) -> None:
        """Raises HistoryLostError where memories that tracking from a frame may read were dropped."""
        before = (
            range(frame_idx + 1, frame_idx + reach + 1) if reverse else range(frame_idx - reach, frame_idx)
        )
        for track in self.tracks.values():
            lost = [f for f in before if f in track.dropped]
            if lost:
                raise HistoryLostError(
                    f"memories of object {track.obj_id} on frames {lost[0]} to {lost[-1]} were dropped, and "
                    f"tracking from frame {frame_idx} would read them: start later, or keep them with "
                    "StorageOptions(history='all')"
                )

    def check_frame(self, frame_idx: int) -> None:
        """Raises ValueError where the video has no such frame."""
        if not 0 <= frame_idx < self.num_frames:
            raise ValueError(
                f"frame {frame_idx} is out of range: the video has frames 0 to {self.num_frames - 1}"
            )

    def reading_ahead(self, frames: Iterable[int]) -> AbstractContextManager[None]:
        """A block in which a pass's frames are read while the model works, but for those encoded already."""
        if not isinstance(self.images, LazyFrames):
            return nullcontext()
        return self.images.ahead(frames, lambda frame: frame not in self.features)

    def forget_tracked(self, centres: Sequence[int], reach: int) -> None:
        """Lets masks and memories go of frames that lie more than `reach` frames from each of `centres`.

        Prompts and what they gave stay, and frames that the session's own policy still reads there. With the
        reach of the policy's `horizon()` around the frame tracked last, results of later frames are the same,
        and a long video takes no more memory than a short one.
        """
        policy = self.policy
        for track in self.tracks.values():
            for frame_idx in [t for t in track.found if t not in track.bank.conditioning]:
                away = all(abs(frame_idx - centre) > reach for centre in centres)
                if away and (
                    policy is None or all(policy.expired(track.bank, c, frame_idx) for c in centres)
                ):
                    track.forget_frame(frame_idx)
                    track.tracked.pop(frame_idx, None)

    def close(self) -> None:
        """Lets the video's file, the features and what was put away go."""
        self.features.clear()
        self.archive.close()
        getattr(self.images, "close", lambda: None)()

    def __getstate__(self) -> dict[str, Any]:
        state = {
            key: value for key, value in self.__dict__.items() if key not in ("lock", "archive", "undo_log")
        }
        return {**state, "images": self.images if self.source is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.RLock())
        self.__post_init__()
        for track in self.tracks.values():
            track.attach(self.archive, self.storage_device)
        if self.source is not None:
            self.images = self.source.open(self.device)[0]

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
