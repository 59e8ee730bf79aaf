"""Videos that are folders of frames, pictures, lists and arrays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from video_samples import picture

from sam2.video import (
    PictureError,
    VideoError,
    VideoNotFoundError,
    VideoSink,
    natural_sorted,
    open_video,
)

FRAMES = [picture(i, 12, 20) for i in range(12)]


def write_frames(folder: Path, names: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    for frame, name in zip(FRAMES, names, strict=False):
        Image.fromarray(frame).save(folder / name)


def check(reader: object, frames: list[np.ndarray]) -> None:
    assert len(reader) == len(frames)  # type: ignore[arg-type]
    for number in (*range(len(frames) - 1, -1, -1), 0):
        np.testing.assert_array_equal(reader[number], frames[number])  # type: ignore[index]
    for frame, expected in zip(reader, frames, strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(frame, expected)


@given(st.text("ab_-. ", max_size=5), st.lists(st.integers(0, 10**30), unique=True), st.randoms())
def test_numbers_in_names_sort_by_value(prefix: str, numbers: list[int], random: object) -> None:
    names = [f"{prefix}{number}.jpg" for number in numbers]
    assert natural_sorted(names) == [f"{prefix}{number}.jpg" for number in sorted(numbers)]


@given(st.lists(st.integers(0, 9999), unique=True), st.integers(4, 9))
def test_padding_does_not_matter(numbers: list[int], width: int) -> None:
    padded = natural_sorted([f"{number:0{width}d}" for number in numbers])
    assert [int(name) for name in padded] == sorted(numbers)


@given(st.lists(st.text()), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_given(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert natural_sorted(shuffled) == natural_sorted(names)
    assert sorted(natural_sorted(names)) == sorted(names)


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    write_frames(tmp_path, [f"frame{i}.png" for i in range(12)])
    (tmp_path / ".hidden.png").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / "sub.png").mkdir()
    with open_video(tmp_path) as reader:
        assert (reader.width, reader.height, reader.fps, reader.has_audio) == (20, 12, 24, False)
        assert reader.path == tmp_path
        np.testing.assert_allclose(reader.timestamps, np.arange(12) / 24)
        check(reader, FRAMES)
    with open_video(tmp_path, fps=12.5) as reader:
        assert reader.timestamps[1] == 0.08


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".TIFF", ".PNG"])
def test_kinds_of_frames(tmp_path: Path, suffix: str) -> None:
    write_frames(tmp_path, [f"{i:05d}{suffix}" for i in range(3)])
    check(open_video(str(tmp_path)), FRAMES[:3])


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_kinds_of_frames(tmp_path: Path, suffix: str) -> None:
    write_frames(tmp_path, [f"{i:05d}{suffix}" for i in range(3)])
    assert [frame.shape for frame in open_video(tmp_path)] == [(12, 20, 3)] * 3


def test_rotated_frames_count_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        Image.fromarray(FRAMES[number]).save(tmp_path / f"{number}.png", exif=exif)
    with open_video(tmp_path) as reader:
        assert (reader.width, reader.height) == (12, 20)
        np.testing.assert_array_equal(reader[1], np.rot90(FRAMES[1], -1))


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(VideoError, match="holds no frames"):
        open_video(tmp_path)


def test_mixed_sizes_name_the_first_odd_file(tmp_path: Path) -> None:
    write_frames(tmp_path, [f"{i}.png" for i in range(12)])
    Image.new("RGB", (21, 12)).save(tmp_path / "10.png")
    Image.new("RGB", (7, 7)).save(tmp_path / "11.png")
    with pytest.raises(VideoError, match=r"10\.png is 21x12 but 0\.png is 20x12"):
        open_video(tmp_path)


def test_two_files_for_one_frame(tmp_path: Path) -> None:
    write_frames(tmp_path, ["0.png", "1.png", "1.jpg"])
    with pytest.raises(VideoError, match=r"both 1\.jpg and 1\.png"):
        open_video(tmp_path)


def test_a_broken_frame_in_a_folder(tmp_path: Path) -> None:
    write_frames(tmp_path, ["0.png", "1.png", "2.png"])
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    with open_video(tmp_path) as reader, pytest.raises(PictureError, match=r"1\.png is truncated"):
        list(reader)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(PictureError, match=r"1\.png is empty"):
        open_video(tmp_path)


def test_one_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(FRAMES[3]).save(path)
    for source in (path, str(path), path.read_bytes(), Image.open(path), FRAMES[3]):
        check(open_video(source), FRAMES[3:4])
    (tmp_path / "broken.png").write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoError, match="truncated"):
        open_video(tmp_path / "broken.png")


def test_an_animated_webp_gives_all_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    images = [Image.fromarray(frame) for frame in FRAMES[:4]]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=[100, 300, 100, 100], lossless=True
    )
    with open_video(path) as reader:
        np.testing.assert_allclose(reader.timestamps, [0, 0.1, 0.4, 0.5])
        assert float(reader.fps) == pytest.approx(6)
        check(reader, FRAMES[:4])


class Tensor:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def numpy(self) -> np.ndarray:
        return self._array


def test_arrays_and_tensors() -> None:
    array = np.stack(FRAMES)
    for source in (
        array,
        array.transpose(0, 3, 1, 2),
        Tensor(array),
        Tensor(array.transpose(0, 3, 1, 2)),
        Tensor(array.astype(np.float32) / 255),
        array.astype(np.float64) / 255,
    ):
        with open_video(source, fps=10) as reader:
            assert (reader.width, reader.height, reader.fps, reader.path) == (20, 12, 10, None)
            check(reader, FRAMES)


def test_writing_on_a_frame_leaves_the_source_alone() -> None:
    array = np.stack(FRAMES)
    with open_video(array) as reader:
        reader[0][:] = 0
        next(iter(reader))[:] = 0
        np.testing.assert_array_equal(array[0], FRAMES[0])


def test_lists_of_anything(tmp_path: Path) -> None:
    write_frames(tmp_path, ["a.png"])
    chw = Tensor(FRAMES[3].transpose(2, 0, 1))
    source = [tmp_path / "a.png", FRAMES[1], Image.fromarray(FRAMES[2]), chw, str(tmp_path / "a.png")]
    check(open_video(source), [*FRAMES[:4], FRAMES[0]])
    check(open_video(tuple(FRAMES)), FRAMES)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no frames"),
        (np.zeros((0, 5, 5, 3), np.uint8), "no frames"),
        ([FRAMES[0], FRAMES[1], FRAMES[2][1:]], "frame 2 is 20x11 but frame 0 is 20x12"),
        ([FRAMES[0], 5], "frame 1: int is not a picture"),
        (np.zeros((4, 5, 6, 7), np.uint8), r"shape \(4, 5, 6, 7\) is not a video"),
        (np.zeros((4, 5), np.uint8), r"\[T, H, W, 3\]"),
    ],
)
def test_lists_and_arrays_that_are_no_videos(source: object, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        open_video(source)


def test_a_missing_file_in_a_list(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFoundError, match=r"frame 1: .*does not exist"):
        open_video([FRAMES[0], tmp_path / "nothing.png"])


def test_a_wrong_dtype_is_named_with_its_frame() -> None:
    with (
        open_video(np.zeros((2, 5, 5, 3), np.int64)) as reader,
        pytest.raises(VideoError, match=r"frame 1.*int64"),
    ):
        reader[1]


def test_a_frame_an_hour(tmp_path: Path) -> None:
    frames = [picture(i) for i in range(3)]
    with open_video(frames, fps=1 / 3600) as reader:
        assert reader.fps == Fraction(1, 3600)
        assert reader.timestamps.tolist() == [0, 3600, 7200]
    with VideoSink(tmp_path / "v.mp4", timestamps=[0, 3600, 7200]) as sink:
        for frame in frames:
            sink.write(frame)
    with open_video(tmp_path / "v.mp4") as reader:
        assert float(reader.fps) == pytest.approx(1 / 3600)
        np.testing.assert_allclose(reader.timestamps, [0, 3600, 7200])
