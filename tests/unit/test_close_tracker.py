"""Objects followed from near: windows that move with them, and what is the same as in the video predictor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from tracking_helpers import HEIGHT, SIZE, WIDTH, clip, disk, mini_predictor

from sam2 import close_details, close_object
from sam2.build_sam import build_sam2_video_predictor
from sam2.close_details import Detail
from sam2.close_labels import Labels
from sam2.close_object import tiles
from sam2.close_tracker import CloseResult, CloseTracker, Following
from sam2.memory import StorageOptions
from sam2.tracking.pieces import gap_within
from sam2.tracking.session import NothingToTrackError
from sam2.video import open_video
from sam2.zoom import View

FRAMES = 8


@pytest.fixture(scope="module")
def predictor():
    return mini_predictor(presence=8)


@pytest.fixture
def tracker(predictor):
    with open_video(clip(FRAMES)) as video, CloseTracker(predictor, video) as found:
        yield found


def small_ball(count: int, pace: float = 1.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames in which a ball of 8 pixels' radius crosses a dull ground, and where it is."""
    rng = np.random.default_rng(0)
    ground = rng.integers(90, 130, (240, 426, 3)).astype(np.uint8)
    frames, masks = [], []
    for t in range(count):
        way = pace * t
        masks.append(disk(60 + 6 * way, 120 + 40 * np.sin(way / 3), 8, 426, 240))
        frame = ground.copy()
        frame[masks[-1]] = (230, 60, 40)
        frames.append(frame)
    return frames, masks


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.usefixtures("one_thread")
def test_the_packaged_model_keeps_a_small_thing_that_moves_far():
    frames, masks = small_ball(20)
    with open_video(frames) as video, CloseTracker(build_sam2_video_predictor(), video) as tracker:
        tracker.prompt(0, 7, box=(51, 111, 70, 130))
        results = list(tracker.propagate())
    assert [result.frame_idx for result in results] == list(range(20))
    assert all(result.obj_ids == [7] for result in results)
    assert np.mean([iou(r.masks[0].numpy(), m) for r, m in zip(results, masks)]) > 0.6
    sides = [max(result.views[0].window.size) for result in results]
    assert max(sides) < 100  # a part of the frame, on all of them
    middles = [result.views[0].window.x0 for result in results]
    assert middles[-1] - middles[0] > 80


@pytest.mark.usefixtures("one_thread")
def test_a_thing_that_left_is_absent_until_it_is_surely_back():
    shown, masks = small_ball(8)
    ground = np.random.default_rng(0).integers(90, 130, (240, 426, 3)).astype(np.uint8)
    hidden = [ground] * 8
    frames = [*shown[:6], *hidden, *shown[6:], shown[-1], shown[-1]]
    predictor = build_sam2_video_predictor()

    def found(sure: float) -> list[CloseResult]:
        with (
            open_video(frames) as video,
            CloseTracker(predictor, video, following=Following(sure=sure)) as tracker,
        ):
            tracker.prompt(0, 7, box=(51, 111, 70, 130))
            return list(tracker.propagate())

    usual = found(Following().sure)
    assert not any(result.masks.any() for result in usual[8:14])
    assert iou(usual[-1].masks[0].numpy(), masks[-1]) > 0.5
    back = next(result for result in usual[14:] if result.masks.any())
    assert max(back.views[0].window.size) < 80  # seen from near, not from where it was sought
    assert not any(result.masks.any() for result in found(1e9)[8:])


@pytest.mark.usefixtures("one_thread")
def test_the_window_of_a_fast_thing_is_wider():
    frames, _ = small_ball(12)
    predictor = build_sam2_video_predictor()

    def side(lead: float) -> float:
        with (
            open_video(frames) as video,
            CloseTracker(predictor, video, following=Following(smallest=16, lead=lead, detail=0)) as tracker,
        ):
            tracker.prompt(0, 7, box=(51, 111, 70, 130))
            return float(np.mean([max(result.views[0].window.size) for result in tracker.propagate()]))

    calm, hasty = side(0.0), side(4.0)
    assert 1.2 * calm < hasty < 1.6 * calm


