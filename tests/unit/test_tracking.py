"""The tracking engine: batches, prompts at any time, sessions."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tracking_helpers import HEIGHT, WIDTH, clip, disk, farthest, mini_predictor, run

from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import TrackingEngine, VideoSession
from sam2.utils import misc


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


def prompt_several(predictor: SAM2VideoPredictor, state: VideoSession, ids: list[int]) -> None:
    """Objects prompted on frames 0, 2 and 5, so that their memories differ in shape."""
    for i in ids:
        if i % 3 == 0:
            predictor.add_new_points_or_box(state, 0, i, points=[[8 + i, 15]], labels=[1])
        elif i % 3 == 1:
            predictor.add_new_mask(state, 2, i, disk(10 + i, 20))
        else:
            predictor.add_new_points_or_box(state, 5, i, box=[4 + i, 5, 30 + i, 25])


def test_a_batch_equals_the_loop(predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = list(range(9))
    video = clip(20)
    found = {}
    sizes: list[int] = []
    step = predictor.step

    def counting(features, selections=None, *args, **kwargs):  # type: ignore[no-untyped-def]
        sizes.append(len(selections or [None]))
        return step(features, selections, *args, **kwargs)

    monkeypatch.setattr(predictor, "step", counting)
    for limit in (1, 2, 16):
        monkeypatch.setattr(
            SAM2VideoPredictor, "engine", property(lambda p, n=limit: TrackingEngine(p, max_batch=n))
        )
        state = predictor.init_state(video)
        prompt_several(predictor, state, ids)
        sizes.clear()
        found[limit] = run(predictor, state, start_frame_idx=0)
        assert max(sizes) == min(limit, len(ids))
    assert farthest(found[1], found[16]) < 1e-4
    assert farthest(found[1], found[2]) < 1e-4


def test_a_frame_that_a_review_rejects_is_not_remembered_from_an_earlier_pass(
    predictor: SAM2VideoPredictor,
) -> None:
    state = predictor.init_state(clip(4))
    predictor.add_new_mask(state, 0, 1, disk(30, 20))
    run(predictor, state)
    bank = state.tracks[1].bank
    assert sorted(bank.recent) == [1, 2, 3]
    state.review = lambda tracks, out: (out, [False])
    run(predictor, state)
    assert sorted(bank.recent) == []


def test_an_object_is_tracked_alike_alone_and_in_company(predictor: SAM2VideoPredictor) -> None:
    video = clip(10)
    together = predictor.init_state(video)
    prompt_several(predictor, together, [0, 1, 2, 3])
    among = run(predictor, together, start_frame_idx=0)
    for i in (0, 1, 2):
        alone = predictor.init_state(video)
        prompt_several(predictor, alone, [i])
        assert farthest(run(predictor, alone, start_frame_idx=0), among, ids=[i]) < 1e-4


def test_adding_and_removing_leaves_the_others_alone(predictor: SAM2VideoPredictor) -> None:
    video = clip(12)
    plain = predictor.init_state(video)
    prompt_several(predictor, plain, [0, 3])
    run(predictor, plain, max_frame_num_to_track=5)
    expected = run(predictor, plain, start_frame_idx=6)

    busy = predictor.init_state(video)
    prompt_several(predictor, busy, [0, 3, 6])
    run(predictor, busy, max_frame_num_to_track=5)
    predictor.remove_object(busy, 6)
    predictor.add_new_mask(busy, 4, 50, disk(20, 18))
    found = run(predictor, busy, start_frame_idx=6)
    assert list(found[6]) == [0, 3, 50]
    assert farthest(found, expected, ids=[0, 3]) < 1e-4


def test_an_object_prompted_later_only(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(8))
    predictor.add_new_mask(state, 5, 1, disk(20, 18))
    assert list(run(predictor, state)) == [5, 6, 7]
    found = run(predictor, state, start_frame_idx=0)
    assert list(found) == list(range(8))
    assert all(bool(masks[1].isfinite().all()) for masks in found.values())


def test_a_correction_changes_what_follows_and_a_second_one_builds_on_it(
    predictor: SAM2VideoPredictor,
) -> None:
    video = clip(10)
    state = predictor.init_state(video)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    first = run(predictor, state)
    _, _, corrected = predictor.add_new_points_or_box(state, 4, 1, points=[[30, 10]], labels=[1])
    assert float((corrected[0] - first[4][1]).abs().max()) > 1e-3
    second = run(predictor, state, start_frame_idx=5)
    assert list(state["point_inputs_per_obj"][0]) == [4]
    assert farthest(first, second, frames=range(5, 10)) > 1e-3

    conditioning = mini_predictor(add_all_frames_to_correct_as_cond=True)
    state = conditioning.init_state(video)
    conditioning.add_new_mask(state, 0, 1, disk(20, 18))
    run(conditioning, state)
    _, _, corrected = conditioning.add_new_points_or_box(state, 4, 1, points=[[30, 10]], labels=[1])
    again = run(conditioning, state, start_frame_idx=4)
    assert torch.equal(again[4][1], corrected[0])
    assert set(state["output_dict_per_obj"][0]["cond_frame_outputs"]) == {0, 4}


def test_old_points_stay_where_asked(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(2))
    predictor.add_new_points_or_box(state, 0, 1, points=[[20, 10]], labels=[1])
    predictor.add_new_points_or_box(state, 0, 1, points=[[5, 5]], labels=[0], clear_old_points=False)
    assert state["point_inputs_per_obj"][0][0]["point_labels"].tolist() == [[1, 0]]
    predictor.add_new_points_or_box(state, 0, 1, points=[[5, 5]], labels=[1])
    assert state["point_inputs_per_obj"][0][0]["point_labels"].tolist() == [[1]]


def test_prompted_frames_keep_their_masks(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(6))
    _, _, given = predictor.add_new_mask(state, 3, 1, disk(20, 18))
    found = run(predictor, state, start_frame_idx=0)
    assert torch.equal(found[3][1], given[0])


def test_frames_where_nothing_is_present(tmp_path: Path) -> None:
    """A frame without an object has the pointer of no object; float32 all through."""
    absent = mini_predictor(presence=-100.0)
    state = absent.init_state(clip(6))
    absent.add_new_mask(state, 2, 1, disk(20, 18))
    found = run(absent, state, start_frame_idx=0)
    assert bool((found[4][1] < 0).all())
    assert found[4][1].dtype == torch.float32
    for options in ({"use_obj_ptrs_in_encoder": False, "fixed_no_obj_ptr": False}, {"num_maskmem": 0}):
        model = mini_predictor(presence=-100.0, **options)
        state = model.init_state(clip(4))
        model.add_new_mask(state, 1, 1, disk(20, 18))
        assert len(run(model, state, start_frame_idx=0)) == 4


def test_a_frame_without_any_memory_is_segmented(predictor: SAM2VideoPredictor) -> None:
    """Every pointer lies ahead and no frame conditions at a distance that is read."""
    model = mini_predictor(max_obj_ptrs_in_encoder=2)
    state = model.init_state(clip(9))
    model.add_new_mask(state, 8, 1, disk(20, 18))
    run(model, state, start_frame_idx=0)
    track = state.tracks[1]
    track.bank.release(8)
    with torch.inference_mode():
        result = model.engine.track_frame(state, 0, reverse=False)
    assert bool(result.logits.isfinite().all())


def test_memory_near_a_prompt_is_forgotten_on_request() -> None:
    model = mini_predictor(clear_non_cond_mem_around_input=True)
    state = model.init_state(clip(20))
    model.add_new_mask(state, 0, 1, disk(20, 18))
    run(model, state)
    assert set(state.tracks[1].bank.recent) == set(range(1, 20))
    model.add_new_points_or_box(state, 12, 1, points=[[20, 18]], labels=[1])
    model.propagate_in_video_preflight(state)
    assert set(state.tracks[1].bank.recent) == {*range(1, 5), 12}
    assert len(run(model, state, start_frame_idx=12)) == 8


def test_results_report_iou_and_presence(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(3))
    prompt_several(predictor, state, [0, 3])
    for result in predictor.propagate(state):
        assert result.predicted_iou.shape == result.object_score_logits.shape == (2,)
        assert bool(((result.predicted_iou >= 0) & (result.predicted_iou <= 1)).all())
        assert result.masks.shape == (2, HEIGHT, WIDTH)
        assert result.masks.dtype == torch.bool
        assert torch.equal(result.masks, result.logits[:, 0] > 0)


def test_each_pixel_belongs_to_one_object_on_request() -> None:
    model = mini_predictor(non_overlap_masks=True)
    state = model.init_state(clip(4))
    model.add_new_mask(state, 0, 1, disk(20, 18))
    _, _, logits = model.add_new_mask(state, 0, 2, disk(24, 18))
    assert int((logits > 0).sum(0).max()) == 1
    for _, _, logits in model.propagate_in_video(state):
        assert int((logits > 0).sum(0).max()) <= 1


# ---------------------------------------------------------------- sessions


def test_features_are_encoded_once_a_frame(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = predictor.encode_image
    monkeypatch.setattr(predictor, "encode_image", lambda x: calls.append(1) or encode(x))
    state = predictor.init_state(clip(6))
    prompt_several(predictor, state, [0, 3])
    assert len(calls) == 1
    run(predictor, state)
    assert len(calls) == 6


def test_a_session_survives_pickling_midway(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    from PIL import Image

    for t, frame in enumerate(clip(8)):
        Image.fromarray(frame).save(tmp_path / f"{t}.png")
    state = predictor.init_state(str(tmp_path))
    prompt_several(predictor, state, [0, 1])
    run(predictor, state, start_frame_idx=0, max_frame_num_to_track=3)
    copy = pickle.loads(pickle.dumps(state))
    assert farthest(run(predictor, copy, start_frame_idx=4), run(predictor, state, start_frame_idx=4)) == 0.0


def test_closing_lets_the_video_go(predictor: SAM2VideoPredictor) -> None:
    with predictor.init_state(clip(3)) as state:
        prompt_several(predictor, state, [0])
        run(predictor, state, max_frame_num_to_track=0)
    with pytest.raises(ValueError, match="closed"):
        run(predictor, state)


def test_state_may_stay_off_the_device(predictor: SAM2VideoPredictor) -> None:
    found = {}
    for offload in (False, True):
        state = predictor.init_state(clip(8), offload_video_to_cpu=offload, offload_state_to_cpu=offload)
        prompt_several(predictor, state, [0, 1])
        found[offload] = run(predictor, state, start_frame_idx=0)
        assert state["storage_device"] == torch.device("cpu")
    assert farthest(found[False], found[True]) == 0.0


def test_the_loader_is_looked_up_when_it_is_called(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def replaced(**kwargs):  # type: ignore[no-untyped-def]
        seen.update(kwargs)
        return torch.zeros(4, 3, kwargs["image_size"], kwargs["image_size"]), HEIGHT, WIDTH

    monkeypatch.setattr(misc, "load_video_frames", replaced)
    state = predictor.init_state("anything")
    assert seen["video_path"] == "anything"
    assert seen["image_size"] == predictor.image_size
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    assert len(run(predictor, state)) == 4


def test_published_keys_can_be_read(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(5))
    prompt_several(predictor, state, [3, 1])
    run(predictor, state, start_frame_idx=0)
    assert state["obj_ids"] == [3, 1]
    assert state["num_frames"] == 5
    assert (state["video_height"], state["video_width"]) == (HEIGHT, WIDTH)
    assert dict(state["obj_id_to_idx"]) == {3: 0, 1: 1}
    assert dict(state["obj_idx_to_id"]) == {0: 3, 1: 1}
    assert state["images"][0].shape == (3, 64, 64)
    assert list(state["mask_inputs_per_obj"][1]) == [2]
    outputs = state["output_dict_per_obj"][0]
    assert set(outputs["cond_frame_outputs"]) == {0}
    one = outputs["non_cond_frame_outputs"][2]
    assert one["pred_masks"].shape == (1, 1, 16, 16)
    assert one["maskmem_features"].dtype == torch.bfloat16
    assert one["obj_ptr"].shape == (1, 32)
    assert state["frames_tracked_per_obj"][0][4] == {"reverse": False}
    predictor.add_new_points_or_box(state, 3, 3, points=[[20, 10]], labels=[1])
    assert set(state["temp_output_dict_per_obj"][0]["non_cond_frame_outputs"]) == {3}
    assert "obj_ids" in state
    assert set(state) == set(state.keys())
    assert state.get("nothing") is None
    with pytest.raises(KeyError, match="obj_ids"):
        state["nothing"]


def test_masks_given_as_tensors_and_integers(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(2))
    mask = disk(20, 18)
    results = [
        predictor.add_new_mask(state, 0, i, given)[2][i]
        for i, given in enumerate([mask, mask.astype(np.uint8), torch.from_numpy(mask).float()])
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
