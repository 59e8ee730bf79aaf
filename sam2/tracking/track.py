"""One object through a video: what was asked of it, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sam2.memory.archive import Archive
from sam2.memory.bank import MemoryBank
from sam2.memory.entry import ObjectMask
from sam2.memory.judges import Follower
from sam2.memory.shelf import FrameMarks, Shelf

__all__ = ["ObjectMask", "ObjectTrack", "PendingMask"]


@dataclass(frozen=True, eq=False)
class PendingMask:
    """What a prompt gave, before it enters memory."""

    mask: ObjectMask
    obj_ptr: Tensor
    """[1, C]"""
    is_conditioning: bool


def _found() -> Shelf[ObjectMask]:
    return Shelf(ObjectMask)


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
    found: Shelf[ObjectMask] = field(default_factory=_found)
    """Final masks by frame."""
    bank: MemoryBank = field(default_factory=MemoryBank)
    tracked: FrameMarks = field(default_factory=FrameMarks)
    """Frames that a propagation reached, and whether it ran backwards."""
    follower: Follower | None = None
    """What the policy knows of the object while it is tracked; made anew where tracking starts, and after
    each prompted frame."""
    followed: int | None = None
    """The last frame that `follower` saw."""
    paused: tuple[Follower, int] | None = None
    """`follower` and `followed` as a prompt found them, until a frame is tracked again."""
    dropped: FrameMarks = field(default_factory=FrameMarks)
    """Frames whose mask and memory were dropped to save space."""

    @property
    def prompted_frames(self) -> set[int]:
        """Frames with a prompt."""
        return self.points.keys() | self.masks_given.keys()

    def latest(self, frame_idx: int) -> ObjectMask | None:
        """The mask that a person was last shown on a frame, or None."""
        waiting = self.pending.get(frame_idx)
        return waiting.mask if waiting is not None else self.found.get(frame_idx)

    def attach(self, archive: Archive, device: torch.device) -> None:
        """Chooses where the past goes, and the device on which it comes back."""
        self.found.attach(archive, device)
        self.bank.recent.attach(archive, device)

    def put_away(self, expired: Callable[[int], bool]) -> None:
        """Sends masks and memories of expired frames to the archive, but for frames that condition."""
        self.found.put_away(lambda frame: frame not in self.bank.conditioning and expired(frame))
        self.bank.recent.put_away(expired)

    def drop(self, expired: Callable[[int], bool]) -> None:
        """Forgets masks and memories of expired frames for good, but for frames that condition."""
        for frame in [f for f in self.found.near if f not in self.bank.conditioning and expired(f)]:
            self.forget_frame(frame)
            self.dropped[frame] = True

    def drop_conditioning(self, keep: int, expired: Callable[[int], bool]) -> None:
        """Forgets all but the `keep` newest conditioning frames, and their prompts, once expired."""
        for frame in sorted(self.bank.conditioning)[:-keep]:
            if expired(frame):
                self.forget_frame(frame)
                self.points.pop(frame, None)
                self.masks_given.pop(frame, None)
                if frame >= 0:  # others came from another video
                    self.dropped[frame] = True

    def following(self, frame_idx: int, reverse: bool) -> Follower | None:
        """`follower`, where it saw the frame before this one in the same direction."""
        before = frame_idx + 1 if reverse else frame_idx - 1
        return self.follower if self.followed == before and self.tracked.get(before) == reverse else None

    def follow(self, follower: Follower | None, frame_idx: int) -> None:
        """Goes on with a follower that saw a frame."""
        self.follower, self.followed, self.paused = follower, frame_idx, None

    def stop_following(self) -> None:
        """Lets tracking start anew from what is remembered, on whatever frame comes next."""
        if self.follower is not None and self.followed is not None:
            self.paused = self.follower, self.followed
        self.follower = self.followed = None

    def resume_following(self) -> None:
        """Takes `stop_following` back, where no frame was tracked since."""
        if self.paused is not None:
            self.follow(*self.paused)

    def forget_frame(self, frame_idx: int) -> None:
        """Forgets the mask and the memory of a frame; its prompt stays."""
        self.bank.discard(frame_idx)
        self.found.discard(frame_idx)

    def forget_results(self) -> None:
        """Drops masks, memories and prompts; the object stays."""
        for part in (self.points, self.masks_given, self.pending, self.found, self.tracked, self.dropped):
            part.clear()
        self.bank.clear()
        self.follower = self.followed = self.paused = None