@pytest.mark.usefixtures("one_thread")
def test_a_second_look_from_nearer_draws_better_outlines():
    frames, masks = small_ball(12, pace=0.3)
    predictor = build_sam2_video_predictor()

    def found(detail: float) -> tuple[float, float]:
        following = Following(detail=detail)
        with open_video(frames) as video, CloseTracker(predictor, video, following=following) as tracker:
            tracker.prompt(0, 7, mask=masks[0])
            results = list(tracker.propagate())
        overlaps = [iou(r.masks[0].numpy(), m) for r, m in zip(results, masks)]
        return float(np.mean(overlaps)), max(max(r.views[0].window.size) for r in results[1:])

    (once, wide), (twice, near) = found(0), found(1.8)
    assert twice > once
    assert near < wide


@pytest.mark.usefixtures("one_thread")
def test_where_both_looks_differ_the_first_has_the_last_word():
    frames, masks = small_ball(8)
    predictor = build_sam2_video_predictor()

    def found(**how: float) -> list[CloseResult]:
        following = Following(**how)
        with open_video(frames) as video, CloseTracker(predictor, video, following=following) as tracker:
            tracker.prompt(0, 7, mask=masks[0])
            return list(tracker.propagate())

    for alone, overruled in zip(found(detail=0)[1:], found(agreement=1.1)[1:]):
        assert iou(alone.masks[0].numpy(), overruled.masks[0].numpy()) > 0.9  # the same, in another window
        assert overruled.predicted_iou == alone.predicted_iou
        assert overruled.object_score_logits == alone.object_score_logits


@pytest.mark.usefixtures("one_thread")
def test_the_decoder_mends_the_outlines_of_what_is_carried(monkeypatch):
    frames, masks = small_ball(6, pace=0.3)
    predictor = build_sam2_video_predictor()
    redrawn = Labels.redrawn

    def drifted(*given: object) -> Tensor:
        return redrawn(*given).roll((2, 2), dims=(0, 1))

    monkeypatch.setattr(Labels, "redrawn", drifted)

    def found(surest: float) -> float:
        monkeypatch.setattr(close_details, "SUREST", surest)
        with open_video(frames) as video, CloseTracker(predictor, video) as tracker:
            tracker.prompt(0, 7, mask=masks[0])
            *_, last = tracker.propagate()
        return iou(last.masks[0].numpy(), masks[-1])

    assert found(surest=10) > found(surest=0) + 0.1


@pytest.mark.usefixtures("one_thread")
def test_memory_has_a_say_in_what_is_drawn_where_it_means_the_same_thing(monkeypatch):
    frames, masks = small_ball(4, pace=0.3)
    predictor = build_sam2_video_predictor()
    follow = Detail.follow

    def found(remembered: float | None) -> Tensor:
        def followed(self: Detail, engine: object, frame_idx: int, first: View, own: View, *how: object):
            if remembered is not None:
                own = replace(own, logits=torch.full_like(own.logits, remembered))
            follow(self, engine, frame_idx, first, own, *how)

        monkeypatch.setattr(Detail, "follow", followed)
        with open_video(frames) as video, CloseTracker(predictor, video) as tracker:
            tracker.prompt(0, 7, mask=masks[0])
            *_, last = tracker.propagate()
        return last.views[0].logits

    nothing = found(remembered=-10)
    assert found(remembered=10).equal(nothing)
    assert not found(remembered=None).equal(nothing)


def test_the_second_look_forgets_what_the_first_no_longer_finds():
    predictor = mini_predictor(presence=8)
    with open_video(clip(4)) as video, CloseTracker(predictor, video) as tracker:
        tracker.prompt(0, 1, mask=disk(30, 20))
        assert all(result.masks.any() for result in tracker.propagate())
        with torch.no_grad():  # from here on nothing is found
            predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-20)
        assert not any(result.masks.any() for result in list(tracker.propagate())[1:])


