"""Pictures and videos that exports make: read back with Pillow and PyAV."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import video_samples
from formats_helpers import NAMES, SIZE, TIMES, frames_of, mask_of, picture_of, source_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sam2.formats import Found, FrameMasks, ObjectInfo, export
from sam2.masks import background
from sam2.video import open_video


def written(name: str, folder: Path, is_video: bool = True, **options: Any) -> Path:
    return export(name, folder, source_of(is_video), frames_of(is_video), options)


def decoded(path: Path, form: str) -> tuple[list[np.ndarray], list[float]]:
    """Frames and times as PyAV gives them; alpha of VP9 by the decoder that knows it."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else None
        frames, times = [], []
        for packet in container.demux(stream):
            for frame in decoder.decode(packet) if decoder else packet.decode():
                frames.append(frame.to_ndarray(format=form))
                times.append(float(frame.pts * stream.time_base))
    return frames, times


@pytest.mark.parametrize("container", ["webm", "mov"])
def test_videos_of_one_object_keep_its_alpha(tmp_path: Path, container: str) -> None:
    folder = written("cutout", tmp_path, container=container)
    assert {path.name for path in folder.iterdir()} == {f"{key}.{container}" for key in NAMES}
    for key in NAMES:
        frames, times = decoded(folder / f"{key}.{container}", "rgba")
        assert times == pytest.approx(TIMES, abs=2e-3)
        for index, frame in enumerate(frames):
            assert frame.shape == (*SIZE, 4)
            mask = mask_of(key, index)
            assert np.abs(frame[..., 3].astype(int) - mask * 255).mean() < 6
            if mask.any():
                inside = frame[mask][:, :3].astype(int)
                assert np.abs(inside - picture_of(index)[mask]).mean() < 16


def test_all_objects_in_one_cut_out(tmp_path: Path) -> None:
    folder = written("cutout", tmp_path, together=True)
    for index in range(5):
        with Image.open(folder / f"all/{index:05d}.png") as cut:
            rgba = np.asarray(cut)
        union = mask_of(3, index) | mask_of(300, index)
        np.testing.assert_array_equal(rgba[..., 3] == 255, union)
        np.testing.assert_array_equal(rgba[..., :3][union], picture_of(index)[union])


def test_a_cropped_cut_out_has_the_size_of_its_object(tmp_path: Path) -> None:
    folder = written("cutout", tmp_path, is_video=False, crop=True)
    rows, columns = np.nonzero(mask_of(3, 0))
    with Image.open(folder / "3.png") as cut:
        assert cut.size == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    with Image.open(folder / "7.png") as empty:  # nothing to crop to
        assert empty.size == (SIZE[1], SIZE[0])
        assert not np.asarray(empty).any()


def test_too_many_encoders_are_refused(tmp_path: Path) -> None:
    many = source_of(objects={key: ObjectInfo() for key in range(1, 40)})
    with pytest.raises(ValueError, match=r"39 videos.*together=true"):
        export("cutout", tmp_path, many, frames_of(), {"container": "webm"})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "color", "color": "#ff8000"}, lambda _: np.full((*SIZE, 3), (255, 128, 0))),
        ({"mode": "grey"}, lambda index: background.grey(picture_of(index))),
    ],
)
def test_the_background_of_a_picture_is_changed_and_the_object_is_not(tmp_path, options, expected) -> None:
    path = written("background", tmp_path, is_video=False, soft=0, **options)
    with Image.open(path) as picture:
        found = np.asarray(picture)
    keep = mask_of(3, 0) | mask_of(300, 0)
    np.testing.assert_array_equal(found[keep], picture_of(0)[keep])
    np.testing.assert_array_equal(found[~keep], expected(0)[~keep])


def test_another_picture_covers_the_background_of_a_video(tmp_path: Path) -> None:
    wide = np.zeros((20, 100, 3), np.uint8)
    wide[:, 40:60] = (0, 200, 0)  # what remains when the sides are cut off
    Image.fromarray(wide).save(tmp_path / "wide.png")
    path = written("background", tmp_path / "o", mode="picture", picture=str(tmp_path / "wide.png"), soft=0)
    with open_video(path) as reader:
        assert reader.num_frames == 5
        assert reader.timestamps == pytest.approx(np.array(TIMES), abs=2e-3)
        last = reader[4][: SIZE[0], : SIZE[1]]
    assert abs(int(last[2, 20, 1]) - 200) < 12
    assert last[2, 20, 0] < 25
    with pytest.raises(ValueError, match="option picture"):
        written("background", tmp_path / "p", mode="picture")


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.5, 30), st.integers(0, 255))
def test_blur_leaves_one_colour_alone_whatever_is_kept(h: int, w: int, radius: float, value: int) -> None:
    """What is kept does not shine into its surroundings."""
    keep = np.random.default_rng(h * w).random((h, w)) < 0.3
    picture = np.full((h, w, 3), value, np.uint8)
    picture[keep] = 255 - value
    blurred = background.blurred(picture, keep, radius).astype(int)
    near = blurred[~keep] if keep.mean() < 0.5 else np.array([value])
    assert np.abs(near - value).max(initial=0) <= 1


