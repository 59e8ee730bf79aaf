"""Reading ahead: the same frames, bounded, in a thread that ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from video_samples import encode, picture, reference

from sam2.video import VideoError, open_video

FRAMES = [picture(i) for i in range(45)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 frames of H.264 with B-frames and a key frame every ten."""
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES, options={"g": "10", "bf": "3"})


@pytest.mark.parametrize(
    "bounds", [(0, 45, 1), (7, 30, 1), (3, 40, 9), (40, 3, -4), (5, 5, 1), (44, None, -1)]
)
@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_ranges_with_and_without_read_ahead(clip: Path, bounds: tuple[int, int, int], prefetch: int) -> None:
    start, stop, step = bounds
    expected = reference(clip)
    with open_video(clip) as reader:
        frames = list(reader.frames(start, stop, step, prefetch=prefetch))
    numbers = range(start, -1 if stop is None else stop, step)
    assert len(frames) == len(numbers)
    for number, frame in zip(numbers, frames, strict=True):
        np.testing.assert_array_equal(frame, expected[number])


def test_read_ahead_is_bounded_and_its_thread_ends_with_the_loop(clip: Path) -> None:
    with open_video(clip, prefetch=3) as reader:
        frames = iter(reader)
        next(frames)
        names = [thread.name for thread in threading.enumerate()]
        assert "sam2-read-ahead" in names
        frames.close()  # type: ignore[attr-defined]
        assert "sam2-read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_read_ahead_overlaps_the_work_of_the_caller(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = open_video([picture(i) for i in range(8)])
    load = reader._load

    def slow(index: int) -> np.ndarray:
        time.sleep(0.03)
        return load(index)

    monkeypatch.setattr(reader, "_load", slow)
    began = time.perf_counter()
    for _ in reader.frames(prefetch=2):
        time.sleep(0.03)
    assert time.perf_counter() - began < 8 * 0.06 * 0.85


def test_an_error_in_the_read_ahead_thread_reaches_the_caller(clip: Path) -> None:
    reader = open_video(clip, prefetch=2)
    frames = iter(reader)
    next(frames)
    reader.close()
    with pytest.raises(VideoError, match="closed"):
        list(frames)


@pytest.mark.slow
def test_a_long_video_opens_quickly_and_takes_little_memory(tmp_path: Path) -> None:
    flat = np.zeros((360, 640, 3), np.uint8)
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for number in range(4000):
            flat[:, :, 0] = number % 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat, "rgb24")))
        container.mux(stream.encode(None))

    def resident() -> float:
        pages = Path("/proc/self/statm")
        return int(pages.read_text().split()[1]) * 4096 / 2**20 if pages.exists() else 0.0

    before = resident()
    began = time.perf_counter()
    reader = open_video(path, prefetch=8)
    opened = time.perf_counter() - began
    grown = 0.0
    with reader:
        for number, _ in enumerate(reader):
            grown = max(grown, resident() - before) if number % 100 == 0 else grown
        assert number + 1 == len(reader) == 4000
        for number in range(3999, 3900, -1):
            reader[number]
        reader[100]
        grown = max(grown, resident() - before)
    assert opened < 1.0
    assert grown < 100
