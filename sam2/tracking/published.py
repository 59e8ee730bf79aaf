"""The published state dictionary as views of a session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sam2.memory.entry import MemoryEntry
from sam2.tracking.track import ObjectMask, ObjectTrack, PendingMask

if TYPE_CHECKING:
    from sam2.tracking.session import VideoSession

DIRECT_KEYS = (
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


class PublishedState:
    """Reads a session's state under the published keys: `session["obj_ids"]`. Nothing can be assigned."""

    def _views(self: VideoSession) -> dict[str, Callable[[], Any]]:  # type: ignore[misc]
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

    def keys(self: VideoSession) -> list[str]:  # type: ignore[misc]
        """Keys of the published dictionary."""
        return [*DIRECT_KEYS, *self._views()]

    def __getitem__(self: VideoSession, key: str) -> Any:  # type: ignore[misc]
        if key in DIRECT_KEYS:
            return getattr(self, key)
        views = self._views()
        if key not in views:
            raise KeyError(f"{key!r}; a video session has {', '.join(self.keys())}")
        return views[key]()

    def __contains__(self: VideoSession, key: object) -> bool:  # type: ignore[misc]
        return key in self.keys()

    def __iter__(self: VideoSession) -> Iterator[str]:  # type: ignore[misc]
        return iter(self.keys())

    def get(self: VideoSession, key: str, default: Any = None) -> Any:  # type: ignore[misc]
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

    def entries(kind: Mapping[int, MemoryEntry]) -> dict[int, dict[str, Any]]:
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
