"""Taking back the last prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from sam2.memory.entry import MemoryEntry
from sam2.tracking.track import ObjectMask, ObjectTrack, PendingMask

DEPTH = 32
"""How many prompts can be taken back."""


T = TypeVar("T")


def _put(part: dict[int, T], frame: int, value: T | None) -> None:
    if value is None:
        part.pop(frame, None)
    else:
        part[frame] = value


@dataclass(frozen=True, eq=False)
class Before:
    """One frame of one object as it was before a prompt."""

    track: ObjectTrack
    frame_idx: int
    is_new: bool
    """The prompt made the object."""
    points: dict[str, Tensor] | None
    mask_given: Tensor | None
    pending: PendingMask | None
    memory: MemoryEntry | None
    found: ObjectMask | None
    is_first: bool
    """No other prompt was waiting: without this one, tracking goes on as if nothing had been asked."""

    @staticmethod
    def of(track: ObjectTrack, frame_idx: int, is_new: bool) -> Before:
        """What a prompt on this frame may change."""
        return Before(
            track,
            frame_idx,
            is_new,
            track.points.get(frame_idx),
            track.masks_given.get(frame_idx),
            track.pending.get(frame_idx),
            track.bank.get(frame_idx),
            track.found.get(frame_idx),
            not track.pending and track.follower is not None,
        )

    def restore(self) -> None:
        """Puts the frame back, whether or not the prompt has entered memory."""
        track, frame = self.track, self.frame_idx
        _put(track.points, frame, self.points)
        _put(track.masks_given, frame, self.mask_given)
        _put(track.pending, frame, self.pending)
        if self.memory is None or self.found is None:
            track.forget_frame(frame)
        else:
            track.bank.add(self.memory)
            track.found[frame] = self.found
        if self.is_first:
            track.resume_following()
