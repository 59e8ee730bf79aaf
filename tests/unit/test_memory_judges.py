"""Motion-aware and distractor-aware memory on scripted scores: each follows its paper's rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.memory import (
    POLICY_NAMES,
    DistractorAwarePolicy,
    FifoPolicy,
    FrameMarks,
    MemoryBank,
    MemoryEntry,
    MotionAwarePolicy,
    StorageOptions,
    TreePolicy,
    make_policy,
)
from sam2.memory.entry import ObjectMask
from sam2.memory.judges import BoxFilter, DistractorJudge, MotionJudge, box_iou, box_of
from sam2.memory.named import policy_from_json, policy_to_json
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt, VideoSession


def box_mask(x0: int, y0: int, x1: int, y1: int, side: int = 64) -> Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def entry(frame: int, trusted: bool = True, anchor: bool = False, conditioning: bool = False) -> MemoryEntry:
    features = torch.zeros(1, 1, 1, 1)
    return MemoryEntry(frame, conditioning, features, torch.zeros(1, 4), torch.zeros(1, 1), trusted, anchor)


def bank(trusted: set[int], others: set[int] = frozenset(), anchors: set[int] = frozenset()) -> MemoryBank:  # type: ignore[assignment]
    made = MemoryBank()
    made.add(entry(0, conditioning=True))
    for t in sorted(trusted | others | anchors):
        made.add(entry(t, t in trusted, t in anchors))
    return made


def spatial(
    policy: FifoPolicy, memories: MemoryBank, frame: int, reverse: bool = False
) -> list[tuple[int, int]]:
    return [(p, e.frame_idx) for p, e in policy.select(memories, frame, reverse).spatial]


# ---------------------------------------------------------------- geometry and motion


def test_boxes() -> None:
    box = box_of(box_mask(3, 5, 10, 9))
    assert box is not None
    assert box.tolist() == [3, 5, 10, 9]
    assert box_of(torch.zeros(4, 4, dtype=torch.bool)) is None
    assert box_iou(np.array([0.0, 0, 4, 4]), np.array([2.0, 0, 6, 4])) == pytest.approx(1 / 3)
    assert box_iou(np.array([0.0, 0, 4, 4]), np.array([4.0, 0, 6, 4])) == 0


def test_the_filter_learns_a_constant_velocity() -> None:
    start = np.array([10.0, 20, 20, 40])
    found = BoxFilter(start)
    for step in range(1, 20):
        expected = found.predict()
        found.update(start + step * np.array([2.0, 1, 2, 1]))
    expected = found.predict()
    assert np.allclose(expected, start + 20 * np.array([2.0, 1, 2, 1]), atol=0.3)


# ---------------------------------------------------------------- SAMURAI


def moving(t: int, dy: int = 0) -> Tensor:
    return box_mask(2 + t, 10 + dy, 12 + t, 20 + dy)


def shown(mask: Tensor) -> ObjectMask:
    return ObjectMask(mask[None, None] * 20.0 - 10.0, torch.ones(1), torch.ones(1, 1))


def followed(frames: int) -> MotionJudge:
    """A judge that saw the object move through `frames` frames."""
    judge = MotionJudge()
    judge.begin(0, shown(moving(0)))
    for t in range(1, frames):
        judge.judge(t, moving(t)[None], [0.9], presence=5.0)
    return judge


@pytest.mark.parametrize(("seen", "choice"), [(14, 1), (15, 0)])
def test_motion_breaks_ties_once_the_object_was_seen_for_a_while(seen: int, choice: int) -> None:
    judge = followed(seen)
    # on its own, predicted IoU prefers the look-alike
    candidates = torch.stack([moving(seen), moving(seen, dy=30)])
    assert judge.judge(seen, candidates, [0.80, 0.85], presence=5.0).choice == choice


def test_motion_does_not_outweigh_a_much_better_mask() -> None:
    judge = followed(20)
    verdict = judge.judge(20, torch.stack([moving(20), moving(20, dy=30)]), [0.5, 0.9], presence=5.0)
    assert verdict.choice == 1
    assert not verdict.trusted  # it agrees with the motion nowhere


@pytest.mark.parametrize(
    ("iou", "presence", "trusted"),
    [(0.9, 3.0, True), (0.4, 3.0, False), (0.9, -1.0, False), (0.51, 0.1, True)],
)
def test_which_frames_motion_trusts(iou: float, presence: float, trusted: bool) -> None:
    judge = MotionJudge()
    judge.begin(0, shown(moving(0)))
    assert judge.judge(1, moving(1)[None], [iou], presence).trusted == trusted


@pytest.mark.parametrize(("iou", "presence"), [(0.9, -5.0), (0.4, 5.0)])
def test_an_occlusion_or_a_poor_mask_starts_the_count_anew(iou: float, presence: float) -> None:
    judge = followed(20)
    judge.judge(20, moving(20)[None], [iou], presence)
    verdict = judge.judge(21, torch.stack([moving(21), moving(21, dy=30)]), [0.80, 0.85], presence=5.0)
    assert verdict.choice == 1


def test_how_far_back_motion_looks() -> None:
    memories = bank(trusted={1, 2, 3, 28, 29}, others=set(range(4, 28)))
    assert spatial(MotionAwarePolicy(look_back=27), memories, 30) == [(0, 0), (4, 3), (5, 28), (6, 29)]


def test_motion_reads_the_last_trusted_frames_however_old() -> None:
    policy = MotionAwarePolicy()
    memories = bank(trusted={1, 2, 3, 4, 5, 6, 7, 30}, others=set(range(8, 30)))
    assert spatial(policy, memories, 31) == [(0, 0), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 30)]
    assert spatial(policy, memories, 4) == [(0, 0), (4, 1), (5, 2), (6, 3)]
    backwards = [(0, 0), (3, 30), (4, 7), (5, 6), (6, 5)]
    assert spatial(policy, memories, 4, reverse=True) == backwards
    fifo = FifoPolicy().select(memories, 31)
    assert [e.frame_idx for _, e in policy.select(memories, 31).pointers] == [
        e.frame_idx for _, e in fifo.pointers
    ]


# ---------------------------------------------------------------- DAM4SAM


def distractor_frame(far: bool = True) -> Tensor:
    object_ = box_mask(5, 5, 15, 15)
    other = box_mask(40, 40, 50, 50) if far else box_mask(5, 5, 16, 15)
    return torch.stack([object_, object_ | other, object_])


def test_a_reliable_frame_with_a_distractor_becomes_an_anchor() -> None:
    judge = DistractorJudge()
    judge.begin(0, shown(distractor_frame()[0]))
    anchors = [t for t in range(1, 15) if judge.judge(t, distractor_frame(), [0.9, 0.5, 0.5], 4.0).anchor]
    assert anchors == [5, 10]


@pytest.mark.parametrize(
    ("masks", "iou"),
    [
        (distractor_frame(far=False), 0.9),  # the candidates agree
        (distractor_frame(), 0.75),  # not reliable
        (torch.stack([box_mask(5, 5, 18, 15), distractor_frame()[1]]), 0.9),  # the area has changed
    ],
)
def test_other_frames_do_not(masks: Tensor, iou: float) -> None:
    judge = DistractorJudge()
    judge.begin(0, shown(distractor_frame()[0]))
    verdict = judge.judge(10, masks, [iou] + [0.5] * (len(masks) - 1), 4.0)
    assert verdict.trusted
    assert not verdict.anchor


@pytest.mark.parametrize(
    ("presence", "mask"), [(-1.0, distractor_frame()), (4.0, torch.zeros(1, 64, 64) > 0)]
)
def test_frames_without_the_object_are_no_appearances(presence: float, mask: Tensor) -> None:
    judge = DistractorJudge()
    judge.begin(0, shown(distractor_frame()[0]))
    assert not judge.judge(1, mask, [0.9] * len(mask), presence).trusted


def test_distractor_aware_memory_has_two_halves() -> None:
    policy = DistractorAwarePolicy()
    seen = set(range(1, 24)) - {20}
    memories = bank(trusted=seen, others={20, 24, 25}, anchors={3, 8, 13, 18})
    # anchors without time, the newest two; appearances at an interval; the latest frame was not trusted
    assert spatial(policy, memories, 26) == [(0, 0), (0, 13), (0, 18), (4, 5), (5, 10), (6, 15)]
    memories = bank(trusted=seen | {25}, others={20, 24}, anchors={3})
    assert spatial(policy, memories, 26) == [(0, 0), (0, 3), (4, 10), (5, 15), (6, 25)]
    # an anchor takes no place among the appearances
    memories = bank(trusted=seen, anchors={15})
    assert spatial(policy, memories, 21) == [(0, 0), (0, 15), (5, 5), (6, 10)]


# ---------------------------------------------------------------- marks, what may be forgotten, names


@given(frames=st.sets(st.integers(0, 50)), at=st.integers(-3, 60))
def test_the_next_marked_frame(frames: set[int], at: int) -> None:
    marks = FrameMarks()
    for frame in range(51):
        marks[frame] = frame in frames
    assert marks.next_yes(at, forwards=True) == min((f for f in frames if f > at), default=None)
    assert marks.next_yes(at, forwards=False) == max((f for f in frames if f < at), default=None)


@given(trusted=st.sets(st.integers(1, 80)), anchors=st.sets(st.integers(1, 80)), now=st.integers(20, 80))
@pytest.mark.parametrize("kind", [MotionAwarePolicy, DistractorAwarePolicy, TreePolicy])
def test_what_expired_is_never_read(
    kind: type[FifoPolicy], trusted: set[int], anchors: set[int], now: int
) -> None:
    policy = kind()
    past = range(1, now + 1)
    memories = bank({t for t in trusted if t in past}, set(past), {t for t in anchors if t in past})
    for _, read in policy.select(memories, now + 1).spatial:
        assert read.is_conditioning or not policy.expired(memories, now, read.frame_idx)
    for _, read in policy.select(memories, now + 1).pointers:
        assert read.is_conditioning or not policy.expired(memories, now, read.frame_idx)


def test_policies_by_name() -> None:
    model = FifoPolicy(num_maskmem=5, signed_distance=True)
    assert make_policy("fifo", model) == model
    assert make_policy("stride", model).stride == 4
    assert make_policy("motion", model) == MotionAwarePolicy(num_maskmem=5, signed_distance=True)
    assert make_policy(model, FifoPolicy()) is model
    with pytest.raises(ValueError, match="'samurai': say fifo, stride, motion, distractor, tree"):
        make_policy("samurai", model)
    for name in POLICY_NAMES:
        policy = make_policy(name, model)
        assert policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy

    class Own(FifoPolicy):
        pass

    with pytest.raises(ValueError, match="a session with a Own of your own cannot be saved"):
        policy_to_json(Own())


# ---------------------------------------------------------------- within tracking


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


@pytest.mark.parametrize("policy", ["stride", "motion", "distractor", "tree"])
def test_policies_track_many_objects_and_streams(
    predictor: SAM2VideoPredictor, policy: str, tmp_path: Path
) -> None:
    video = clip(30)
    found: dict[int, Any] = {}
    for host_bytes in (2**30, 0):
        state = predictor.init_state(video, policy=policy, storage=StorageOptions(host_bytes=host_bytes))
        for i in range(3):
            predictor.add_new_mask(state, 0, i, disk(10 + 9 * i, 18))
        found[host_bytes] = run(predictor, state)
    assert farthest(found[0], found[2**30]) == 0.0
    tracker = predictor.stream(policy=policy)
    asked = {0: [ObjectPrompt(i, mask=disk(10 + 9 * i, 18)) for i in range(3)]}
    streamed = {r.frame_idx: {i: r.logits[i] for i in range(3)} for r in tracker.follow(video, asked)}
    assert farthest(found[0], streamed) < 1e-4
    state.save(tmp_path / "session.sam2")
    loaded = VideoSession.load(tmp_path / "session.sam2", video=video)
    assert loaded.policy == state.policy
    assert dict(loaded.tracks[1].bank.trusted) == dict(state.tracks[1].bank.trusted)


def test_another_choice_brings_its_own_pointer(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(2))
    with torch.inference_mode():
        out = predictor.step(predictor.engine.features(state, 0), [])
        best = predictor.choose(out, out.ious.argmax(-1))
        other = predictor.choose(out, out.ious.argmin(-1))
    assert torch.equal(best.obj_ptr, out.obj_ptr)
    assert torch.equal(best.low_res_masks, out.low_res_masks)
    assert not torch.equal(other.obj_ptr, out.obj_ptr)
    assert float(other.ious) == float(out.ious.min())
