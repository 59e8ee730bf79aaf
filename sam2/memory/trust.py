"""Policies that look at what they remember: motion-aware, distractor-aware, and the base of tree search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from sam2.memory.entry import MemorySelection
from sam2.memory.judges import DistractorJudge, Judge, MotionJudge
from sam2.memory.policies import FifoPolicy, Memories


class Marks(Protocol):
    """Frames that were found good for something."""

    def next_yes(self, frame: int, forwards: bool) -> int | None:
        """The nearest such frame before (or after) `frame`, or None."""


class JudgedMemories(Memories, Protocol):
    """Memories whose frames were judged; `MemoryBank` is."""

    @property
    def trusted(self) -> Marks: ...

    @property
    def anchors(self) -> Marks: ...


@dataclass(frozen=True)
class TrustedFramesPolicy(FifoPolicy):
    """Spatial memories are the last frames that were trusted, however long ago.

    Conditioning frames and object pointers are chosen as published.
    """

    look_back: int | None = None
    """How many frames back a trusted one may lie; None for no limit."""

    def _trusted(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> Iterator[int]:
        t = frame_idx
        for _ in range(self.num_maskmem - 1):
            found = memories.trusted.next_yes(t, reverse)
            if found is None or (self.look_back is not None and abs(found - frame_idx) > self.look_back):
                return
            yield found
            t = found

    def select(  # type: ignore[override]
        self, memories: JudgedMemories, frame_idx: int, reverse: bool = False, num_frames: int | None = None
    ) -> MemorySelection:
        chosen = super().select(memories, frame_idx, reverse, num_frames)
        spatial = [(position, entry) for position, entry in chosen.spatial if position == 0]
        recent = [
            (self.num_maskmem - 1 - i, memories.recent[t])
            for i, t in enumerate(self._trusted(memories, frame_idx, reverse))
        ]
        spatial += [(p, e) for p, e in reversed(recent) if e.features is not None]
        return replace(chosen, spatial=tuple(spatial))

    def expired(self, memories: JudgedMemories, frame_idx: int, frame: int) -> bool:  # type: ignore[override]
        return super().expired(memories, frame_idx, frame) and frame not in self.coming(memories, frame_idx)

    def coming(self, memories: JudgedMemories, frame_idx: int) -> set[int]:
        """Trusted frames that the one after `frame_idx`, in either direction, reads."""
        return {t for step in (1, -1) for t in self._trusted(memories, frame_idx + step, step < 0)}


@dataclass(frozen=True)
class MotionAwarePolicy(TrustedFramesPolicy):
    """SAMURAI (arXiv 2411.11922): a motion model has a say in the choice of the mask (section 4.1), and only
    frames whose scores pass are read as recent memories (section 4.2, equation 9).

    Fields as in `MotionJudge`; `look_back` is the paper's N_max, for which it names no number.
    """

    motion_weight: float = 0.15
    stable_frames: int = 15
    min_iou: float = 0.5
    min_presence: float = 0.0
    min_motion: float = 0.0

    def new_follower(self) -> Judge:
        """Follows one object with a motion model."""
        return MotionJudge(
            self.motion_weight, self.stable_frames, self.min_iou, self.min_presence, self.min_motion
        )


@dataclass(frozen=True)
class DistractorAwarePolicy(FifoPolicy):
    """DAM4SAM (arXiv 2411.17576, section 3.2): half of the recent memories are the latest appearances, at
    an interval and only where the object was seen; the other half tell the object from distractors: the
    prompted frames and the newest anchors, read without time.

    Further fields as in `DistractorJudge`.
    """

    interval: int = 5
    """Frames between recent appearances, but for the latest, and between anchors (Delta)."""
    num_anchors: int = 2
    """Anchors read; with one prompted frame they fill the three places of the paper's second half."""
    min_iou: float = 0.8
    area_change: float = 0.2
    max_box_iou: float = 0.7

    def new_follower(self) -> Judge:
        """Watches one object for distractors."""
        return DistractorJudge(self.min_iou, self.area_change, 10, self.max_box_iou, self.interval)

    def _appearances(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> Iterator[int]:
        anchors = list(self._anchors(memories, frame_idx, reverse))
        count = (self.num_maskmem - 1) // 2
        t: int | None = frame_idx
        while count > 0 and t is not None and (t := memories.trusted.next_yes(t, reverse)) is not None:
            latest = t == (frame_idx + 1 if reverse else frame_idx - 1)
            if (latest or t % self.interval == 0) and t not in anchors:
                count -= 1
                yield t

    def _anchors(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> Iterator[int]:
        t: int | None = frame_idx
        for _ in range(self.num_anchors):
            assert t is not None
            if (t := memories.anchors.next_yes(t, reverse)) is None:
                return
            yield t

    def select(  # type: ignore[override]
        self, memories: JudgedMemories, frame_idx: int, reverse: bool = False, num_frames: int | None = None
    ) -> MemorySelection:
        chosen = super().select(memories, frame_idx, reverse, num_frames)
        spatial = [(position, entry) for position, entry in chosen.spatial if position == 0]
        anchors = self._anchors(memories, frame_idx, reverse)
        spatial += [(0, memories.recent[t]) for t in reversed(list(anchors))]
        recent = [
            (self.num_maskmem - 1 - i, memories.recent[t])
            for i, t in enumerate(self._appearances(memories, frame_idx, reverse))
        ]
        spatial += reversed(recent)
        return replace(chosen, spatial=tuple((p, e) for p, e in spatial if e.features is not None))

    def expired(self, memories: JudgedMemories, frame_idx: int, frame: int) -> bool:  # type: ignore[override]
        if not super().expired(memories, frame_idx, frame):
            return False
        for step in (1, -1):
            following, reverse = frame_idx + step, step < 0
            if frame in self._anchors(memories, following, reverse):
                return False
            if frame in self._appearances(memories, following, reverse):
                return False
        return True
