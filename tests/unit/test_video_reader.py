"""Reading containers: every coding, random access, bounds, sharing."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from video_samples import encode, picture, reference

from sam2.video import VideoError, open_video

FRAMES = [picture(i) for i in range(45)]
GOP = {"g": "10"}
H264 = {**GOP, "bf": "3", "x264-params": "scenecut=0"}
OPEN_GOP = {**GOP, "bf": "3", "x264-params": "open-gop=1:scenecut=0:ref=4"}

CODINGS = {
    "mp4": ("v.mp4", "libx264", "yuv420p", H264),
    "open gop": ("v.mp4", "libx264", "yuv420p", OPEN_GOP),
    "open gop mkv": ("v.mkv", "libx264", "yuv420p", OPEN_GOP),
    "open gop ts": ("v.ts", "libx264", "yuv420p", OPEN_GOP),
    "flv": ("v.flv", "libx264", "yuv420p", H264),
    "hevc 10 bit": ("v.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none:keyint=10"}),
    "vp8 with hidden frames": (
        "v.webm",
        "libvpx",
        "yuv420p",
        {**GOP, "auto-alt-ref": "1", "lag-in-frames": "12"},
    ),
    "vp9": ("v.webm", "libvpx-vp9", "yuv420p", {**GOP, "auto-alt-ref": "1", "lag-in-frames": "12"}),
    "mpeg4 mov": ("v.mov", "mpeg4", "yuv420p", {**GOP, "bf": "2", "q": "2"}),
    "mpeg2 program stream": ("v.mpg", "mpeg2video", "yuv420p", {**GOP, "bf": "2"}),
    "prores 10 bit": ("v.mov", "prores_ks", "yuv422p10le", {}),
    "mjpeg avi": ("v.avi", "mjpeg", "yuvj420p", {}),
    "h264 avi without times": ("v.avi", "libx264", "yuv420p", H264),
    "raw h264": ("v.h264", "libx264", "yuv420p", H264),
    "gif": ("v.gif", "gif", "rgb8", {}),
    "apng": ("v.apng", "apng", "rgb24", {}),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 frames of H.264 with B-frames and a key frame every ten."""
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES, options=H264)


@pytest.mark.parametrize("coding", CODINGS)
def test_random_access_gives_the_very_frames_of_reading_in_order(tmp_path: Path, coding: str) -> None:
    name, codec, pix_fmt, options = CODINGS[coding]
    path = encode(tmp_path / name, FRAMES, codec, pix_fmt, options=options)
    expected = reference(path)
    with open_video(path, cache_frames=0) as reader:
        assert len(reader) == reader.num_frames == len(FRAMES) == len(expected)
        assert (reader.width, reader.height) == (64, 48)
        assert float(reader.fps) == pytest.approx(25)
        np.testing.assert_allclose(reader.timestamps, np.arange(45) / 25, atol=0.006)
        for number, frame in enumerate(reader):
            np.testing.assert_array_equal(frame, expected[number])
        for number in [*np.random.default_rng(0).permutation(45), *range(44, -1, -7), 0, 44, 1, 43]:
            np.testing.assert_array_equal(reader[number], expected[number])
        assert reader.damaged == []


def test_the_frames_are_those_that_were_encoded(clip: Path) -> None:
    with open_video(clip) as reader:
        for number, frame in enumerate(reader):
            assert np.abs(frame.astype(int) - FRAMES[number]).mean() < 6


def test_more_than_8_bits_are_reduced_to_8(tmp_path: Path) -> None:
    path = encode(tmp_path / "deep.mov", FRAMES[:3], "prores_ks", "yuv444p10le", options={"profile": "4444"})
    with open_video(path) as reader:
        assert np.abs(reader[2].astype(int) - FRAMES[2]).mean() < 2


def test_backward_reading_uses_the_cache_and_stays_exact(clip: Path) -> None:
    expected = reference(clip)
    for cache in (0, 1, 4, 100):
        with open_video(clip, cache_frames=cache) as reader:
            for number, frame in zip(range(44, -1, -1), reader.frames(44, None, -1), strict=True):
                np.testing.assert_array_equal(frame, expected[number])
            assert len(reader._cache) <= cache


def test_the_cache_is_bounded_in_bytes(clip: Path) -> None:
    nbytes = 48 * 64 * 3
    with open_video(clip, cache_bytes=5 * nbytes + 1) as reader:
        for number in range(45):
            reader[number]
        assert len(reader._cache) == 5
        assert reader._cache.nbytes == 5 * nbytes


def test_frames_belong_to_the_caller(clip: Path) -> None:
    with open_video(clip) as reader:
        for _ in range(2):
            frame = reader[3]
            assert frame.flags.writeable
            frame[:] = 0
        assert reader[3].any()


def test_indices(clip: Path) -> None:
    with open_video(clip) as reader:
        np.testing.assert_array_equal(reader[-1], reader[44])
        np.testing.assert_array_equal(reader[-45], reader[0])
        np.testing.assert_array_equal(reader[np.int64(3)], reader[3])
        for number in (45, -46):
            with pytest.raises(IndexError, match="45 frames"):
                reader[number]
        for wrong in ("3", 2.0, slice(0, 3)):
            with pytest.raises(TypeError, match="int"):
                reader[wrong]  # type: ignore[index]
        with pytest.raises(IndexError, match="45 frames"):
            reader.frames(0, 46)


def test_iteration_keeps_its_place_while_other_frames_are_read(clip: Path) -> None:
    expected = reference(clip)
    with open_video(clip) as reader:
        for number, frame in enumerate(reader):
            np.testing.assert_array_equal(frame, expected[number])
            np.testing.assert_array_equal(reader[(number * 13) % 45], expected[(number * 13) % 45])


def test_threads_may_share_a_reader(clip: Path) -> None:
    expected = reference(clip)
    wrong: list[int] = []
    with open_video(clip, cache_frames=3) as reader:

        def work(seed: int) -> None:
            for number in np.random.default_rng(seed).integers(0, 45, 30):
                if not np.array_equal(reader[number], expected[number]):
                    wrong.append(int(number))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_closed_reader_says_so(clip: Path) -> None:
    reader = open_video(clip)
    reader.close()
    reader.close()
    with pytest.raises(VideoError, match="closed"):
        reader[0]
    with pytest.raises(VideoError, match="closed"):
        reader.frames()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_closing_ends_the_decoders_threads_at_once(clip: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    with open_video(clip) as reader:
        assert reader[30] is not None
        at_work = threads()
        others = iter(reader)
        next(others)
        assert threads() > at_work
        others.close()  # type: ignore[attr-defined]
        assert threads() == at_work
    assert threads() < at_work


def test_bytes_and_file_objects(clip: Path) -> None:
    expected = reference(clip)
    file = io.BytesIO(clip.read_bytes())
    file.seek(0, io.SEEK_END)
    for source in (clip.read_bytes(), file):
        with open_video(source) as reader:
            assert reader.path is None
            for number in (44, 0, 20):
                np.testing.assert_array_equal(reader[number], expected[number])
    with clip.open("rb") as opened, open_video(opened) as reader:
        assert len(reader) == 45
    with open_video(str(clip)) as reader:
        assert reader.path == clip
        assert open_video(reader) is reader
