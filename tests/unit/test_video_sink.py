"""Writing videos and folders of frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_samples import add_sound, encode, noise, picture, sound_of

from sam2.video import FrameFolderSink, VideoError, VideoSink, open_video

FRAMES = [picture(i) for i in range(20)]
VFR = np.cumsum([0, 0.04, 0.04, 0.1, 0.02, 0.5, 0.04, 0.3, 0.04, 0.06])


def write(path: Path, frames: list[np.ndarray], **options: object) -> Path:
    with VideoSink(path, **options) as sink:  # type: ignore[arg-type]
        for frame in frames:
            sink.write(frame)
    return path


def smooth(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture whose colours survive chroma subsampling."""
    ramp = np.linspace(40, 200, width)[None, :, None] * np.ones((height, 1, 3))
    return np.uint8(ramp * [1, 0.5, 0.25] + [number, 0, 0])


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif"])
@pytest.mark.parametrize("rate", [25, Fraction(24000, 1001)])
def test_frames_and_rate_survive(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    frames = [smooth(i) for i in range(20)]
    path = write(tmp_path / f"out{suffix}", frames, fps=rate)
    with open_video(path) as reader:
        assert len(reader) == 20
        tolerance = 0.006 if suffix == ".gif" else 6e-4
        np.testing.assert_allclose(reader.timestamps, np.arange(20) / float(rate), atol=tolerance)
        if suffix in (".mp4", ".m4v", ".mov"):
            assert reader.fps == rate
        for number in (0, 7, 19):
            assert np.abs(reader[number].astype(int) - frames[number]).mean() < 4
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".mp4", 1e-5), (".mkv", 6e-4), (".webm", 6e-4), (".gif", 0.006)]
)
def test_uneven_times_are_kept(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = write(tmp_path / f"out{suffix}", FRAMES[:10], timestamps=VFR)
    with open_video(path) as reader:
        np.testing.assert_allclose(reader.timestamps, VFR, atol=tolerance)


def test_times_given_with_each_frame(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4") as sink:
        for frame, when in zip(FRAMES[:10], VFR + 100, strict=True):
            sink.write(frame, when)
    with open_video(tmp_path / "out.mp4") as reader:
        np.testing.assert_allclose(reader.timestamps, VFR, atol=1e-5)


def test_times_that_go_back_or_run_out(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", timestamps=[0, 1, 0.5])
    sink.write(FRAMES[0])
    sink.write(FRAMES[1])
    with pytest.raises(VideoError, match="comes before"):
        sink.write(FRAMES[2])
    with pytest.raises(VideoError, match="comes before"):
        sink.write(FRAMES[2], 0.1)
    sink.abort()
    sink = VideoSink(tmp_path / "out.mp4", timestamps=[0])
    sink.write(FRAMES[0])
    with pytest.raises(VideoError, match="timestamps for 1 frames"):
        sink.write(FRAMES[1])
    sink.abort()
    with VideoSink(tmp_path / "other.mp4") as sink:
        with pytest.raises(VideoError, match="give fps"):
            sink.write(FRAMES[0])
        sink.write(FRAMES[0], 0.0)


def test_equal_times_move_one_tick_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", FRAMES[:3], timestamps=[0, 0, 1])
    with open_video(path) as reader:
        assert len(reader) == 3
        np.testing.assert_allclose(reader.timestamps, [0, 0, 1], atol=1e-4)


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (48, 33)])
def test_odd_sizes_are_padded_with_the_edge_for_h264(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = [smooth(i, *size) for i in range(3)]
    path = write(tmp_path / "out.mp4", frames, fps=10, crf=0)
    height, width = size
    with open_video(path) as reader:
        assert (reader.height, reader.width) == (height + height % 2, width + width % 2)
        assert np.abs(reader[2][:height, :width].astype(int) - frames[2]).mean() < 4
        assert np.abs(reader[2][-1].astype(int) - reader[2][height - 1]).mean() < 2
    webm = write(tmp_path / "out.webm", frames, fps=10)
    with open_video(webm) as reader:
        assert (reader.height, reader.width) == size


def cut_out() -> np.ndarray:
    rgba = np.zeros((32, 48, 4), np.uint8)
    rgba[..., :3] = (180, 90, 40)
    rgba[8:24, 8:40, 3] = 255
    rgba[12:16, 12:36, 3] = 128
    return rgba


def test_prores_keeps_alpha(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.mov", [cut_out()] * 3, fps=25, alpha=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "prores"
        read = next(container.decode(video=0)).to_ndarray(format="rgba")
    assert np.abs(read[..., 3].astype(int) - cut_out()[..., 3]).max() <= 3
    assert np.abs(read[10, 20].astype(int) - (180, 90, 40, 255)).max() <= 4


def test_webm_keeps_alpha(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.webm", [cut_out()] * 3, fps=25, alpha=True, crf=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        frames = [
            frame for packet in container.demux(stream) if packet.size for frame in decoder.decode(packet)
        ]
    assert frames[0].format.name == "yuva420p"
    read = frames[0].to_ndarray(format="rgba")
    inside, outside = read[18:22, 12:36, 3], read[:6, :, 3]
    assert inside.min() > 240
    assert outside.max() < 15


def test_gif_keeps_one_bit_of_alpha(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.gif", [cut_out()] * 2, fps=10, alpha=True)
    with Image.open(path) as image:
        read = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(read[..., 3] > 0, cut_out()[..., 3] >= 128)
    assert np.abs(read[10, 20, :3].astype(int) - (180, 90, 40)).max() < 8


@pytest.fixture
def sounding(tmp_path: Path) -> Path:
    return add_sound(
        tmp_path / "source.mp4", encode(tmp_path / "silent.mp4", [picture(i) for i in range(50)])
    )


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "aac"), (".mov", "aac"), (".mkv", "aac"), (".webm", "opus")]
)
def test_sound_is_carried_over(tmp_path: Path, sounding: Path, suffix: str, codec: str) -> None:
    with open_video(sounding) as reader:
        path = write(
            tmp_path / f"out{suffix}", list(reader), timestamps=reader.timestamps, audio_from=sounding
        )
    name, samples, _ = sound_of(path)
    assert name == codec
    rate = 48_000
    assert len(samples) / rate == pytest.approx(2.0, abs=0.1)
    middle = samples[rate // 2 : rate // 2 + rate]
    loudest = np.argmax(np.abs(np.fft.rfft(middle))) * rate / len(middle)
    assert loudest == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("source", "codec", "target", "expected"),
    [
        ("source.mov", "pcm_s16le", "out.mp4", "aac"),
        ("source.mkv", "libopus", "out.mp4", "opus"),
        ("source.mkv", "libmp3lame", "out.mp4", "mp3float"),
        ("source.mkv", "libopus", "out.mov", "aac"),
        ("source.mkv", "ac3", "out.webm", "opus"),
    ],
)
def test_sound_is_copied_where_it_fits_and_encoded_where_not(
    tmp_path: Path, source: str, codec: str, target: str, expected: str
) -> None:
    silent = encode(tmp_path / "silent.mp4", FRAMES)
    path = write(
        tmp_path / target, FRAMES, fps=25, audio_from=add_sound(tmp_path / source, silent, codec, 0.8)
    )
    name, samples, _ = sound_of(path)
    assert name == expected
    assert len(samples) / 48_000 == pytest.approx(0.8, abs=0.1)
    assert np.abs(samples[10_000:20_000]).max() > 0.3


def test_sound_covers_the_written_part_alone(tmp_path: Path) -> None:
    silent = encode(tmp_path / "silent.mp4", [picture(i) for i in range(50)])
    source = add_sound(tmp_path / "source.mp4", silent)
    with open_video(source) as reader:
        path = write(
            tmp_path / "part.mp4",
            list(reader.frames(20, 35)),
            timestamps=reader.timestamps[20:35],
            audio_from=source,
        )
    _, samples, start = sound_of(path)
    assert len(samples) / 48_000 == pytest.approx(0.6, abs=0.05)
    assert start == pytest.approx(0, abs=0.03)


def test_a_source_without_sound(tmp_path: Path) -> None:
    silent = encode(tmp_path / "silent.mp4", FRAMES[:5])
    for suffix in (".mp4", ".gif"):
        path = write(tmp_path / f"out{suffix}", FRAMES[:5], fps=25, audio_from=silent)
        with open_video(path) as reader:
            assert not reader.has_audio
    with pytest.raises(FileNotFoundError, match="audio_from"):
        write(tmp_path / "other.mp4", FRAMES[:2], fps=25, audio_from=tmp_path / "nothing.mp4")
    assert not (tmp_path / "other.mp4").exists()


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="--force"):
        VideoSink(path, fps=25)
    write(path, FRAMES[:3], fps=25, force=True)
    assert len(open_video(path)) == 3
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        VideoSink(tmp_path / "folder.mp4", fps=25, force=True)


