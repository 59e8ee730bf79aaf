"""What is kept of the past: exact, bounded, and honest about what a failing disk lost."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tracking_helpers import Disk, clip, disk, farthest, mini_predictor, run

from sam2.memory import Archive, FrameMarks, HistoryLostError, MemoryEntry, Shelf, StorageOptions
from sam2.memory.records import RecordError, pack, unpack
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt, VideoSession

# ---------------------------------------------------------------- records


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.bool, torch.uint8, torch.int64]
)
def test_records_are_exact(dtype: torch.dtype) -> None:
    given_bytes = torch.from_numpy(np.arange(240, dtype=np.uint8))
    flat = given_bytes % 2 == 1 if dtype == torch.bool else given_bytes.view(dtype)
    values, tensors = unpack(pack({"frame": 7, "name": "x"}, [flat.reshape(2, -1), None, flat[:0]]))
    assert values == {"frame": 7, "name": "x"}
    assert tensors[1] is None
    assert tensors[0] is not None
    assert tensors[0].dtype == dtype
    assert tensors[0].shape == flat.reshape(2, -1).shape
    assert tensors[0].reshape(-1).view(torch.uint8).equal(flat.view(torch.uint8))
    assert tensors[2] is not None
    assert tensors[2].numel() == 0


@given(data=st.binary(max_size=60))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        unpack(data)


@given(cut=st.integers(1, 30))
def test_cut_records_are_refused(cut: int) -> None:
    record = pack({}, [torch.arange(4.0)])
    with pytest.raises(RecordError):
        unpack(record[:-cut])


# ---------------------------------------------------------------- the archive

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "drop", "get"]), st.integers(0, 9), st.integers(0, 40)), max_size=60
)


@given(steps=STEPS, host=st.sampled_from([0, 50, 10_000]))
def test_the_archive_equals_a_dictionary(steps: list[tuple[str, int, int]], host: int) -> None:
    archive = Archive(StorageOptions(host_bytes=host))
    twin: dict[int, bytes] = {}
    try:
        for step, (what, key, size) in enumerate(steps):
            if what == "put":
                record = bytes([step % 256]) * size
                twin[archive.put(record)] = record
            elif twin:
                address = list(twin)[key % len(twin)]
                if what == "drop":
                    archive.drop(address)
                    del twin[address]
            assert {address: archive.get(address) for address in twin} == twin
            assert archive.host_nbytes <= host
    finally:
        archive.close()


def test_freed_room_is_used_again() -> None:
    archive = Archive(StorageOptions(host_bytes=0))
    for _ in range(50):
        addresses = [archive.put(bytes(100)) for _ in range(4)]
        size = archive.file_nbytes
        for address in addresses:
            archive.drop(address)
    assert archive.file_nbytes == size
    archive.close()
    assert archive.file_nbytes == 0


def test_a_full_disk_loses_records_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch)
    archive = Archive(StorageOptions(host_bytes=25))
    first = archive.put(b"a" * 20)
    kept = archive.put(b"b" * 20)
    assert archive.get(kept) == b"b" * 20
    with pytest.raises(HistoryLostError, match="No space left on device"):
        archive.get(first)
    archive.drop(first)
    disk.full = False
    later = archive.put(b"d" * 20)
    archive.put(b"e" * 20)
    assert archive.get(kept) == b"b" * 20
    assert archive.get(later) == b"d" * 20
    archive.close()


def test_what_a_full_disk_refused_is_never_taken_for_what_lay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch, full=False)
    archive = Archive(StorageOptions(host_bytes=0))
    address = archive.put(b"old")
    archive.drop(address)
    disk.full = True
    assert archive.put(b"new") == address
    with pytest.raises(HistoryLostError, match="No space left"):
        archive.get(address)
    disk.full = False
    archive.drop(address)
    again = archive.put(b"few")
    assert archive.get(again) == b"few"
    archive.close()


def test_a_damaged_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch, full=False)
    archive = Archive(StorageOptions(host_bytes=0))
    one, two = archive.put(b"x" * 500), archive.put(b"y" * 500)
    with disk.path.open("r+b") as file:
        file.seek(one + 100)
        file.write(b"?")
        file.flush()
        with pytest.raises(HistoryLostError, match="changed or cut"):
            archive.get(one)
        assert archive.get(two) == b"y" * 500
        file.truncate(two + 100)
    with pytest.raises(HistoryLostError, match="changed or cut"):
        archive.get(two)
    archive.close()


def test_threads_share_an_archive() -> None:
    archive = Archive(StorageOptions(host_bytes=200))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(200):
                record = bytes([number, i]) * 20
                address = archive.put(record)
                assert archive.get(address) == record
                archive.drop(address)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    archive.close()


def test_the_file_keeps_to_its_budget() -> None:
    archive = Archive(StorageOptions(host_bytes=0, file_bytes=300))
    addresses = [archive.put(bytes(100)) for _ in range(5)]
    assert archive.file_nbytes <= 300
    assert archive.get(addresses[0]) == bytes(100)
    with pytest.raises(HistoryLostError, match="budget of 300 bytes"):
        archive.get(addresses[4])


def test_no_folder_for_the_file(tmp_path: Any) -> None:
    archive = Archive(StorageOptions(host_bytes=0, folder=tmp_path / "gone"))
    address = archive.put(bytes(10))
    with pytest.raises(HistoryLostError, match="No such file"):
        archive.get(address)


@pytest.mark.parametrize("options", [{"history": "some"}, {"host_bytes": -1}, {"file_bytes": -1}])
def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"history|budgets"):
        StorageOptions(**options)


# ---------------------------------------------------------------- shelves


@dataclass(frozen=True, eq=False)
class Thing:
    number: int
    tensor: torch.Tensor


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["set", "del", "away"]), st.integers(0, 99), st.integers(0, 9)), max_size=40
    )
)
def test_a_shelf_equals_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    shelf: Shelf[Thing] = Shelf(Thing)
    shelf.attach(Archive(StorageOptions(host_bytes=20)), torch.device("cpu"))
    twin: dict[int, int] = {}
    for what, frame, number in steps:
        if what == "set":
            shelf[frame] = Thing(number, torch.full((3,), float(number)))
            twin[frame] = number
        elif what == "del":
            assert shelf.discard(frame) == (twin.pop(frame, None) is not None)
        else:
            shelf.put_away(lambda f, limit=frame: f < limit)
            assert all(f >= frame for f in shelf.near)
        assert list(shelf) == sorted(twin)
        assert len(shelf) == len(twin)
        for f in range(0, 100, 7):
            assert (f in shelf) == (f in twin)
        assert {f: (t.number, t.tensor.tolist()) for f, t in shelf.items()} == {
            f: (n, [float(n)] * 3) for f, n in twin.items()
        }
    assert {f: t.number for f, t in pickle.loads(pickle.dumps(shelf)).items()} == twin
    shelf.clear()
    assert len(shelf) == 0
    with pytest.raises(KeyError):
        del shelf[3]


@given(steps=st.lists(st.tuples(st.integers(0, 60), st.sampled_from([True, False, None])), max_size=40))
def test_marks_equal_a_dictionary(steps: list[tuple[int, bool | None]]) -> None:
    marks, twin = FrameMarks(), dict[int, bool]()
    for frame, value in steps:
        if value is None:
            assert marks.pop(frame, None) == twin.pop(frame, None)
        else:
            marks[frame] = twin[frame] = value
        assert dict(marks) == dict(sorted(twin.items()))
        assert len(marks) == len(twin)
    assert marks.get(-1) is None


# ---------------------------------------------------------------- sessions


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


def corrected_run(predictor: SAM2VideoPredictor, storage: StorageOptions | None) -> dict[str, Any]:
    """Forwards, a correction at a third, forwards and backwards again."""
    state = predictor.init_state(clip(45), storage=storage)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    predictor.add_new_points_or_box(state, 4, 2, points=[[30, 20]], labels=[1])
    found = {"first": run(predictor, state, start_frame_idx=0)}
    predictor.add_new_points_or_box(state, 15, 1, points=[[30, 10]], labels=[1])
    found["again"] = run(predictor, state, start_frame_idx=16)
    found["back"] = run(predictor, state, start_frame_idx=30, reverse=True)
    outputs = state["output_dict_per_obj"][1]
    found["state"] = {
        f: {0: out["pred_masks"], 1: out["maskmem_features"].float(), 2: out["obj_ptr"]}
        for kind in outputs.values()
        for f, out in kind.items()
    }
    return found


@pytest.mark.parametrize("host_bytes", [0, 20_000, 2**30])
def test_going_back_equals_unbounded_memory(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch, host_bytes: int
) -> None:
    bounded = corrected_run(predictor, StorageOptions(host_bytes=host_bytes))
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "put_away", lambda self, expired: None)
        unbounded = corrected_run(predictor, None)
    for part in unbounded:
        assert bounded[part].keys() == unbounded[part].keys()
        assert farthest(bounded[part], unbounded[part]) == 0.0


def at_hand(state: Any) -> int:
    return sum(
        track.bank.nbytes + sum(m.logits.nbytes for m in track.found.near.values())
        for track in state.tracks.values()
    )


@pytest.mark.parametrize("history", ["all", "none"])
def test_what_is_at_hand_stays_the_same(predictor: SAM2VideoPredictor, history: Any) -> None:
    tracker = predictor.stream(storage=StorageOptions(history=history, host_bytes=1000))
    frames = clip(8)
    tracker.step(frames[0], [ObjectPrompt(i, mask=disk(10 + 9 * i, 18)) for i in range(3)])
    sizes = []
    for t in range(1, 120):
        corrected = t % 10 == 0 and (history == "none" or t < 40)  # prompted frames stay in a whole history
        asked = [ObjectPrompt(1, mask=disk(20, 18))] if corrected else []
        tracker.step(frames[t % 8], asked)
        sizes.append(at_hand(tracker.session))
        tracks = tracker.session.tracks.values()
    assert max(sizes[80:]) <= max(sizes[40:80])
    assert tracker.session.archive.host_nbytes <= 1000
    if history == "none":
        assert all(len(track.found) <= 21 and len(track.masks_given) <= 6 for track in tracks)
        assert tracker.session.archive.file_nbytes == 0
    else:
        assert [len(track.found) for track in tracks] == [120] * 3
    tracker.remove(0)
    tracker.close()


def test_dropped_history_cannot_be_tracked_from(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(clip(50), storage=StorageOptions(history="none"))
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    whole = run(predictor, state)
    with pytest.raises(HistoryLostError, match=r"object 1 on frames 5 to 19 were dropped.*history='all'"):
        run(predictor, state, start_frame_idx=20)
    assert farthest(run(predictor, state, start_frame_idx=49), whole) == 0.0
    again = run(predictor, state, start_frame_idx=0)
    assert farthest(again, whole) < 1e-4


def test_tracking_goes_on_when_the_disk_is_full(
    predictor: SAM2VideoPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = corrected_run(predictor, None)["first"]
    Disk(tmp_path, monkeypatch)
    state = predictor.init_state(clip(45), storage=StorageOptions(host_bytes=0))
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    predictor.add_new_points_or_box(state, 4, 2, points=[[30, 20]], labels=[1])
    assert farthest(run(predictor, state, start_frame_idx=0), expected) == 0.0
    with pytest.raises(HistoryLostError, match=r"frame \d+: .*lost: .*No space left"):
        run(predictor, state, start_frame_idx=20)
    with pytest.warns(UserWarning, match="are not in the saved session") as told:
        state.save(tmp_path / "rest.sam2")
    for warning, what in zip(told, ("object 1, 1 to", "object 2, 0 to"), strict=True):
        assert what in str(warning.message)
        assert "No space left" in str(warning.message)
    rest = VideoSession.load(tmp_path / "rest.sam2", video=clip(45))
    with pytest.raises(HistoryLostError, match="object 1 on frames 5 to 19 were dropped"):
        run(predictor, rest, start_frame_idx=20)
    again = {"start_frame_idx": 44, "max_frame_num_to_track": 0}
    assert farthest(run(predictor, rest, **again), expected) == 0.0
    state.close()


def test_records_of_memories_keep_everything() -> None:
    shelf: Shelf[MemoryEntry] = Shelf(MemoryEntry)
    shelf.attach(Archive(), torch.device("cpu"))
    entry = MemoryEntry(3, False, None, torch.randn(1, 4), torch.randn(1, 1))
    shelf[3] = entry
    shelf.put_away(lambda f: True)
    assert shelf.near == {}
    found = shelf[3]
    assert (found.frame_idx, found.is_conditioning, found.features) == (3, False, None)
    assert torch.equal(found.obj_ptr, entry.obj_ptr)
