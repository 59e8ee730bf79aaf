"""Reading containers: exact frames, times, rotation, and what damage does."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from video_samples import add_sound, blank_packets, encode, noise, packet_places, picture, set_display_matrix

from sam2.video import VideoError, VideoNotFoundError, VideoWarning, open_video

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


def reference(path: Path) -> list[np.ndarray]:
    """All frames as PyAV gives them in order."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


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


# Display matrix a, b, c, d and what it does to the stored pixels.
MATRICES = {
    "as stored": ((1, 0, 0, 1), lambda a: a),
    "portrait (quarter turn clockwise)": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "upside down": ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
    "quarter turn back": ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda a: a[::-1]),
    "transposed": ((0, 1, 1, 0), lambda a: a.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_rotation_metadata_is_honoured(tmp_path: Path, name: str) -> None:
    matrix, turn = MATRICES[name]
    path = encode(tmp_path / "phone.mp4", FRAMES[:5], options=GOP)
    stored = reference(path)
    set_display_matrix(path, matrix)
    with open_video(path) as reader:
        expected = turn(stored[4])
        assert (reader.width, reader.height) == (expected.shape[1], expected.shape[0])
        np.testing.assert_array_equal(reader[4], expected)
        np.testing.assert_array_equal(next(iter(reader)), turn(stored[0]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_keeps_its_times(tmp_path: Path, suffix: str) -> None:
    seconds = np.cumsum([0, 0.04, 0.04, 0.1, 0.02, 0.5, 0.04, 0.3, 0.04])
    path = encode(tmp_path / f"vfr{suffix}", FRAMES[:9], seconds=seconds.tolist())
    with open_video(path) as reader:
        np.testing.assert_allclose(reader.timestamps, seconds, atol=1e-3)
        assert float(reader.fps) == pytest.approx(8 / seconds[-1], rel=0.01)


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (2, 301)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = [picture(i, *size) for i in range(3)]
    path = encode(tmp_path / "odd.mkv", frames, "ffv1", "bgr0")
    with open_video(path) as reader:
        assert (reader.height, reader.width) == size
        np.testing.assert_array_equal(reader[2], frames[2])


def test_one_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "one.mp4", FRAMES[:1])
    with open_video(path) as reader:
        assert len(reader) == len(list(reader)) == 1
        assert reader.timestamps.tolist() == [0.0]
        assert reader.fps > 0


def test_sound_is_noticed_and_its_absence_too(tmp_path: Path, clip: Path) -> None:
    with open_video(clip) as silent, open_video(add_sound(tmp_path / "sound.mp4", clip)) as sounding:
        assert not silent.has_audio
        assert sounding.has_audio
        assert len(sounding) == 45
        np.testing.assert_array_equal(sounding[30], silent[30])


def test_colours_follow_the_tag_of_the_file(tmp_path: Path) -> None:
    green = np.full((32, 32, 3), (30, 200, 60), np.uint8)
    path = tmp_path / "bt709.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.colorspace = 1
        frame = av.VideoFrame.from_ndarray(green, "rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(path) as reader:
        assert np.abs(reader[0].astype(int) - green).max() <= 4
    with open_video(encode(tmp_path / "plain.mp4", [green])) as reader:
        assert np.abs(reader[0].astype(int) - green).max() <= 4


def test_transparent_gif_pixels_are_white(tmp_path: Path) -> None:
    from sam2.video import VideoSink

    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = (200, 30, 60, 255)
    with VideoSink(tmp_path / "cut.gif", fps=10, alpha=True) as sink:
        sink.write(rgba)
        sink.write(rgba)
    with open_video(tmp_path / "cut.gif") as reader:
        assert (reader[1][:4] == 255).all()
        assert np.abs(reader[1][6, 6].astype(int) - (200, 30, 60)).max() < 8


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFoundError, match=r"nothing\.mp4 does not exist"):
        open_video(tmp_path / "nothing.mp4")
    with pytest.raises(FileNotFoundError):
        open_video(str(tmp_path / "nothing.mp4"))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for source in (empty, b""):
        with pytest.raises(VideoError, match="0 bytes"):
            open_video(source)
    for name, data in {
        "notes.txt": b"Just some words.\n" * 100,
        "notes.mp4": b"Just some words.\n" * 100,
        "list.m3u8": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.txt": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "random.webm": np.random.default_rng(0).bytes(5000),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match="is not a video that can be read"):
            open_video(tmp_path / name)
    for source in (None, 3, object(), {"a": 1}):
        with pytest.raises(VideoError, match="is not a video"):
            open_video(source)
    for address in ("rtsp://127.0.0.1/stream", "camera:0"):
        with pytest.raises(VideoError, match="open_live"):
            open_video(address)
    with pytest.raises(VideoError, match="text mode"):
        open_video(io.StringIO("words"))


@pytest.mark.parametrize("options", [{"cache_frames": -1}, {"cache_bytes": -1}, {"prefetch": -1}, {"fps": 0}])
def test_options_out_of_range(clip: Path, options: dict[str, int]) -> None:
    with pytest.raises(VideoError, match=next(iter(options))):
        open_video(clip, **options)


def test_a_file_with_sound_alone(tmp_path: Path, clip: Path) -> None:
    both = add_sound(tmp_path / "both.mp4", clip)
    sound = tmp_path / "sound.m4a"
    with av.open(str(both)) as given, av.open(str(sound), "w", format="mp4") as container:
        stream = container.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(VideoError, match=r"no video stream \(it holds: audio\)"):
        open_video(sound)


def test_an_unknown_codec_names_what_is_known(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "unknown.mp4"
    path.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"cannot decode; it decodes h264, hevc"):
        open_video(path)


def test_an_mp4_without_its_index(tmp_path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: data.index(b"moov") - 10])
    with pytest.raises(VideoError, match=r"moov atom.*cut off"):
        open_video(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx-vp9")]
)
def test_a_file_cut_midway_gives_what_decodes_and_says_what_is_lost(
    tmp_path: Path, name: str, codec: str
) -> None:
    frames = [noise(i) for i in range(40)]
    path = encode(
        tmp_path / name, frames, codec, options={"g": "8"}, movflags="faststart" if "mp4" in name else ""
    )
    whole = reference(path)
    position, size = packet_places(path)[24]
    if "mp4" not in name:
        position = path.stat().st_size * 6 // 10
    path.write_bytes(path.read_bytes()[: position + size // 2])
    with pytest.warns(VideoWarning, match="cut off") as record:
        reader = open_video(path)
    with reader:
        lost = 40 - len(reader)
        assert f"{lost} frames at its end are lost, {len(reader)} can be read" in str(record[0].message)
        assert 15 < len(reader) < 30
        read = list(reader)
        assert reader.damaged == []
        numbers = np.rint(reader.timestamps * 25).astype(int)
        for number, frame in zip(numbers, read, strict=True):
            np.testing.assert_array_equal(frame, whole[number])
        np.testing.assert_array_equal(reader[len(reader) - 1], read[-1])
    if "mp4" in name:
        assert lost == 16


def test_damage_in_the_middle_repeats_the_frame_before(tmp_path: Path) -> None:
    frames = [noise(i) for i in range(30)]
    path = encode(tmp_path / "v.mp4", frames, options={"g": "10", "bf": "0"})
    whole = reference(path)
    blank_packets(path, [14])
    with open_video(path) as reader:
        with pytest.warns(VideoWarning, match=r"frame 14 is damaged.*reader\.damaged") as record:
            read = list(reader)
        assert len(record) == 1
        assert len(reader) == len(read) == 30
        assert 14 in reader.damaged
        assert set(reader.damaged) <= set(range(14, 20))
        np.testing.assert_array_equal(read[14], read[13])
        for number in [*range(14), *range(20, 30)]:
            np.testing.assert_array_equal(read[number], whole[number])
        for number in range(29, -1, -1):
            np.testing.assert_array_equal(reader[number], read[number])


def test_a_damaged_key_frame_is_bridged(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", [noise(i) for i in range(30)], options={"g": "10", "bf": "0"})
    whole = reference(path)
    blank_packets(path, [10])
    with open_video(path) as reader:
        with pytest.warns(VideoWarning, match="frame 10 is damaged"):
            frame = reader[10]
        np.testing.assert_array_equal(frame, whole[9])
        np.testing.assert_array_equal(reader[25], whole[25])
        assert 10 in reader.damaged


def test_a_damaged_start_shows_the_first_frame_that_decodes(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", [noise(i) for i in range(30)], options={"g": "10", "bf": "0"})
    whole = reference(path)
    blank_packets(path, range(10))
    with pytest.warns(VideoWarning, match="frame 0 is damaged"):
        reader = open_video(path)
    with reader:
        assert len(reader) == 30
        read = list(reader)
        for number in range(10):
            np.testing.assert_array_equal(read[number], whole[10])
        np.testing.assert_array_equal(read[15], whole[15])
        assert reader.damaged == list(range(10))


def test_a_recording_that_begins_between_key_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.ts", [noise(i) for i in range(30)], options={"g": "10", "bf": "2"})
    whole = reference(path)
    position, _ = packet_places(path)[5]
    path.write_bytes(path.read_bytes()[position // 188 * 188 :])
    with open_video(path) as reader:
        read = list(reader)
        assert len(read) == len(reader)
        np.testing.assert_array_equal(read[0], whole[30 - len(reader)])
        np.testing.assert_array_equal(read[-1], whole[-1])


def test_nothing_that_decodes(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", [noise(i) for i in range(6)])
    blank_packets(path, range(6))
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        open_video(path)


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
