"""The published video predictor: return types, ranges and users' errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tracking_helpers import HEIGHT, WIDTH, clip, disk, mini_predictor, run

from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import VideoSession


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


@pytest.fixture
def state(predictor: SAM2VideoPredictor) -> VideoSession:
    return predictor.init_state(clip(10))


def test_prompts_return_frame_ids_and_logits(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    frame_idx, ids, logits = predictor.add_new_points_or_box(
        state, frame_idx=3, obj_id=7, points=np.array([[20, 10]], np.float32), labels=np.array([1], np.int32)
    )
    assert (frame_idx, ids) == (3, [7])
    assert logits.shape == (1, 1, HEIGHT, WIDTH)
    assert logits.dtype == torch.float32
    frame_idx, ids, logits = predictor.add_new_mask(state, frame_idx=0, obj_id=2, mask=disk(20, 18))
    assert (frame_idx, ids) == (0, [7, 2])
    assert logits.shape == (2, 1, HEIGHT, WIDTH)
    assert bool((logits[0] < 0).all())  # not seen on this frame yet


def test_propagation_yields_the_same(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_mask(state, 0, 2, disk(20, 18))
    for expected, (frame_idx, ids, logits) in enumerate(predictor.propagate_in_video(state)):
        assert (frame_idx, ids) == (expected, [2])
        assert logits.shape == (1, 1, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(4, 10)),
        ({"start_frame_idx": 0}, range(10)),
        ({"max_frame_num_to_track": 0}, [4]),
        ({"max_frame_num_to_track": 3}, [4, 5, 6, 7]),
        ({"max_frame_num_to_track": 100}, range(4, 10)),
        ({"reverse": True}, range(4, -1, -1)),
        ({"reverse": True, "max_frame_num_to_track": 2}, [4, 3, 2]),
        ({"reverse": True, "start_frame_idx": 9, "max_frame_num_to_track": 1}, [9, 8]),
        ({"reverse": True, "start_frame_idx": 0}, []),
        ({"start_frame_idx": 9}, [9]),
    ],
)
def test_which_frames_are_tracked(
    predictor: SAM2VideoPredictor, state: VideoSession, options: dict[str, Any], expected: Any
) -> None:
    predictor.add_new_mask(state, 4, 1, disk(20, 18))
    assert list(run(predictor, state, **options)) == list(expected)


def test_objects_may_come_after_tracking(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    run(predictor, state)
    _, ids, _ = predictor.add_new_mask(state, 5, 2, disk(30, 18))
    assert ids == [1, 2]
    assert list(run(predictor, state, start_frame_idx=5)[7]) == [1, 2]


def test_removing_an_object(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    for obj_id, frame in ((1, 0), (2, 3), (3, 3)):
        predictor.add_new_mask(state, frame, obj_id, disk(20, 18))
    run(predictor, state)
    ids, updated = predictor.remove_object(state, 2)
    assert ids == [1, 3]
    assert [frame for frame, _ in updated] == [3]
    assert updated[0][1].shape == (2, 1, HEIGHT, WIDTH)
    assert predictor.remove_object(state, 2) == ([1, 3], [])
    with pytest.raises(ValueError, match=r"2 is unknown.*1, 3"):
        predictor.remove_object(state, 2, strict=True)
    assert predictor.remove_object(state, 1, need_output=False) == ([3], [])
    assert predictor.remove_object(state, 3) == ([], [])
    with pytest.raises(RuntimeError, match="prompt an object"):
        run(predictor, state)
    predictor.add_new_mask(state, 0, 9, disk(20, 18))
    assert len(run(predictor, state)) == 10


def test_reset_forgets_objects_and_keeps_the_video(
    predictor: SAM2VideoPredictor, state: VideoSession
) -> None:
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    before = run(predictor, state)
    predictor.reset_state(state)
    assert state["obj_ids"] == []
    predictor.add_new_mask(state, 0, 4, disk(20, 18))
    after = run(predictor, state)
    assert torch.equal(before[9][1], after[9][4])


def test_clearing_a_frames_prompts(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    predictor.add_new_mask(state, 3, 1, disk(30, 18))
    run(predictor, state)
    cleared = predictor.clear_all_prompts_in_frame(state, 3, 1)
    assert cleared is not None
    assert cleared[:2] == (3, [1])
    assert set(state["output_dict_per_obj"][0]["cond_frame_outputs"]) == {0}
    assert predictor.clear_all_prompts_in_frame(state, 0, 1, need_output=False) is None
    with pytest.raises(ValueError, match="object 1 has no prompt left"):
        run(predictor, state)


def test_the_older_name_does_the_same(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_points(state, 0, 1, [[20, 10]], [1])
    _, _, logits = predictor.add_new_points_or_box(state, 0, 2, [[20, 10]], [1])
    assert torch.equal(logits[0], logits[1])


def test_shares_of_the_size_instead_of_pixels(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_points_or_box(state, 0, 1, [[24, 9]], [1])
    _, _, logits = predictor.add_new_points_or_box(state, 0, 2, [[0.5, 0.25]], [1], normalize_coords=False)
    assert torch.equal(logits[0], logits[1])


def test_a_box_with_points(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[0], box=[4, 4, 30, 30])
    assert state["point_inputs_per_obj"][0][0]["point_labels"].tolist() == [[2, 3, 0]]


def test_image_features_in_the_published_layout(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    image, backbone, features, encodings, sizes = predictor._get_image_feature(state, 0, 2)
    assert image.shape == (2, 3, 64, 64)
    assert len(backbone["backbone_fpn"]) == 3
    assert [f.shape for f in features] == [(256, 2, 4), (64, 2, 8), (16, 2, 32)]
    assert encodings[-1].shape == (16, 2, 32)
    assert sizes == [(16, 16), (8, 8), (4, 4)]


POINTS = {"points": [[20, 10]], "labels": [1]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no prompt"),
        ({"points": [[20, 10]]}, "belong together"),
        ({"labels": [1]}, "no prompt"),
        ({"points": [[20, 10]], "labels": [1, 1]}, "do not fit"),
        ({"points": [[20, 10], [3, 4]], "labels": [1]}, "do not fit"),
        ({"points": [[20, 10, 3]], "labels": [1]}, "do not fit"),
        ({"points": [], "labels": []}, "do not fit"),
        ({"points": 3, "labels": [1]}, "do not fit"),
        ({"points": [[1, 2], [3]], "labels": [1, 1]}, "points must be numbers"),
        ({"points": [["a", "b"]], "labels": [1]}, "points must be numbers"),
        ({"points": [[20, 10]], "labels": [5]}, r"labels are \[5"),
        ({"points": [[20, 10]], "labels": [-1]}, "labels are"),
        ({"points": [[math.nan, 10]], "labels": [1]}, "finite"),
        ({"points": [[math.inf, 10]], "labels": [1]}, "finite"),
        (
            {"points": [[WIDTH + 1, 10]], "labels": [1]},
            r"\(49, 10\) lies outside the video, which is 48 x 36",
        ),
        ({"points": [[20, -1]], "labels": [1]}, "outside"),
        ({"points": [[0.5, 1.5]], "labels": [1], "normalize_coords": False}, "outside"),
        ({"box": [4, 4, 30]}, "give x0, y0, x1, y1"),
        ({"box": [30, 4, 30, 20]}, "empty"),
        ({"box": [30, 4, 10, 20]}, "empty"),
        ({"box": [4, 4, math.nan, 20]}, "finite"),
        ({"box": [4, 4, 30, 20], "clear_old_points": False}, "clear_old_points=True"),
        ({**POINTS, "frame_idx": 10}, "frames 0 to 9"),
        ({**POINTS, "frame_idx": -1}, "frame -1 is out of range"),
    ],
)
def test_prompts_that_cannot_be_meant(
    predictor: SAM2VideoPredictor, state: VideoSession, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.add_new_points_or_box(state, **{"frame_idx": 0, "obj_id": 1, **options})
    assert state["obj_ids"] == []


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((WIDTH, HEIGHT), bool), r"the mask is \(48, 36\), but the video is \(36, 48\)"),
        (np.zeros((1, HEIGHT, WIDTH), bool), "but the video is"),
        (np.full((HEIGHT, WIDTH), 255, np.uint8), "1 and 0"),
        (np.full((HEIGHT, WIDTH), 0.3), "1 and 0"),
        (np.full((HEIGHT, WIDTH), math.nan), "1 and 0"),
    ],
)
def test_masks_that_cannot_be_meant(
    predictor: SAM2VideoPredictor, state: VideoSession, mask: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.add_new_mask(state, 0, 1, mask)
    assert state["obj_ids"] == []


def test_other_mistakes(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    with pytest.raises(ValueError, match="nothing to track"):
        run(predictor, state)
    with pytest.raises(ValueError, match="object id 4 is unknown; objects of this video: none yet"):
        predictor.clear_all_prompts_in_frame(state, 0, 4)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    with pytest.raises(ValueError, match="frames 0 to 9"):
        run(predictor, state, start_frame_idx=10)
    with pytest.raises(ValueError, match="frame 77 is out of range"):
        predictor.clear_all_prompts_in_frame(state, 77, 1)
    with pytest.raises(ValueError, match="-2"):
        run(predictor, state, max_frame_num_to_track=-2)


def test_a_refused_prompt_changes_nothing(predictor: SAM2VideoPredictor, state: VideoSession) -> None:
    predictor.add_new_points_or_box(state, 0, 1, **POINTS)
    with pytest.raises(ValueError, match="outside"):
        predictor.add_new_points_or_box(state, 0, 1, points=[[99, 99]], labels=[1])
    assert state["point_inputs_per_obj"][0][0]["point_labels"].tolist() == [[1]]


@pytest.mark.parametrize("source", ["no/such/file.mp4", b"", [], 7])
def test_what_is_no_video(predictor: SAM2VideoPredictor, source: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        predictor.init_state(source)
