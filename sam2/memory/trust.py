"""Policies that look at what they remember: motion-aware and distractor-aware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.judges import DistractorJudge, Judge, MotionJudge
from sam2.memory.policies import FifoPolicy, Memories
from sam2.memory.shelf import FrameMarks


class JudgedMemories(Memories, Protocol):
    """Memories whose frames were judged; `MemoryBank` is."""

    @property
    def trusted(self) -> FrameMarks: ...

    @property
    def anchors(self) -> FrameMarks: ...


@dataclass(frozen=True)
class MotionAwarePolicy(FifoPolicy):
    """SAMURAI (arXiv 2411.11922, section 3.2): the last frames that can be trusted, however long ago.

    Conditioning frames and object pointers are chosen as published.
    """

    motion_weight: float = 0.15
    """Share of the motion score in the choice of a mask."""

    def new_judge(self) -> Judge:
        """Follows one object with a motion model."""
        return MotionJudge(self.motion_weight)

    def _trusted(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> Iterator[int]:
        t = frame_idx
        for _ in range(self.num_maskmem - 1):
            found = memories.trusted.next_yes(t, reverse)
            if found is None:
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
        if not super().expired(memories, frame_idx, frame):
            return False
        # the coming frame reads what was trusted up to and with this one
        return all(frame not in self._trusted(memories, frame_idx + step, step < 0) for step in (1, -1))


@dataclass(frozen=True)
class DistractorAwarePolicy(FifoPolicy):
    """DAM4SAM (arXiv 2411.17576, section 3): half of the recent memories are the latest appearances, at
    an interval and only where the object was seen; the other half are anchors, frames that tell the object
    from a distractor, read without time like conditioning frames.
    """

    interval: int = 5
    """Frames between recent appearances, but for the latest."""

    def new_judge(self) -> Judge:
        """Watches one object for distractors."""
        return DistractorJudge(interval=self.interval)

    def _appearances(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> Iterator[int]:
        count = (self.num_maskmem - 1) - self._num_anchors
        t: int | None = frame_idx
        while count > 0 and t is not None and (t := memories.trusted.next_yes(t, reverse)) is not None:
            latest = t == (frame_idx + 1 if reverse else frame_idx - 1)
            if latest or t % self.interval == 0:
                count -= 1
                yield t

    def _anchors(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> Iterator[int]:
        t: int | None = frame_idx
        for _ in range(self._num_anchors):
            assert t is not None
            if (t := memories.anchors.next_yes(t, reverse)) is None:
                return
            yield t

    @property
    def _num_anchors(self) -> int:
        return (self.num_maskmem - 1) // 2

    def select(  # type: ignore[override]
        self, memories: JudgedMemories, frame_idx: int, reverse: bool = False, num_frames: int | None = None
    ) -> MemorySelection:
        chosen = super().select(memories, frame_idx, reverse, num_frames)
        spatial = [(position, entry) for position, entry in chosen.spatial if position == 0]
        anchors = list(self._anchors(memories, frame_idx, reverse))
        spatial += [(0, memories.recent[t]) for t in reversed(anchors)]
        recent: list[tuple[int, MemoryEntry]] = []
        for t in self._appearances(memories, frame_idx, reverse):
            if t not in anchors:
                recent.append((self.num_maskmem - 1 - len(recent), memories.recent[t]))
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


POLICIES: Mapping[str, type[FifoPolicy]] = {
    "fifo": FifoPolicy,
    "motion": MotionAwarePolicy,
    "distractor": DistractorAwarePolicy,
}
DEFAULT_STRIDE = 4
"""Frames between recent memories of the policy named "stride"."""


def make_policy(choice: str | FifoPolicy, model: FifoPolicy) -> FifoPolicy:
    """A policy by name ("fifo", "stride", "motion", "distractor") under a model's options, or as given.

    Raises:
        ValueError: no such name.
    """
    if isinstance(choice, FifoPolicy):
        return choice
    if choice == "stride":
        return replace(model, stride=DEFAULT_STRIDE)
    if choice not in POLICIES:
        raise ValueError(f"unknown policy {choice!r}: say {', '.join([*POLICIES, 'stride'])}")
    return POLICIES[choice](**asdict(model))


def policy_to_json(policy: FifoPolicy) -> dict[str, object]:
    """A policy as plain values."""
    name = next(name for name, kind in POLICIES.items() if kind is type(policy))
    return {"name": name, **asdict(policy)}


def policy_from_json(values: dict[str, object]) -> FifoPolicy:
    """What `policy_to_json` was given."""
    options = {key: value for key, value in values.items() if key != "name"}
    return POLICIES[str(values["name"])](**options)  # type: ignore[arg-type]
