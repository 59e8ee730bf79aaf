"""The memories of one object, by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sam2.memory.entry import MemoryEntry
from sam2.memory.shelf import FrameMarks, Shelf


def _recent() -> Shelf[MemoryEntry]:
    return Shelf(MemoryEntry)


@dataclass
class MemoryBank:
    """Memories of one object.

    Invariant: a frame is in `conditioning` or in `recent`, never in both.
    """

    conditioning: dict[int, MemoryEntry] = field(default_factory=dict)
    recent: Shelf[MemoryEntry] = field(default_factory=_recent)
    trusted: FrameMarks = field(default_factory=FrameMarks)
    """Frames of `recent`, and whether they may serve as recent memories."""
    anchors: FrameMarks = field(default_factory=FrameMarks)
    """Frames of `recent` that tell the object from a distractor."""

    def add(self, entry: MemoryEntry) -> None:
        """Stores `entry`, replacing what was remembered of its frame."""
        self.discard(entry.frame_idx)
        if entry.is_conditioning:
            self.conditioning[entry.frame_idx] = entry
            return
        self.recent[entry.frame_idx] = entry
        self.trusted[entry.frame_idx] = entry.trusted
        if entry.anchor:
            self.anchors[entry.frame_idx] = True

    def get(self, frame_idx: int) -> MemoryEntry | None:
        """The memory of a frame, or None."""
        return self.conditioning.get(frame_idx) or self.recent.get(frame_idx)

    def discard(self, frame_idx: int) -> bool:
        """Forgets a frame; whether anything was remembered of it."""
        self.trusted.pop(frame_idx, None)
        self.anchors.pop(frame_idx, None)
        return self.conditioning.pop(frame_idx, None) is not None or self.recent.discard(frame_idx)

    def release(self, frame_idx: int) -> None:
        """Lets a frame no longer condition others; its memory stays."""
        if frame_idx in self.conditioning:
            self.add(replace(self.conditioning[frame_idx], is_conditioning=False))

    def clear(self) -> None:
        """Forgets everything."""
        self.conditioning.clear()
        self.recent.clear()
        self.trusted.clear()
        self.anchors.clear()

    def __iter__(self) -> Iterator[MemoryEntry]:
        yield from self.conditioning.values()
        yield from self.recent.values()

    def __len__(self) -> int:
        return len(self.conditioning) + len(self.recent)

    @property
    def nbytes(self) -> int:
        """Bytes of the entries at hand (not those in the archive)."""
        at_hand = (*self.conditioning.values(), *self.recent.near.values())
        return sum(entry.nbytes for entry in at_hand)