def test_a_file_that_came_up_meanwhile_is_kept(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", fps=25)
    sink.write(FRAMES[0])
    sink.path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        sink.finish()
    assert sink.path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [sink.path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with VideoSink(path, fps=25, force=True) as sink:
            for frame in FRAMES:
                sink.write(frame)
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_done_can_be_kept_on_interrupt(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", fps=25) as sink:
        try:
            for number, frame in enumerate(FRAMES):
                if number == 7:
                    raise KeyboardInterrupt
                sink.write(frame)
        except KeyboardInterrupt:
            assert sink.finish() == sink.path
        with pytest.raises(VideoError, match="finished"):
            sink.write(FRAMES[0])
    with open_video(tmp_path / "out.mp4") as reader:
        assert len(reader) == 7


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(tmp_path / "out.mp4", [noise(i, 240, 320) for i in range(20)], fps=25, crf=1)
        with pytest.raises(OSError, match="too large"):
            FrameFolderSink(tmp_path / "frames").write(noise(0, 240, 320))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_frame_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame"), VideoSink(tmp_path / "out.mp4", fps=25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_a_bad_place_is_an_os_error(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out.mp4", FRAMES[:2], fps=25)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        VideoSink(tmp_path / "file" / "out.mp4", fps=25)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.xyz", {"fps": 25}, "end the name with"),
        ("out", {"fps": 25}, "end the name with"),
        ("out.mp4", {"fps": 25, "timestamps": [0]}, "not both"),
        ("out.mp4", {"fps": 0}, "fps is 0"),
        ("out.mp4", {"fps": 25, "codec": "divx"}, "unknown codec 'divx'"),
        ("out.mp4", {"fps": 25, "codec": "prores"}, "does not hold prores"),
        ("out.mp4", {"fps": 25, "alpha": True}, "holds no transparency"),
        ("out.mp4", {"fps": 25, "crf": 99}, "crf is 99"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(VideoError, match=message):
        VideoSink(tmp_path / name, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAMES[0][:-1], "64x47, but the video is 64x48"),
        (FRAMES[0].astype(np.float32), "float32"),
        (np.zeros((48, 64, 4), np.uint8), "alpha=True"),
        (np.zeros((48, 64), np.uint8), r"\[H, W, 3\]"),
    ],
)
def test_frames_that_do_not_fit(tmp_path: Path, frame: np.ndarray, message: str) -> None:
    with VideoSink(tmp_path / "out.mp4", fps=25) as sink:
        sink.write(FRAMES[0])
        with pytest.raises(VideoError, match=message):
            sink.write(frame)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_folder_of_frames(tmp_path: Path, suffix: str) -> None:
    with FrameFolderSink(tmp_path / "frames", suffix=suffix) as sink:
        for frame in FRAMES[:12]:
            sink.write(frame)
        assert sink.finish() == tmp_path / "frames"
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [f"{i:05d}{suffix}" for i in range(12)]
    with open_video(tmp_path / "frames") as reader:
        error = np.abs(reader[11].astype(int) - FRAMES[11]).mean()
    assert error < 6 if suffix == ".jpg" else error == 0


def test_frames_with_numbers_of_their_own_and_alpha(tmp_path: Path) -> None:
    sink = FrameFolderSink(tmp_path, digits=3)
    assert sink.write(cut_out(), 17) == tmp_path / "017.png"
    assert sink.write(cut_out()[..., 3]) == tmp_path / "018.png"
    with Image.open(tmp_path / "017.png") as image:
        np.testing.assert_array_equal(np.asarray(image), cut_out())
    with Image.open(tmp_path / "018.png") as image:
        np.testing.assert_array_equal(np.asarray(image), cut_out()[..., 3])
    assert sink.frames_written == 2


def test_a_folder_that_is_not_empty_needs_force(tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_bytes(b"old")
    with pytest.raises(FileExistsError, match="--force"):
        FrameFolderSink(tmp_path)
    FrameFolderSink(tmp_path, force=True).write(FRAMES[0])
    with open_video(tmp_path) as reader:
        np.testing.assert_array_equal(reader[0], FRAMES[0])
    with pytest.raises(FileExistsError, match="is a file"):
        FrameFolderSink(tmp_path / "00000.png")


def test_what_a_folder_of_frames_refuses(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"'\.gif'"):
        FrameFolderSink(tmp_path, suffix=".gif")
    with pytest.raises(VideoError, match="no transparency"):
        FrameFolderSink(tmp_path / "a", suffix=".jpg").write(cut_out())
    with pytest.raises(VideoError, match="float64"):
        FrameFolderSink(tmp_path / "b").write(np.zeros((4, 4, 3)))
    assert list((tmp_path / "b").iterdir()) == []
