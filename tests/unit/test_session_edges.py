"""What happens at the edges of sessions: prompts in the midst of a pass, shared readers, ends of a video."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tracking_helpers import clip, disk, mini_predictor, run
from video_samples import encode

from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt, VideoSession
from sam2.video import VideoReader, open_video


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sam2-read")]


@pytest.mark.parametrize("reverse", [False, True])
def test_reading_ahead_gives_the_same_bits_from_a_file(
    predictor: SAM2VideoPredictor, tmp_path: Path, reverse: bool
) -> None:
    path = encode(tmp_path / "v.mp4", clip(18), options={"g": "6", "bf": "2"})
    found = []
    for ahead in (0, 4):
        with predictor.init_state(path) as state:
            state.images.read_ahead = ahead  # type: ignore[attr-defined]
            predictor.add_new_mask(state, 9, 1, disk(20, 18))
            found.append(run(predictor, state, reverse=reverse))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][f][1], found[1][f][1]) for f in found[0])


def test_encoded_frames_are_not_read_again(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(8))
    asked: list[int] = []
    read = state.images._read  # type: ignore[attr-defined]
    state.images._read = lambda i: asked.append(i) or read(i)  # type: ignore[attr-defined]
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    first = run(predictor, state)
    assert asked == list(range(1, 8))  # 0 was encoded when the video was opened
    second = run(predictor, state)
    assert asked == list(range(1, 8))
    assert torch.equal(first[7][1], second[7][1])


def test_a_pass_that_is_left_ends_its_threads(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(12))
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    results = predictor.propagate_in_video(state)
    next(results)
    assert reading()
    results.close()  # type: ignore[attr-defined]
    assert not reading()


def test_an_object_prompted_in_the_midst_of_a_pass_is_tracked_from_there(
    predictor: SAM2VideoPredictor,
) -> None:
    frames = clip(18)
    state = predictor.init_state(frames)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    found = {}
    for frame_idx, ids, logits in predictor.propagate_in_video(state):
        found[frame_idx] = dict(zip(ids, logits.clone(), strict=True))
        if frame_idx == 3:
            predictor.add_new_mask(state, 3, 2, disk(34, 10))
        if frame_idx == 9:
            predictor.remove_object(state, 1)
    assert list(found[3]) == [1]
    assert list(found[4]) == [1, 2]
    assert list(found[10]) == [2]

    alone = predictor.init_state(frames)
    predictor.add_new_mask(alone, 3, 2, disk(34, 10))
    expected = run(predictor, alone)
    assert all(torch.equal(found[f][2], expected[f][2]) for f in range(4, 18))


def test_removing_the_last_object_in_the_midst_of_a_pass(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(6))
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    seen = []
    for frame_idx, ids, logits in predictor.propagate_in_video(state):
        seen.append((frame_idx, len(ids), logits.shape[0]))
        if frame_idx == 2:
            predictor.remove_object(state, 1)
    assert seen == [(0, 1, 1), (1, 1, 1), (2, 1, 1), (3, 0, 0), (4, 0, 0), (5, 0, 0)]


def test_the_ends_of_a_video(predictor: SAM2VideoPredictor) -> None:
    one = predictor.init_state(clip(1))
    predictor.add_new_mask(one, 0, 1, disk(20, 18))
    assert list(run(predictor, one)) == [0]
    assert list(run(predictor, one, reverse=True)) == []
    state = predictor.init_state(clip(5))
    predictor.add_new_mask(state, 4, 1, disk(20, 18))
    assert list(run(predictor, state, start_frame_idx=4)) == [4]
    assert list(run(predictor, state)) == [4]
    assert list(run(predictor, state, reverse=True)) == [4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="frame 5 is out of range"):
        run(predictor, state, start_frame_idx=5)


def test_a_failing_frame_ends_the_pass_there_and_it_can_go_on(predictor: SAM2VideoPredictor) -> None:
    frames = clip(8)
    whole = predictor.init_state(frames)
    predictor.add_new_mask(whole, 0, 1, disk(20, 18))
    expected = run(predictor, whole)

    state = predictor.init_state(frames)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    reader = state.images.reader  # type: ignore[attr-defined]
    load, broken = reader._load, True

    def failing(index: int) -> np.ndarray:
        if index == 4 and broken:
            raise OSError("the disk is gone")
        return load(index)

    reader._load = failing
    with pytest.raises(OSError, match="the disk is gone"):
        run(predictor, state)
    assert not reading()
    assert sorted(state.tracks[1].found) == [0, 1, 2, 3]
    broken = False
    found = run(predictor, state, start_frame_idx=4)
    assert all(torch.equal(found[f][1], expected[f][1]) for f in range(4, 8))


def test_two_sessions_share_a_reader_that_is_the_callers(
    predictor: SAM2VideoPredictor, tmp_path: Path
) -> None:
    path = encode(tmp_path / "v.mp4", clip(12), options={"g": "5"})

    def started(source: VideoReader | Path) -> VideoSession:
        state = predictor.init_state(source)
        predictor.add_new_mask(state, 0, 1, disk(20, 18))
        return state

    expected = run(predictor, started(path))
    with open_video(path) as reader:
        one, other = started(reader), started(reader)
        pairs = zip(predictor.propagate_in_video(one), predictor.propagate_in_video(other), strict=True)
        for (frame, _, masks), (_, _, same) in pairs:
            assert torch.equal(masks[0], expected[frame][1])
            assert torch.equal(same[0], expected[frame][1])
        one.close()
        assert reader[11].shape == (36, 48, 3)
        assert len(run(predictor, other)) == 12


def test_a_stream_from_a_file_goes_on_forgetting(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    frames = clip(30)
    with predictor.stream() as tracker:
        tracker.step(frames[0], [ObjectPrompt(1, mask=disk(20, 18))])
        tracker.session.save(tmp_path / "s.sam2")
    with predictor.stream(session=VideoSession.load(tmp_path / "s.sam2")) as tracker:
        for frame in frames[1:]:
            tracker.step(frame)
        session = tracker.session
        assert len(session.tracks[1].found) <= 18
        assert session.archive.host_nbytes == session.archive.file_nbytes == 0
        assert len(session.features) == 1


def test_following_an_open_video_gives_its_times(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", clip(5), seconds=[0, 0.04, 0.3, 0.34, 1.0])
    asked = {0: [ObjectPrompt(1, mask=disk(20, 18))]}
    with open_video(path) as reader:
        found = list(predictor.stream().follow(reader, asked))
        expected = [predictor.stream().step(reader[0], asked[0])]
    assert [r.timestamp for r in found] == pytest.approx([0, 0.04, 0.3, 0.34, 1.0], abs=1e-3)
    assert torch.equal(found[0].logits, expected[0].logits)
    assert not reading()


def test_a_stream_forgets_imported_memories_like_others(
    predictor: SAM2VideoPredictor, tmp_path: Path
) -> None:
    frames = clip(24)
    state = predictor.init_state(frames[:6])
    for frame in range(5):
        predictor.add_new_mask(state, frame, 1, disk(20, 18))
    predictor.propagate_in_video_preflight(state)
    state.export_object(1, tmp_path / "object")
    with predictor.stream(max_cond_frames=2) as tracker:
        tracker.push(frames[0])
        tracker.session.import_object(tmp_path / "object", 1)
        for frame in frames[1:]:
            tracker.step(frame)
        track = tracker.session.tracks[1]
        assert sorted(track.bank.conditioning) == [-2, -1]
        assert 23 not in track.dropped
