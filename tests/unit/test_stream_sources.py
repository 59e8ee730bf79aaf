"""A tracker fed from real sources, and what each fault of a source costs: what it took away, no more."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_server import serving
from PIL import Image
from tracking_helpers import HEIGHT, WIDTH, clip, disk, mini_predictor
from video_samples import blank_packets, encode, noise

from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import FrameResult, ObjectPrompt
from sam2.video import LiveStallError, VideoError, VideoWarning, open_live, open_video

ASKED = {0: [ObjectPrompt(1, mask=disk(20, 18))]}


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


def jpegs(frames: list[np.ndarray]) -> list[bytes]:
    files = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def same(found: list[FrameResult], expected: list[FrameResult]) -> bool:
    assert [r.frame_idx for r in found] == list(range(len(expected)))
    return all(torch.equal(a.logits, b.logits) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    path = encode(tmp_path / "v.ts", clip(8), options={"bf": "0"})
    with serving(path.read_bytes(), jpegs(clip(8))) as host:
        yield f"http://{host}"


def test_an_address_of_a_stream(predictor: SAM2VideoPredictor, server: str, tmp_path: Path) -> None:
    with open_video(tmp_path / "v.ts") as reader:
        expected = list(predictor.stream().follow(reader, ASKED))
    with open_live(f"{server}/v.ts", drop="none") as live:
        found = list(predictor.stream().follow(live, ASKED))
    assert same(found, expected)
    assert found[5].timestamp == pytest.approx(0.2, abs=1e-3)
    named = list(predictor.stream().follow(f"{server}/v.ts", ASKED))  # may drop what comes too fast
    assert 1 <= len(named) <= 8


def test_an_address_of_a_network_camera(predictor: SAM2VideoPredictor, server: str) -> None:
    with open_live(f"{server}/motion", drop="none") as live:
        found = list(predictor.stream().follow(live, ASKED))
    assert len(found) == 8
    assert found[7].masks.shape == (1, HEIGHT, WIDTH)


def test_a_connection_that_breaks_off_loses_nothing(predictor: SAM2VideoPredictor, server: str) -> None:
    tracker = predictor.stream()
    with open_live(f"{server}/cut.ts", drop="none") as live, pytest.raises(VideoError, match="was lost"):
        list(tracker.follow(live, ASKED))
    assert tracker.frame_idx >= 6
    assert tracker.step(clip(1)[0]).obj_ids == [1]


def test_the_path_of_a_video(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", clip(5))
    with open_video(path) as reader:
        expected = [predictor.stream().step(reader[0], ASKED[0])]
    found = list(predictor.stream().follow(path, ASKED))
    assert same(found[:1], expected)
    assert [r.timestamp for r in found] == pytest.approx([i / 25 for i in range(5)])
    with pytest.raises(VideoError, match="does not exist"):
        list(predictor.stream().follow("gone.mp4"))


def test_frames_of_pyav_bring_their_times(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", clip(4))
    with av.open(str(path)) as container:
        found = list(predictor.stream().follow(container.decode(video=0), ASKED))
    assert [r.timestamp for r in found] == pytest.approx([i / 25 for i in range(4)])


def test_standard_input(predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"".join(jpegs(clip(4))))

    monkeypatch.setattr("sys.stdin", Stdin)
    assert len(list(predictor.stream().follow("-", ASKED))) == 4


def test_a_camera(predictor: SAM2VideoPredictor) -> None:
    """FFmpeg's test picture, opened as capture devices are."""
    name = f"camera:testsrc=duration=0.4:size={WIDTH}x{HEIGHT}:rate=10"
    with open_live(name, format="lavfi", drop="none") as live:
        found = list(predictor.stream().follow(live, ASKED))
    assert [r.timestamp for r in found] == pytest.approx([0, 0.1, 0.2, 0.3])
    with pytest.raises(VideoError, match="camera:77"):
        list(predictor.stream().follow("camera:77"))


