"""What a container says of its frames: rotation, times, sizes, sound, colours, transparency."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from video_samples import add_sound, encode, picture, reference, set_display_matrix

from sam2.video import VideoSink, open_video

FRAMES = [picture(i) for i in range(9)]
GOP = {"g": "10"}


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


def test_sound_is_noticed_and_its_absence_too(tmp_path: Path) -> None:
    clip = encode(tmp_path / "silent.mp4", FRAMES, options=GOP)
    with open_video(clip) as silent, open_video(add_sound(tmp_path / "sound.mp4", clip)) as sounding:
        assert not silent.has_audio
        assert sounding.has_audio
        assert len(sounding) == 9
        np.testing.assert_array_equal(sounding[8], silent[8])


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

    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = (200, 30, 60, 255)
    with VideoSink(tmp_path / "cut.gif", fps=10, alpha=True) as sink:
        sink.write(rgba)
        sink.write(rgba)
    with open_video(tmp_path / "cut.gif") as reader:
        assert (reader[1][:4] == 255).all()
        assert np.abs(reader[1][6, 6].astype(int) - (200, 30, 60)).max() < 8