@pytest.mark.parametrize(
    ("share", "carries", "models"),
    [(0.0, True, True), (0.2, True, True), (0.5, True, False), (0.5, False, True)],
)
def test_where_the_carried_mask_lost_the_object_the_model_has_the_say(monkeypatch, share, carries, models):
    predictor = mini_predictor(presence=8)

    def shrunk(self: Labels, *given: object) -> Tensor:
        mask = torch.full((SIZE // 4, SIZE // 4), -10.0)
        mask[: round(share * SIZE // 4)] = 10.0
        return mask

    monkeypatch.setattr(Labels, "redrawn", shrunk)
    following = Following(margin=1.0, detail=0, carries=carries)  # the object fills its window
    with open_video(clip(2)) as video, CloseTracker(predictor, video, following=following) as tracker:
        tracker.prompt(0, 1, mask=np.ones((HEIGHT, WIDTH), bool))
        *_, last = tracker.propagate()
    rows = last.masks[0].any(dim=1)
    assert bool(rows[HEIGHT // 2 + 2 :].any()) == models


@pytest.mark.parametrize("history", ["all", "none"])
def test_both_looks_forget_what_is_long_past(history):
    predictor = mini_predictor(presence=8)
    storage = StorageOptions(history=history)
    with open_video(clip(20)) as video, CloseTracker(predictor, video, storage=storage) as tracker:
        tracker.prompt(0, 1, mask=disk(30, 20))
        for result in tracker.propagate():
            assert result.masks.any()
            if history == "all":
                tracker.forget_tracked([result.frame_idx])
        assert not tracker.result(1).masks.any()
        for kept in (0, 18, 19):
            assert tracker.result(kept).masks.any()


def test_a_window_that_cannot_hold_its_object_is_refused():
    with pytest.raises(ValueError, match=r"detail is 0\.5: .* 1 or more, or 0"):
        Following(detail=0.5)


def test_results_are_those_of_the_video_size(tracker):
    shown = tracker.prompt(2, 5, mask=disk(30, 20))
    assert shown.obj_ids == [5]
    assert shown.logits.shape == (1, 1, HEIGHT, WIDTH)
    assert shown.masks.dtype == torch.bool
    assert iou(shown.masks[0].numpy(), disk(30, 20)) > 0.7
    assert [r.frame_idx for r in tracker.propagate()] == [2, 3, 4, 5, 6, 7]
    assert [r.frame_idx for r in tracker.propagate(reverse=True)] == [2, 1, 0]
    assert [r.frame_idx for r in tracker.propagate(3, 2)] == [3, 4, 5]


def test_objects_do_not_touch_one_another(predictor):
    def logits(prompts):
        with open_video(clip(FRAMES)) as video, CloseTracker(predictor, video) as tracker:
            for frame_idx, obj_id, mask in prompts:
                tracker.prompt(frame_idx, obj_id, mask=mask)
            return [(r.obj_ids, r.logits) for r in tracker.propagate()]

    one, two = (0, 1, disk(30, 20)), (3, 2, disk(38, 12, 6))
    both = logits([one, two])
    assert both[0][0] == [1, 2]
    assert not (both[0][1][1] > 0).any()  # its first prompt is still to come
    for t, (_, alone) in enumerate(logits([one])):
        torch.testing.assert_close(both[t][1][0], alone[0])
    for t, (_, alone) in enumerate(logits([two])):
        torch.testing.assert_close(both[t + 3][1][1], alone[0])


def test_an_object_that_is_gone_is_sought_where_it_was_and_everywhere():
    """Where the model sees nothing, every second window lies about the last place, the others everywhere."""
    following = Following(margin=2.0, most=8.0, smallest=8, detail=0)
    predictor = mini_predictor(presence=-20)
    with open_video(clip(90)) as video, CloseTracker(predictor, video, following=following) as tracker:
        tracker.prompt(0, 1, mask=disk(30, 20, 5))
        windows = [result.views[0].window for result in tracker.propagate()]
    first, after = windows[: following.patience + 2], windows[following.patience + 2 :]
    assert len(set(first)) == 1
    assert len(set(after[::2])) == 1
    assert after[0].x0 < 30 < after[0].x1
    assert after[0].y0 < 20 < after[0].y1
    assert max(max(window.size) for window in after) <= following.wider * max(first[0].size) + 1
    seen = np.zeros((HEIGHT, WIDTH), bool)
    for window in after[1::2]:
        seen[window.y0 : window.y1, window.x0 : window.x1] = True
    assert seen.all()


@given(st.floats(1, 900), st.integers(1, 700), st.integers(1, 700))
def test_tiles_cover_the_picture(side, height, width):
    side = max(side, height / 20, width / 20)
    seen = np.zeros((height, width), bool)
    for window in tiles(side, (height, width)):
        assert window.size == (min(math.ceil(side), height), min(math.ceil(side), width))
        seen[window.y0 : window.y1, window.x0 : window.x1] = True
    assert seen.all()


def test_a_correction_holds_on_its_frame(tracker):
    tracker.prompt(0, 1, mask=disk(30, 20))
    list(tracker.propagate())
    corrected = disk(14, 26)
    tracker.prompt(4, 1, mask=corrected)
    again = {r.frame_idx: r.masks[0].numpy() for r in tracker.propagate()}
    assert iou(again[4], corrected) > 0.7
    assert iou(again[0], disk(30, 20)) > 0.7


def test_a_correction_of_a_lost_object_stays_where_it_was_drawn():
    predictor, near = mini_predictor(presence=-20), Following(margin=2.0, smallest=8)
    with open_video(clip(20)) as video, CloseTracker(predictor, video, following=near) as tracker:
        tracker.prompt(0, 1, mask=disk(30, 20))
        list(tracker.propagate())  # lost: its last window lies elsewhere, and is large for what is drawn now
        corrected = disk(14, 26, 3)
        tracker.prompt(19, 1, mask=corrected)
        drawn = tracker.result(19)
        again = list(tracker.propagate())[19]
    assert again.views[0].window == drawn.views[0].window
    assert iou(again.masks[0].numpy(), corrected) > 0.7


def test_pieces_of_a_prompt_are_labelled_once_until_it_is_corrected(tracker, monkeypatch):
    labelled: list[float] = []

    def counted(mask: torch.Tensor) -> float:
        labelled.append(gap_within(mask))
        return labelled[-1]

    monkeypatch.setattr(close_object, "gap_within", counted)
    together = disk(14, 24, 6)
    tracker.prompt(0, 1, mask=together | disk(42, 6, 4))
    list(tracker.propagate())
    assert len(labelled) == 1
    assert labelled[0] > 0
    tracker.prompt(0, 1, mask=together)
    list(tracker.propagate())
    assert len(labelled) == 2
    assert labelled[1] == 0
    tracker.prompt(4, 1, mask=disk(30, 20))
    list(tracker.propagate())
    assert len(labelled) == 3


def test_clicks_add_up_and_boxes_replace_them(tracker):
    first = tracker.prompt(0, 1, points=[(30, 20)], labels=[1])
    more = tracker.prompt(0, 1, points=[(40, 10)], labels=[0], clear_old_points=False)
    assert first.masks.shape == more.masks.shape
    with pytest.raises(ValueError, match="clear_old_points"):
        tracker.prompt(0, 1, box=(10, 10, 40, 40), clear_old_points=False)


def test_objects_leave(tracker):
    tracker.prompt(0, 1, mask=disk(30, 20))
    tracker.prompt(0, 2, mask=disk(38, 12))
    tracker.remove(1)
    assert tracker.result(0).obj_ids == [2]
    with pytest.raises(ValueError, match="unknown"):
        tracker.remove(1)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"mask": np.ones((4, 4), bool)}, "the video is"),
        ({"points": [(1000, 10)], "labels": [1]}, "outside"),
        ({"points": [(10, 10)]}, "label"),
        ({}, "no prompt"),
        ({"box": (5, 5, 5, 9)}, "empty"),
    ],
)
def test_a_prompt_that_does_not_fit_leaves_nothing_behind(tracker, prompt, message):
    with pytest.raises(ValueError, match=message):
        tracker.prompt(0, 1, **prompt)
    assert tracker.obj_ids == []
    with pytest.raises(NothingToTrackError):
        next(tracker.propagate())


def test_frames_and_policies_that_do_not_exist(predictor, tracker):
    with pytest.raises(ValueError, match="no frame 8"):
        tracker.prompt(FRAMES, 1, mask=disk(30, 20))
    with open_video(clip(2)) as video, pytest.raises(ValueError, match="tree"):
        CloseTracker(predictor, video, policy="tree")