def test_blur_and_softness_smooth_as_far_as_asked() -> None:
    y, x = np.mgrid[:200, :200]
    stripes = np.repeat((((x // 4) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    keep = (x - 100) ** 2 + (y - 100) ** 2 < 900
    blurred = background.blurred(stripes, keep, 12)
    assert blurred[:40, 40:-40].astype(int).std() < 8
    composed = background.composed(stripes, keep, blurred, soft=2)
    inside = (x - 100) ** 2 + (y - 100) ** 2 < 400
    np.testing.assert_array_equal(composed[inside], stripes[inside])
    with pytest.raises(ValueError, match="10x10"):
        background.composed(stripes, keep, np.zeros((10, 10, 3), np.uint8), 0)


def test_overlays_take_the_colours_of_the_objects(tmp_path: Path) -> None:
    objects = {3: ObjectInfo(color=(255, 0, 0))}
    source = source_of(is_video=False, objects=objects)
    frames = [FrameMasks(0, "photo.jpg", None, {3: Found.of(mask_of(3, 0), 0.9, None)})]
    path = export("overlay", tmp_path, source, frames, {"opacity": 1, "outline": "false"})
    with Image.open(path) as picture:
        drawn = np.asarray(picture)
    np.testing.assert_array_equal((drawn == (255, 0, 0)).all(axis=2), mask_of(3, 0))
    np.testing.assert_array_equal(drawn[~mask_of(3, 0)], picture_of(0)[~mask_of(3, 0)])


def test_an_overlay_may_be_a_small_gif(tmp_path: Path) -> None:
    path = written("overlay", tmp_path, container="gif", gif_width=20)
    assert path.name == "overlay.gif"
    frames, times = decoded(path, "rgb24")
    assert times == pytest.approx(TIMES, abs=6e-3)
    assert {frame.shape for frame in frames} == {(15, 20, 3)}


@pytest.mark.parametrize("size", [(41, 30), (1, 1), (64, 19)])
def test_videos_of_every_shape_keep_their_times(tmp_path: Path, size: tuple[int, int]) -> None:
    """Portrait, odd and tiny, with uneven times; H.264 doubles an odd last row or column."""
    source = source_of(
        size=size, picture=lambda _: np.full((*size, 3), 90, np.uint8), objects={1: ObjectInfo()}
    )
    frames = [
        FrameMasks(i, f"{i}.png", when, {1: Found.of(np.ones(size, bool), 1.0, None)} if i % 2 else {})
        for i, when in enumerate(TIMES)
    ]
    for name in ("overlay", "background"):
        with open_video(export(name, tmp_path, source, frames)) as reader:
            assert reader.timestamps == pytest.approx(np.array(TIMES), abs=2e-3)
            assert (reader.height, reader.width) == tuple(side + side % 2 for side in size)


@pytest.mark.parametrize(
    ("name", "options", "made"),
    [("background", {}, "background.mp4"), ("cutout", {"container": "webm"}, "cutout/3.webm")],
)
def test_the_sound_of_the_source_stays(tmp_path: Path, name: str, options: dict, made: str) -> None:
    silent = video_samples.encode(tmp_path / "silent.mp4", [video_samples.picture(0)] * 5, rate=10)
    clip = video_samples.add_sound(tmp_path / "clip.mp4", silent, seconds=0.8)
    objects = {3: ObjectInfo()}
    export(name, tmp_path, source_of(sound=clip, objects=objects), frames_of(objects=objects), options)
    codec, samples, start = video_samples.sound_of(tmp_path / made)
    assert codec == ("opus" if options else "aac")
    assert start == pytest.approx(0, abs=0.03)
    assert np.abs(np.fft.rfft(samples)).argmax() * 48_000 / len(samples) == pytest.approx(440, abs=5)


def test_a_source_may_lie_about_nothing(tmp_path: Path) -> None:
    """An object that was not announced is refused by every format, and nothing remains."""
    source = dataclasses.replace(source_of(), objects={3: ObjectInfo()})
    for name in ("coco", "yolo", "cvat", "labelstudio", "csv", "cutout", "overlay"):
        with pytest.raises(ValueError, match="object 300 is not among"):
            export(name, tmp_path, source, frames_of())
        assert not any(tmp_path.iterdir())