# ---------------------------------------------------------------- faults


def test_a_corrupt_packet_costs_its_frames_and_is_told(
    predictor: SAM2VideoPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [noise(i, HEIGHT, WIDTH) for i in range(20)]
    path = encode(tmp_path / "v.mp4", frames, options={"g": "10", "bf": "0"}, movflags="faststart")
    blank_packets(path, [7])
    with path.open("rb") as stream, open_live(stream) as live:
        survivors = [item.frame for item in live]
    expected = list(predictor.stream().follow(survivors, ASKED))

    class Stdin:
        buffer = io.BytesIO(path.read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    with pytest.warns(VideoWarning, match=r"standard input: \d+ packets did not decode"):
        found = list(predictor.stream().follow("-", ASKED))
    assert 15 <= len(found) < 20
    assert same(found, expected)
    assert found[-1].timestamp == pytest.approx(19 / 25, abs=0.05)


def test_dropped_frames_are_frames_that_never_came(predictor: SAM2VideoPredictor) -> None:
    frames = clip(10)
    with open_live(io.BytesIO(b"".join(jpegs(frames))), fps=10, queue_frames=3, drop="oldest") as live:
        live._thread.join(timeout=10)
        found = list(predictor.stream().follow(live, ASKED))
        assert live.dropped == 7
    with open_live(io.BytesIO(b"".join(jpegs(frames[7:])))) as late:
        expected = list(predictor.stream().follow(late, ASKED))
    assert same(found, expected)
    assert [r.timestamp for r in found] == pytest.approx([0.7, 0.8, 0.9])


def test_a_change_of_resolution_goes_on_with_the_same_objects(predictor: SAM2VideoPredictor) -> None:
    data = b"".join(jpegs(clip(3)) + jpegs(clip(3, 96, 72)))
    with open_live(io.BytesIO(data)) as live:
        found = list(predictor.stream().follow(live, ASKED))
    assert [tuple(r.masks.shape) for r in found] == [(1, 36, 48)] * 3 + [(1, 72, 96)] * 3
    assert all(r.obj_ids == [1] for r in found)


def test_a_stall_is_told_and_tracking_can_go_on(predictor: SAM2VideoPredictor) -> None:
    data = jpegs(clip(6))
    more = threading.Event()

    class Stalling(io.RawIOBase):
        sent = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            if self.sent == 3:
                more.wait(20)
            self.sent += 1
            return data[self.sent - 1] if self.sent <= len(data) else b""

    tracker = predictor.stream()
    with open_live(Stalling(), timeout=2.0) as live:
        with pytest.raises(LiveStallError, match=r"no frame for 2 s"):
            list(tracker.follow(live, ASKED))
        assert tracker.frame_idx == 2
        more.set()
        rest = list(tracker.follow(live))
    assert [r.frame_idx for r in rest] == [3, 4, 5]
    assert all(r.obj_ids == [1] for r in rest)


def test_threads_on_one_stream_take_turns(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream()
    tracker.step(clip(1)[0], ASKED[0])
    failures: list[BaseException] = []
    seen: list[int] = []

    def work(number: int) -> None:
        try:
            for frame in clip(8):
                result = tracker.step(frame, [ObjectPrompt(10 + number, mask=disk(9, 9))])
                seen.append(result.frame_idx)
                assert 10 + number in result.obj_ids
                tracker.remove(10 + number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(seen) == list(range(1, 17))
    assert tracker.session.obj_ids == [1]


def test_a_buffer_may_be_used_again(predictor: SAM2VideoPredictor) -> None:
    expected = predictor.stream().step(clip(1)[0], ASKED[0])
    buffer = clip(1)[0]
    tracker = predictor.stream()
    tracker.push(buffer)
    buffer[:] = 0
    tracker.prompt(*ASKED[0])
    found = tracker.session.tracks[1].pending[0].mask.logits
    assert torch.equal(found[0], expected.low_res_logits[0])
