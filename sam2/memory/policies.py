"""Which memories a frame attends to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.judges import Follower

T = TypeVar("T")


def select_closest_cond_frames(
    frame_idx: int, cond_frame_outputs: Mapping[int, T], max_cond_frame_num: int
) -> tuple[dict[int, T], dict[int, T]]:
    """Splits conditioning frames into the `max_cond_frame_num` closest in time and the rest.

    The closest before the frame and the closest at or after it come first, then others by distance;
    -1 keeps all.

    Raises:
        ValueError: the limit is neither -1 nor at least 2.
    """
    if max_cond_frame_num == -1 or len(cond_frame_outputs) <= max_cond_frame_num:
        return dict(cond_frame_outputs), {}
    if max_cond_frame_num < 2:
        raise ValueError(
            f"the limit of conditioning frames is {max_cond_frame_num}: use -1 (no limit) or 2 and more"
        )
    before = [t for t in cond_frame_outputs if t < frame_idx]
    after = [t for t in cond_frame_outputs if t >= frame_idx]
    chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
    others = sorted((t for t in cond_frame_outputs if t not in chosen), key=lambda t: abs(t - frame_idx))
    chosen += others[: max_cond_frame_num - len(chosen)]
    selected = {t: cond_frame_outputs[t] for t in chosen}
    return selected, {t: out for t, out in cond_frame_outputs.items() if t not in selected}


class Memories(Protocol):
    """What a policy reads: one object's memories by frame."""

    @property
    def conditioning(self) -> Mapping[int, MemoryEntry]: ...

    @property
    def recent(self) -> Mapping[int, MemoryEntry]: ...


@dataclass(frozen=True)
class FifoPolicy:
    """The published choice: conditioning frames, the last frames at a stride, recent object pointers.

    Two horizons differ: spatial memories reach `num_maskmem - 1` strides back, object pointers
    `max_obj_ptrs - 1` frames.
    """

    num_maskmem: int = 7
    """Spatial memories a frame reads, one of them (at least) conditioning."""
    stride: int = 1
    """Frames between recent memories, but for the frame before, which is always read."""
    max_cond_frames: int = -1
    """Most conditioning frames read; -1 for all."""
    max_obj_ptrs: int = 16
    """Frames within which object pointers are read; 0 for none."""
    past_pointers_only: bool = False
    """Leave out pointers of conditioning frames that lie ahead in the direction of tracking."""
    signed_distance: bool = False
    """Tell pointers ahead from pointers behind."""

    def recent_frames(self, frame_idx: int, reverse: bool) -> Iterator[tuple[int, int]]:
        """(temporal position, frame) of the spatial memories wanted, oldest first."""
        sign = 1 if reverse else -1
        for position in range(1, self.num_maskmem):
            back = self.num_maskmem - position
            if back == 1:
                yield position, frame_idx + sign
            elif reverse:
                yield position, -(-(frame_idx + 2) // self.stride) * self.stride + (back - 2) * self.stride
            else:
                yield position, ((frame_idx - 2) // self.stride) * self.stride - (back - 2) * self.stride

    def select(
        self, memories: Memories, frame_idx: int, reverse: bool = False, num_frames: int | None = None
    ) -> MemorySelection:
        """What frame `frame_idx` attends to.

        Args:
            memories: one object's memories.
            reverse: tracking runs backwards.
            num_frames: length of the video, None for a stream: short videos scale pointer time.
        """
        chosen, others = select_closest_cond_frames(frame_idx, memories.conditioning, self.max_cond_frames)

        def recall(t: int) -> MemoryEntry | None:
            return memories.recent.get(t) or others.get(t)

        spatial = [(0, entry) for entry in chosen.values()]
        for position, t in self.recent_frames(frame_idx, reverse):
            if (entry := recall(t)) is not None:
                spatial.append((position, entry))

        span = self.max_obj_ptrs if num_frames is None else min(num_frames, self.max_obj_ptrs)
        pointers: list[tuple[int, MemoryEntry]] = []
        if self.max_obj_ptrs > 0:
            sign = -1 if reverse else 1
            for t, entry in chosen.items():
                distance = (frame_idx - t) * sign
                if distance < 0 and self.past_pointers_only:
                    continue
                pointers.append((distance if self.signed_distance else abs(distance), entry))
            for distance in range(1, span):
                t = frame_idx - distance * sign
                if t < 0 or (num_frames is not None and t >= num_frames):
                    break
                if (entry := recall(t)) is not None:
                    pointers.append((distance, entry))
        return MemorySelection(
            spatial=tuple((p, e) for p, e in spatial if e.features is not None),
            pointers=tuple(pointers),
            pointer_span=max(span - 1, 1),
        )

    def expired(self, memories: Memories, frame_idx: int, frame: int) -> bool:
        """Whether no frame that follows `frame_idx`, in either direction, reads `frame` as a recent one."""
        return abs(frame - frame_idx) > self.horizon()

    def new_follower(self) -> Follower | None:
        """What follows an object while it is tracked; None where every frame is taken as it comes."""
        return None

    def horizon(self) -> int:
        """How many frames back a frame may read memories that do not condition."""
        return max((self.num_maskmem - 1) * self.stride, self.max_obj_ptrs - 1)
