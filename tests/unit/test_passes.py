"""Runs in both directions, cut short, fused; and which frames to look at next."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectMask, ObjectPrompt, VideoSession, look_next
from sam2.tracking.passes import mask_iou, planned
from sam2.video import VideoError


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


@pytest.fixture
def state(predictor: SAM2VideoPredictor) -> VideoSession:
    state = predictor.init_state(clip(14))
    predictor.add_new_mask(state, 5, 1, disk(20, 18))
    return state


def masks(results: Any) -> dict[int, dict[int, torch.Tensor]]:
    return {r.frame_idx: {i: r.logits[n] for n, i in enumerate(r.obj_ids)} for r in results}


@pytest.mark.parametrize(
    ("start", "limit", "direction", "expected"),
    [
        (2, None, "both", [[2, 3, 4, 5], [1, 0]]),
        (2, 1, "both", [[2, 3], [1]]),
        (0, None, "both", [[0, 1, 2, 3, 4, 5], []]),
        (5, None, "both", [[5], [4, 3, 2, 1, 0]]),
        (3, 2, "backward", [[3, 2, 1]]),
        (0, None, "backward", [[]]),
        (3, None, "forward", [[3, 4, 5]]),
    ],
)
def test_which_frames_a_run_covers(
    start: int, limit: int | None, direction: Any, expected: list[list[int]]
) -> None:
    assert [list(frames) for frames, _ in planned(6, start, limit, direction)] == expected


def test_both_directions_in_one_call(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    found = masks(predictor.propagate(state, direction="both"))
    assert list(found) == [*range(5, 14), 4, 3, 2, 1, 0]
    other = predictor.init_state(clip(14))
    predictor.add_new_mask(other, 5, 1, disk(20, 18))
    one_way = run(predictor, other) | run(predictor, other, reverse=True)
    assert farthest(found, one_way) == 0.0
    with pytest.raises(ValueError, match="direction is 'up'"):
        list(predictor.propagate(state, direction="up"))  # type: ignore[arg-type]


def test_a_run_stops_where_nothing_changes_any_more(
    predictor: SAM2VideoPredictor, state: VideoSession
) -> None:
    whole = masks(predictor.propagate(state))
    again = masks(predictor.propagate(state, settled_frames=3))
    assert list(again) == [5, 6, 7, 8]
    assert farthest(again, whole) == 0.0
    predictor.add_new_mask(state, 9, 1, ~disk(20, 18))
    corrected = masks(predictor.propagate(state, start_frame_idx=9, settled_frames=2, settled_iou=1.01))
    assert list(corrected) == [9, 10, 11, 12, 13]
    predictor.add_new_mask(state, 10, 2, disk(9, 9))
    with_new = masks(predictor.propagate(state, start_frame_idx=10, settled_frames=1))
    assert list(with_new) == [10, 11, 12, 13]  # the new object has no former masks


@pytest.mark.parametrize("policy", ["fifo", "tree"])
def test_fused_masks_lie_between_the_two_passes(predictor: SAM2VideoPredictor, policy: str) -> None:
    video = clip(12)
    prompts = {2: disk(14, 18), 8: disk(30, 20)}

    def prompted() -> VideoSession:
        state = predictor.init_state(video, policy=policy)
        for frame, mask in prompts.items():
            predictor.add_new_mask(state, frame, 1, mask)
        return state

    forwards = prompted()
    run(predictor, forwards)
    one = {f: forwards.tracks[1].found[f] for f in range(2, 12)}
    run(predictor, forwards, start_frame_idx=8, reverse=True)
    other = {f: forwards.tracks[1].found[f] for f in range(9)}

    fused = list(predictor.propagate_fused(prompted()))
    assert [f.result.frame_idx for f in fused] == list(range(12))
    for t, found in enumerate(fused):
        logits, score = found.result.low_res_logits, float(found.disagreement[0])
        if t in prompts:
            assert torch.equal(logits, one[t].logits)
            assert score == 0
        elif t < 2 or t > 8:
            expected = (other if t < 2 else one)[t].logits
            assert float((logits - expected).abs().max()) < 1e-4
            assert score == 0
        else:
            share = (t - 2) / 6
            expected = (1 - share) * one[t].logits.clamp(-32, 32) + share * other[t].logits.clamp(-32, 32)
            assert float((logits - expected).abs().max()) < 1e-3
            assert score == pytest.approx(1 - mask_iou(one[t].logits, other[t].logits))


def scripted(state: VideoSession, frame: int, iou: float, presence: float, filled: bool) -> None:
    logits = torch.full((1, 1, 16, 16), 5.0 if filled else -5.0)
    state.tracks[1].found[frame] = ObjectMask(logits, torch.tensor([iou]), torch.tensor([[presence]]))


def test_where_to_look_next(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(40))
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    run(predictor, state, max_frame_num_to_track=0)
    for t in range(1, 40):
        scripted(state, t, 1.0, 20.0, True)
    scripted(state, 2, 0.0, 0.0, True)  # the worst, but beside a prompt
    scripted(state, 10, 0.2, 20.0, True)
    scripted(state, 12, 0.3, 20.0, True)  # beside a worse one
    scripted(state, 20, 1.0, 0.0, True)
    scripted(state, 30, 1.0, 20.0, False)
    found = look_next(state, count=3)
    assert [s.frame_idx for s in found] == [20, 30, 10] or {s.frame_idx for s in found} == {10, 20, 30}
    worst = {s.frame_idx: s for s in found}
    assert worst[10].low_iou == pytest.approx(0.8)
    assert worst[20].unsure_presence == pytest.approx(1)
    assert worst[30].mask_change == pytest.approx(1)
    assert found == sorted(found, key=lambda s: -s.score)
    assert len(look_next(state, count=1)) == 1


# ---------------------------------------------------------------- faults of a source


def test_an_unplugged_camera_loses_nothing(predictor: SAM2VideoPredictor) -> None:
    video = clip(8)

    def unplugged():  # type: ignore[no-untyped-def]
        yield from video[:4]
        raise VideoError("camera:0 went away")

    tracker = predictor.stream()
    asked = {0: [ObjectPrompt(1, mask=disk(20, 18))]}
    with pytest.raises(VideoError, match="went away"):
        list(tracker.follow(unplugged(), asked))
    # plugged in again: dropped frames are frames that never came
    again = list(tracker.follow(video[6:]))
    assert [r.frame_idx for r in again] == [4, 5]
    assert all(r.obj_ids == [1] for r in again)


def test_a_source_without_frames(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream()
    assert list(tracker.follow([])) == []
    assert tracker.frame_idx == -1
