"""Sessions that are saved, resumed after a kill, taken back, and shared between videos."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.memory import StorageOptions
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt, SessionFileError, StreamingTracker, VideoSession, saving


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames")
    for t, frame in enumerate(clip(30)):
        Image.fromarray(frame).save(path / f"{t:03d}.png")
    return path


def prompted(predictor: SAM2VideoPredictor, video: Any, **options: Any) -> VideoSession:
    state = predictor.init_state(video, **options)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    predictor.add_new_points_or_box(state, 3, "cup", points=[[30, 20]], labels=[1])  # type: ignore[arg-type]
    return state


# ---------------------------------------------------------------- save and load


@pytest.mark.parametrize("host_bytes", [0, 2**30])
def test_a_loaded_session_goes_on_bit_for_bit(
    predictor: SAM2VideoPredictor, folder: Path, tmp_path: Path, host_bytes: int
) -> None:
    storage = StorageOptions(host_bytes=host_bytes)
    state = prompted(predictor, str(folder), storage=storage)
    run(predictor, state, start_frame_idx=0)
    predictor.add_new_points_or_box(state, 10, 1, points=[[30, 10]], labels=[1])
    state.save(tmp_path / "one.sam2")
    loaded = VideoSession.load(tmp_path / "one.sam2", storage=storage)
    assert loaded["obj_ids"] == [1, "cup"]
    assert loaded["frames_tracked_per_obj"] == state["frames_tracked_per_obj"]
    assert set(loaded["temp_output_dict_per_obj"][0]["non_cond_frame_outputs"]) == {10}
    for options in ({"start_frame_idx": 11}, {"start_frame_idx": 20, "reverse": True}):
        assert farthest(run(predictor, state, **options), run(predictor, loaded, **options)) == 0.0
    loaded.save(tmp_path / "two.sam2")
    again = VideoSession.load(tmp_path / "two.sam2")
    assert farthest(run(predictor, again), run(predictor, state)) == 0.0


def test_a_stream_goes_on_from_a_file(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    video = clip(24)
    tracker = predictor.stream(max_cond_frames=3)
    asked = {0: [ObjectPrompt(1, mask=disk(20, 18))]}
    list(tracker.follow(video[:12], asked))
    tracker.session.save(tmp_path / "stream.sam2")
    session = VideoSession.load(tmp_path / "stream.sam2")
    resumed = predictor.stream(session=session)
    assert resumed.frame_idx == 11
    assert resumed.engine.policy(session).max_cond_frames == 3
    for frame in video[12:]:
        assert torch.equal(resumed.step(frame).logits, tracker.step(frame).logits)
    with pytest.raises(ValueError, match="belongs to a video"):
        StreamingTracker(predictor.engine, session=prompted(predictor, video))


def killed_while_saving(state: VideoSession, path: Path) -> None:
    def die(*_args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    saving.write_json = die
    state.save(path)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_saving_leaves_the_old_file(
    predictor: SAM2VideoPredictor, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "session.sam2"
    state = prompted(predictor, str(folder))
    run(predictor, state, max_frame_num_to_track=5)
    state.save(path)
    before = path.read_bytes()
    expected = run(predictor, state, start_frame_idx=6)
    child = multiprocessing.get_context("fork").Process(target=killed_while_saving, args=(state, path))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # the unfinished file lies beside it, under another name
    assert farthest(run(predictor, VideoSession.load(path), start_frame_idx=6), expected) == 0.0


def test_a_failing_save_leaves_the_old_file(
    predictor: SAM2VideoPredictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "session.sam2"
    state = prompted(predictor, str(folder))
    state.save(path)
    before = path.read_bytes()

    def full(*_args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(saving, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        state.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["session.sam2"]
    assert path.read_bytes() == before
    with pytest.raises(OSError, match=r".+"):
        state.save(tmp_path / "no" / "folder.sam2")


def test_files_that_hold_no_session(predictor: SAM2VideoPredictor, folder: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.sam2"
    state = prompted(predictor, str(folder))
    run(predictor, state, max_frame_num_to_track=3)
    state.save(good)
    data = good.read_bytes()
    bad = tmp_path / "bad.sam2"
    for content in (b"", b"nothing", data[:-40], data[: len(data) // 2]):
        bad.write_bytes(content)
        with pytest.raises(SessionFileError, match=r"bad\.sam2 holds no session"):
            VideoSession.load(bad)
    middle = data.index(b'"fields"') + 200
    bad.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    with pytest.raises(SessionFileError, match="damaged"):
        VideoSession.load(bad)
    with pytest.raises(FileNotFoundError):
        VideoSession.load(tmp_path / "missing.sam2")
    state.export_object(1, bad)
    with pytest.raises(SessionFileError, match="holds a object of version 2, not a session"):
        VideoSession.load(bad)


def test_the_video_must_be_the_same(predictor: SAM2VideoPredictor, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "session.sam2"
    prompted(predictor, clip(30)).save(path)
    with pytest.raises(ValueError, match="say video="):
        VideoSession.load(path)
    assert VideoSession.load(path, video=str(folder)).num_frames == 30
    with pytest.raises(ValueError, match=r"30 frames .* not to one of 7"):
        VideoSession.load(path, video=clip(7))


def test_ids_that_cannot_be_saved(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    state = predictor.init_state(clip(3))
    predictor.add_new_mask(state, 0, object(), disk(20, 18))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids must be numbers or text"):
        state.save(tmp_path / "x.sam2")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- undo


def test_undo_takes_back_prompts_one_by_one(predictor: SAM2VideoPredictor) -> None:
    video = clip(12)
    plain = predictor.init_state(video)
    predictor.add_new_points_or_box(plain, 0, 1, points=[[20, 15]], labels=[1])
    expected = run(predictor, plain)

    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, points=[[20, 15]], labels=[1])
    predictor.add_new_points_or_box(state, 0, 1, points=[[5, 5]], labels=[0], clear_old_points=False)
    predictor.add_new_mask(state, 4, 2, disk(9, 9))
    predictor.add_new_mask(state, 0, 1, disk(30, 20))
    assert state.undo() == (1, 0)
    assert state["point_inputs_per_obj"][0][0]["point_labels"].tolist() == [[1, 0]]
    assert state.undo() == (2, 4)
    assert state["obj_ids"] == [1]
    assert state.undo() == (1, 0)
    assert farthest(run(predictor, state), expected) == 0.0
    assert state.undo() == (1, 0)
    assert state["obj_ids"] == []
    with pytest.raises(ValueError, match="no prompt to take back"):
        state.undo()


def test_undo_of_a_correction_that_entered_memory(predictor: SAM2VideoPredictor) -> None:
    model = mini_predictor(add_all_frames_to_correct_as_cond=True)
    state = model.init_state(clip(12))
    model.add_new_mask(state, 0, 1, disk(20, 18))
    first = run(model, state)
    model.add_new_points_or_box(state, 4, 1, points=[[30, 10]], labels=[1])
    changed = run(model, state, start_frame_idx=4)
    assert farthest(changed, first) > 1e-3
    assert state.undo() == (1, 4)
    assert set(state["output_dict_per_obj"][0]["cond_frame_outputs"]) == {0}
    assert farthest(run(model, state), first) == 0.0


def test_a_removed_objects_prompts_cannot_be_taken_back(predictor: SAM2VideoPredictor) -> None:
    state = prompted(predictor, clip(8))
    predictor.remove_object(state, 1)
    assert state.undo() == ("cup", 3)
    with pytest.raises(ValueError, match="no prompt to take back"):
        state.undo()


def test_a_failure_within_a_prompt_changes_nothing(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = prompted(predictor, clip(8))

    def fail(*_args: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(predictor, "step", fail)
        for obj_id in (1, 5):
            with pytest.raises(MemoryError):
                predictor.add_new_points_or_box(state, 0, obj_id, points=[[3, 3]], labels=[1])
    assert state["obj_ids"] == [1, "cup"]
    assert state["point_inputs_per_obj"][0] == {}
    assert set(state["mask_inputs_per_obj"][0]) == {0}


# ---------------------------------------------------------------- memory of an object elsewhere


def test_an_object_is_found_by_memory_from_another_video(
    predictor: SAM2VideoPredictor, tmp_path: Path
) -> None:
    video = clip(10)
    one = prompted(predictor, video)
    path = tmp_path / "cup.object"
    with pytest.raises(ValueError, match="no memory to export"):
        one.export_object(1, path)
    whole = run(predictor, one)
    one.export_object(1, path)

    other = predictor.init_state(video)
    other.import_object(path, 9)
    found = run(predictor, other)
    assert list(found) == list(range(10))
    assert bool((found[5][9] > 0).any())
    predictor.add_new_mask(other, 6, 3, disk(30, 18))
    assert list(run(predictor, other, start_frame_idx=6)[7]) == [9, 3]
    other.import_object(path, 9)
    assert set(other.tracks[9].bank.conditioning) == {-1, -2}
    other.save(tmp_path / "other.sam2")
    loaded = VideoSession.load(tmp_path / "other.sam2", video=video)
    assert farthest(run(predictor, loaded), run(predictor, other)) == 0.0
    assert whole[9][1].shape == found[9][9].shape

    tracker = predictor.stream()
    tracker.push(video[0])
    tracker.session.import_object(path, 4)
    assert tracker.step(video[1]).obj_ids == [4]


def test_memories_of_another_model_are_refused(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    path = tmp_path / "one.object"
    state = prompted(predictor, clip(4))
    run(predictor, state)
    state.export_object(1, path)
    larger = mini_predictor(image_size=128)
    other = larger.init_state(clip(4))
    with pytest.raises(ValueError, match="of 64 px, this one has 128 px"):
        other.import_object(path, 1)
    assert other["obj_ids"] == []
    path.write_bytes(b"")
    with pytest.raises(SessionFileError, match="holds no object"):
        state.import_object(path, 7)


# ---------------------------------------------------------------- threads


def test_threads_on_one_session_take_turns(predictor: SAM2VideoPredictor) -> None:
    state = prompted(predictor, clip(20))
    failures: list[BaseException] = []

    def prompt() -> None:
        try:
            for i in range(10):
                predictor.add_new_mask(state, i, 10 + i, disk(20, 18))
                predictor.remove_object(state, 10 + i)
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=prompt)
    worker.start()
    found = run(predictor, state, start_frame_idx=0)
    worker.join()
    assert failures == []
    assert len(found) == 20
    assert state["obj_ids"] == [1, "cup"]
