"""Which memories a frame reads, held to plain twins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam2.memory import FifoPolicy, MemoryBank, MemoryEntry, select_closest_cond_frames

FRAMES = st.sets(st.integers(0, 40), max_size=12)


def entry(frame_idx: int, conditioning: bool = False, features: bool = True) -> MemoryEntry:
    return MemoryEntry(
        frame_idx,
        conditioning,
        torch.zeros(1, 2, 2, 2, dtype=torch.bfloat16) if features else None,
        torch.zeros(1, 4),
        torch.zeros(1, 1),
    )


def bank(conditioning: set[int], recent: set[int]) -> MemoryBank:
    made = MemoryBank()
    for t in sorted(recent):
        made.add(entry(t))
    for t in sorted(conditioning):
        made.add(entry(t, conditioning=True))
    return made


def naive_closest(frame: int, frames: list[int], limit: int) -> set[int]:
    """As the paper's ablations describe it: one on either side, then whatever is near."""
    if limit == -1 or len(frames) <= limit:
        return set(frames)
    chosen: set[int] = set()
    for side in ([t for t in frames if t < frame], [t for t in frames if t >= frame]):
        nearest = None
        for t in side:
            if nearest is None or abs(t - frame) < abs(nearest - frame):
                nearest = t
        if nearest is not None:
            chosen.add(nearest)
    while len(chosen) < limit:
        rest = [t for t in frames if t not in chosen]
        best = rest[0]
        for t in rest[1:]:
            if abs(t - frame) < abs(best - frame):
                best = t
        chosen.add(best)
    return chosen


@given(frame=st.integers(0, 40), frames=FRAMES, limit=st.sampled_from([-1, 2, 3, 4, 7]))
def test_closest_conditioning_frames_equal_the_twin(frame: int, frames: set[int], limit: int) -> None:
    outputs = {t: f"out{t}" for t in sorted(frames)}
    selected, rest = select_closest_cond_frames(frame, outputs, limit)
    assert selected.keys() == naive_closest(frame, list(outputs), limit)
    assert selected | rest == outputs
    assert not selected.keys() & rest.keys()


@pytest.mark.parametrize("limit", [0, 1, -2])
def test_a_limit_below_two_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="use -1"):
        select_closest_cond_frames(3, dict.fromkeys(range(5)), limit)


def naive_spatial(policy: FifoPolicy, frame: int, reverse: bool) -> list[tuple[int, int]]:
    """Walks frame by frame: the one before, then those that the stride divides beyond it, newest first."""
    step = 1 if reverse else -1
    wanted = [frame + step]
    t = frame + 2 * step
    while len(wanted) < policy.num_maskmem - 1:
        if t % policy.stride == 0:
            wanted.append(t)
        t += step
    return [(policy.num_maskmem - 1 - i, t) for i, t in enumerate(wanted[: policy.num_maskmem - 1])][::-1]


@given(
    conditioning=FRAMES,
    recent=FRAMES,
    frame=st.integers(0, 40),
    reverse=st.booleans(),
    stride=st.integers(1, 5),
    num_maskmem=st.integers(2, 8),
    limit=st.sampled_from([-1, 2, 3]),
    past_only=st.booleans(),
    signed=st.booleans(),
    num_frames=st.sampled_from([None, 41, 60]),
)
def test_fifo_equals_the_twin(
    conditioning: set[int],
    recent: set[int],
    frame: int,
    reverse: bool,
    stride: int,
    num_maskmem: int,
    limit: int,
    past_only: bool,
    signed: bool,
    num_frames: int | None,
) -> None:
    policy = FifoPolicy(num_maskmem, stride, limit, 16, past_only, signed)
    recent = recent - conditioning
    found = policy.select(bank(conditioning, recent), frame, reverse, num_frames)

    chosen = naive_closest(frame, sorted(conditioning), limit)
    others = (conditioning | recent) - chosen
    spatial = sorted((0, t) for t in chosen)
    spatial += [(position, t) for position, t in naive_spatial(policy, frame, reverse) if t in others]
    assert sorted((p, e.frame_idx) for p, e in found.spatial) == sorted(spatial)

    sign = -1 if reverse else 1
    pointers = {
        (d if signed else abs(d), t) for t in chosen if (d := (frame - t) * sign) >= 0 or not past_only
    }
    pointers |= {(d, frame - d * sign) for d in range(1, 16) if frame - d * sign in others}
    assert {(d, e.frame_idx) for d, e in found.pointers} == pointers
    assert len(found.pointers) == len(pointers)
    assert found.pointer_span == 15


def read(policy: FifoPolicy, recent: set[int], frame: int, reverse: bool) -> list[list[tuple[int, int]]]:
    found = policy.select(bank(set(), recent), frame, reverse)
    return [[(k, e.frame_idx) for k, e in part] for part in (found.spatial, found.pointers)]


@given(recent=FRAMES, frame=st.integers(0, 40), reverse=st.booleans(), stride=st.integers(1, 4))
def test_nothing_beyond_the_horizon_is_read(recent: set[int], frame: int, reverse: bool, stride: int) -> None:
    policy = FifoPolicy(stride=stride)
    near = {t for t in recent if abs(t - frame) <= policy.horizon()}
    assert read(policy, recent, frame, reverse) == read(policy, near, frame, reverse)


def test_short_videos_scale_pointer_time() -> None:
    memories = bank({0}, {1, 2})
    assert FifoPolicy().select(memories, 3, num_frames=5).pointer_span == 4
    assert FifoPolicy().select(memories, 3, num_frames=16).pointer_span == 15
    assert FifoPolicy().select(memories, 3, num_frames=None).pointer_span == 15
    assert FifoPolicy().select(bank({0}, set()), 0, num_frames=1).pointer_span == 1


def test_entries_without_spatial_memory_give_a_pointer_only() -> None:
    memories = MemoryBank()
    memories.add(entry(0, conditioning=True, features=False))
    found = FifoPolicy().select(memories, 1)
    assert found.shape == (0, 1)


def test_no_pointers_where_the_model_has_none() -> None:
    assert FifoPolicy(max_obj_ptrs=0).select(bank({0}, {1}), 2).pointers == ()


def test_a_frame_conditions_or_does_not() -> None:
    memories = bank({4}, {4, 5})
    assert set(memories.conditioning) == {4}
    assert set(memories.recent) == {5}
    memories.release(4)
    assert set(memories.recent) == {4, 5}
    assert memories.get(4) is not None
    memories.add(replace(entry(5), is_conditioning=True))
    assert len(memories) == 2
    assert memories.nbytes == 2 * (8 * 2 + 4 * 4 + 4)
    assert memories.discard(5)
    assert not memories.discard(5)
    memories.clear()
    assert list(memories) == []
