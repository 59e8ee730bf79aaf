"""Frames that come one by one: the same numbers as a whole video, and whatever a stream may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from tracking_helpers import HEIGHT, WIDTH, clip, disk, farthest, mini_predictor, run

from sam2.build_sam import build_sam2_camera_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import FrameGoneError, ObjectPrompt, StreamingTracker
from sam2.video import LiveFrame, LiveStallError


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


def stream(
    tracker: StreamingTracker, frames: list[np.ndarray], prompts: dict[int, list[ObjectPrompt]]
) -> dict[int, dict[int, Tensor]]:
    return {
        r.frame_idx: {obj_id: r.logits[i] for i, obj_id in enumerate(r.obj_ids)}
        for r in tracker.follow(frames, prompts)
    }


@pytest.mark.parametrize("options", [{}, {"memory_temporal_stride_for_eval": 3}, {"fill_hole_area": 8}])
def test_streaming_equals_offline(options: dict[str, Any]) -> None:
    predictor = mini_predictor(**options)
    video = clip(24)
    prompts = {
        0: [ObjectPrompt(1, points=[[20, 15]], labels=[1]), ObjectPrompt(2, mask=disk(30, 20))],
        6: [ObjectPrompt(2, points=[[30, 20]], labels=[1])],
    }
    state = predictor.init_state(video)
    for frame, asked in prompts.items():
        for one in asked:
            predictor.engine.ask(state, frame, one, correct_as_conditioning=False)
    whole = run(predictor, state)
    # frames before the second prompt read it ahead of time only where the whole video is known
    found = stream(predictor.stream(), video, prompts)
    assert farthest(whole, found, ids=[1]) < 1e-4
    late = predictor.init_state(video)
    for one in prompts[0]:
        predictor.engine.ask(late, 0, one, correct_as_conditioning=False)
    early = run(predictor, late, max_frame_num_to_track=5)
    assert farthest(early, found) < 1e-4


@pytest.mark.parametrize("count", [16, 17])
def test_from_16_frames_on_streaming_equals_offline(predictor: SAM2VideoPredictor, count: int) -> None:
    video = clip(count)
    state = predictor.init_state(video)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    whole = run(predictor, state)
    found = stream(predictor.stream(), video, {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    assert list(whole) == list(range(count))
    assert farthest(whole, found) < 1e-4


def test_a_correction_equals_offline(predictor: SAM2VideoPredictor) -> None:
    video = clip(20)
    for conditions in (False, True):
        state = predictor.init_state(video)
        predictor.add_new_mask(state, 0, 1, disk(20, 18))
        run(predictor, state, max_frame_num_to_track=6)
        fix = ObjectPrompt(1, points=[[30, 10]], labels=[1])
        predictor.engine.ask(state, 6, fix, correct_as_conditioning=conditions)
        offline = run(predictor, state, start_frame_idx=7)

        tracker = predictor.stream(correct_as_conditioning=conditions)
        stream(tracker, video[:7], {0: [ObjectPrompt(1, mask=disk(20, 18))]})
        before = tracker.session.tracks[1].found[6].logits
        corrected = tracker.prompt(fix)
        assert not torch.equal(corrected.low_res_logits, before)
        assert farthest(offline, stream(tracker, video[7:], {})) < 1e-4


def test_short_clips_differ_by_pointer_time_alone(predictor: SAM2VideoPredictor) -> None:
    video = clip(6)
    state = predictor.init_state(video)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    whole = run(predictor, state)
    state = predictor.init_state(video)
    state.endless = True
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    endless = run(predictor, state)
    found = stream(predictor.stream(), video, {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    assert farthest(endless, found) < 1e-4
    assert farthest(whole, found) > 1e-6


def test_objects_come_and_go(predictor: SAM2VideoPredictor) -> None:
    video = clip(18)
    alone = stream(predictor.stream(), video, {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    tracker = predictor.stream()
    empty = predictor.stream().step(video[0])
    assert empty.obj_ids == []
    assert empty.logits.shape == (0, 1, HEIGHT, WIDTH)
    assert empty.masks.shape == (0, HEIGHT, WIDTH)
    stream(tracker, video[:5], {0: [ObjectPrompt(1, mask=disk(20, 18)), ObjectPrompt(2, mask=disk(9, 9))]})
    tracker.prompt(ObjectPrompt(7, box=[5, 5, 30, 30]))
    tracker.remove(2)
    result = tracker.step(video[5])
    assert result.obj_ids == [1, 7]
    rest = stream(tracker, video[6:], {})
    assert farthest(alone, rest, frames=range(6, 18), ids=[1]) < 1e-4
    tracker.remove(1)
    tracker.remove(7)
    with pytest.raises(ValueError, match="none yet"):
        tracker.remove(7)
    assert tracker.step(video[0]).obj_ids == []
    assert tracker.prompt(ObjectPrompt(3, mask=disk(20, 18))).obj_ids == [3]
    assert bool(tracker.step(video[1]).logits.isfinite().all())


def as_av(frame: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(frame, format="rgb24")


@pytest.mark.parametrize(
    "turned",
    [
        as_av,
        Image.fromarray,
        torch.from_numpy,
        lambda f: torch.from_numpy(f).permute(2, 0, 1),
        lambda f: LiveFrame(1.5, f, False),
    ],
)
def test_whatever_a_frame_may_be(predictor: SAM2VideoPredictor, turned: Callable[[np.ndarray], Any]) -> None:
    video = clip(3)
    asked = {0: [ObjectPrompt(1, mask=disk(20, 18))]}
    expected = stream(predictor.stream(), video, asked)
    results = list(predictor.stream().follow([turned(f) for f in video], asked))
    assert torch.equal(results[2].logits[0], expected[2][1])
    is_live = isinstance(turned(video[0]), LiveFrame)
    assert results[2].timestamp == (1.5 if is_live else None)


def test_a_stream_may_change_its_resolution(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream()
    stream(tracker, clip(3), {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    result = tracker.step(clip(1, 100, 60)[0])
    assert result.logits.shape == (1, 1, 60, 100)
    corrected = tracker.prompt(ObjectPrompt(1, points=[[90, 55]], labels=[0]))
    assert corrected.masks.shape == (1, 60, 100)
    with pytest.raises(ValueError, match="lies outside the video, which is 100 x 60"):
        tracker.prompt(ObjectPrompt(1, points=[[101, 5]], labels=[0]))


def test_frames_that_are_gone(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream(keep_frames=2)
    with pytest.raises(ValueError, match="no frame yet"):
        tracker.prompt(ObjectPrompt(1, mask=disk(20, 18)))
    stream(tracker, clip(9), {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    tracker.session.features.clear()
    with pytest.raises(FrameGoneError, match=r"frame 3 of the stream is gone \(held: frames 7 to 8\)"):
        tracker.prompt(ObjectPrompt(1, points=[[20, 18]], labels=[1]), frame_idx=3)
    assert tracker.session.tracks[1].points == {}
    assert tracker.prompt(ObjectPrompt(1, points=[[20, 18]], labels=[1]), frame_idx=7).frame_idx == 7
    with pytest.raises(ValueError, match="out of range"):
        tracker.prompt(ObjectPrompt(1, points=[[20, 18]], labels=[1]), frame_idx=9)


def test_what_is_no_frame_leaves_the_stream_as_it_was(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream()
    stream(tracker, clip(2), {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    for broken in (np.zeros((4, 4, 7), np.uint8), None, "nothing.png"):
        with pytest.raises(ValueError, match=r".+"):
            tracker.step(broken)
    assert tracker.frame_idx == 1
    assert tracker.step(clip(1)[0]).frame_idx == 2
    with pytest.raises(ValueError, match="at least its newest"):
        predictor.stream(keep_frames=0)


def test_a_source_that_stalls_loses_nothing(predictor: SAM2VideoPredictor) -> None:
    video = clip(6)

    def stalling():  # type: ignore[no-untyped-def]
        yield from video[:3]
        raise LiveStallError("camera:0 gave no frame for 5 s")

    tracker = predictor.stream()
    with pytest.raises(LiveStallError, match="camera:0"):
        list(tracker.follow(stalling(), {0: [ObjectPrompt(1, mask=disk(20, 18))]}))
    assert tracker.frame_idx == 2
    rest = stream(tracker, video[3:], {})
    whole = stream(predictor.stream(), video, {0: [ObjectPrompt(1, mask=disk(20, 18))]})
    assert farthest(rest, whole) == 0.0


def test_conditioning_frames_are_capped(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream()
    for t, frame in enumerate(clip(12)):
        tracker.step(frame, [ObjectPrompt(1, mask=disk(15 + t, 18))])
    selection = tracker.engine.policy(tracker.session).select(tracker.session.tracks[1].bank, 12)
    assert sum(position == 0 for position, _ in selection.spatial) == 4
    with predictor.stream(max_cond_frames=2) as short:
        assert short.engine.policy(short.session).max_cond_frames == 2


# ---------------------------------------------------------------- the calls of the camera forks


def test_the_camera_calls() -> None:
    camera = build_sam2_camera_predictor(
        "mini", device="cpu", hydra_overrides_extra=["++model.image_size=64", "++model.fill_hole_area=0"]
    )
    video = clip(8)
    with pytest.raises(ValueError, match="load_first_frame"):
        camera.track(video[0])
    camera.load_first_frame(video[0])
    frame_idx, ids, logits = camera.add_new_prompt(frame_idx=0, obj_id=1, points=[[20, 10]], labels=[1])
    assert (frame_idx, ids, logits.shape) == (0, [1], (1, 1, HEIGHT, WIDTH))
    camera.add_new_prompt(0, 2, bbox=np.array([[4, 4], [20, 20]], np.float32))
    camera.add_new_points(0, 1, [[30, 10]], [0], clear_old_points=False)
    _, ids, _ = camera.add_new_mask(0, 3, disk(20, 18))
    assert ids == [1, 2, 3]
    ids, logits = camera.track(video[1])
    assert ids == [1, 2, 3]
    assert logits.shape == (3, 1, HEIGHT, WIDTH)
    camera.track(video[2])
    assert camera.add_conditioning_frame(video[3]) == 3
    assert camera.add_new_mask(1, 4, disk(20, 18))[0] == 3
    assert camera.track(video[4])[0] == [1, 2, 3, 4]
    with pytest.raises(FrameGoneError, match="prompt the newest frame, 4"):
        camera.add_new_points(0, 1, [[30, 10]], [0])
    camera.load_first_frame(video[0])
    assert camera.track(video[1])[0] == []
