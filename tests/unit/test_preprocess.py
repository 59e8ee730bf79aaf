"""Pictures in, masks out: resizing, coordinates, and frames made when asked for."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD, LazyFrames, SAM2Transforms

MEAN, STD = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Video:
    """A reader that counts and remembers what it is asked for."""

    def __init__(self, count: int, height: int = 6, width: int = 10) -> None:
        self.count, self.height, self.width = count, height, width
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self.closed = False

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> np.ndarray:
        self.asked.append(index)
        self.threads.add(threading.current_thread().name)
        return noise(self.height, self.width, index)

    def close(self) -> None:
        self.closed = True


# ---------------------------------------------------------------- photos


@pytest.mark.parametrize("shape", [(20, 30), (64, 64), (100, 7), (1, 1), (1, 500)])
def test_photo_is_resized_as_floats_and_normalised(shape):
    photo = noise(*shape)
    ours = SAM2Transforms(64, 0.0)(photo)
    pixels = torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, (64, 64), mode="bilinear", antialias=True, align_corners=False)[0]
    expected = (resized.permute(1, 2, 0).numpy() - MEAN) / STD
    np.testing.assert_allclose(ours.permute(1, 2, 0), expected, atol=1e-5)


def test_array_picture_and_tensor_are_one():
    photo = noise(20, 30)
    transforms = SAM2Transforms(32, 0.0)
    from_array = transforms(photo)
    assert torch.equal(transforms(Image.fromarray(photo)), from_array)
    chw = torch.from_numpy(photo).permute(2, 0, 1)
    assert torch.equal(transforms(chw), from_array)
    torch.testing.assert_close(transforms(chw.float() / 255), from_array)
    read_only = photo.copy()
    read_only.flags.writeable = False
    assert torch.equal(transforms(read_only), from_array)
    assert torch.equal(transforms(photo[:, :, ::-1][:, :, ::-1]), from_array)


def test_input_is_not_written_on():
    photo = torch.full((3, 8, 8), 0.5)
    SAM2Transforms(8, 0.0)(photo)
    assert torch.equal(photo, torch.full((3, 8, 8), 0.5))


def test_batch_of_mixed_sizes():
    photos = [noise(20, 30), noise(7, 5)]
    transforms = SAM2Transforms(32, 0.0)
    batch = transforms.forward_batch(photos)
    assert batch.shape == (2, 3, 32, 32)
    assert torch.equal(batch[1], transforms(photos[1]))


# ---------------------------------------------------------------- coordinates

sides = st.integers(1, 20_000)
shares = st.floats(0, 1, width=32)


@settings(max_examples=200, deadline=None)
@given(height=sides, width=sides, x=shares, y=shares, size=st.integers(1, 128))
def test_coordinates_round_trip(height, width, x, y, size):
    transforms = SAM2Transforms(16 * size, 0.0)
    pixels = torch.tensor([[x * width, y * height]])
    model = transforms.transform_coords(pixels, normalize=True, orig_hw=(height, width))
    assert ((model >= 0) & (model <= 16 * size * (1 + 1e-6))).all()
    back = model / (16 * size) * torch.tensor([width, height])
    torch.testing.assert_close(back, pixels, rtol=1e-5, atol=1e-4)
    by_shares = transforms.transform_coords(pixels / torch.tensor([width, height]))
    torch.testing.assert_close(by_shares, model)


def test_corners_map_to_corners():
    corners = torch.tensor([[0.0, 0.0], [640.0, 480.0], [640.0, 0.0]])
    out = SAM2Transforms(1024, 0.0).transform_coords(corners, normalize=True, orig_hw=(480, 640))
    assert out.tolist() == [[0, 0], [1024, 1024], [1024, 0]]


def test_boxes_become_corner_points():
    boxes = torch.tensor([[0.0, 0.0, 320.0, 240.0], [64.0, 48.0, 640.0, 480.0]])
    out = SAM2Transforms(100, 0.0).transform_boxes(boxes, normalize=True, orig_hw=(480, 640))
    assert out.tolist() == [[[0, 0], [50, 50]], [[10, 10], [100, 100]]]


def test_pixels_need_the_picture_size():
    with pytest.raises(ValueError, match="orig_hw"):
        SAM2Transforms(64, 0.0).transform_coords(torch.zeros(1, 2), normalize=True)


# ---------------------------------------------------------------- masks


def test_masks_are_enlarged_to_the_picture():
    low = torch.randn(2, 3, 16, 16)
    full = SAM2Transforms(64, 0.0).postprocess_masks(low.to(torch.bfloat16), (50, 71))
    assert full.shape == (2, 3, 50, 71)
    assert full.dtype == torch.float32


def test_holes_and_islands_go_before_the_resize():
    low = torch.full((1, 1, 16, 16), -5.0)
    low[..., 2:14, 2:10] = 5.0
    low[..., 6:8, 5:7] = -5.0  # a hole of 4
    low[..., 8, 13:15] = 5.0  # an island of 2
    hole, island = (slice(None), slice(None), 6, 5), (slice(None), slice(None), 8, 13)

    def clean(max_hole: float, max_island: float) -> torch.Tensor:
        return SAM2Transforms(64, 0.0, max_hole, max_island).postprocess_masks(low, (16, 16))

    assert torch.equal(clean(0, 0), low)
    assert clean(3, 1)[hole] == -5
    assert clean(4, 2)[hole] == 10
    assert clean(4, 2)[island] == -10
    assert clean(4, 0)[island] == 5


def test_threshold_moves_what_counts_as_hole():
    low = torch.full((1, 1, 8, 8), 3.0)
    low[..., 4, 4] = 1.0
    assert SAM2Transforms(32, 2.0, 1.0).postprocess_masks(low, (8, 8))[0, 0, 4, 4] == 12.0
    assert SAM2Transforms(32, 0.0, 1.0).postprocess_masks(low, (8, 8))[0, 0, 4, 4] == 1.0


# ---------------------------------------------------------------- frames


def test_frames_are_resized_by_pillow_and_normalised():
    frames = LazyFrames(Video(3), 16)
    assert (len(frames), frames.video_height, frames.video_width) == (3, 6, 10)
    expected = np.asarray(Image.fromarray(noise(6, 10, 2)).resize((16, 16)), np.float32) / 255
    np.testing.assert_allclose(frames[2].permute(1, 2, 0), (expected - MEAN) / STD, atol=1e-6)
    assert torch.equal(frames[-1], frames[2])
    assert frames[1:].shape == (2, 3, 16, 16)
    assert torch.equal(frames[1:][1], frames[2])


def test_own_mean_and_deviation():
    frames = LazyFrames(Video(1), 8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert frames[0].min() >= 0
    assert frames[0].max() <= 1


@pytest.mark.parametrize("index", [3, -4, 100])
def test_frames_end(index):
    with pytest.raises(IndexError, match=f"frame {index} of a video of 3"):
        LazyFrames(Video(3), 16)[index]


def test_cache_is_small_and_used():
    video = Video(20)
    frames = LazyFrames(video, 16, cache_size=2)
    for i in (0, 0, 1, 0, 2, 0, 1):
        frames[i]
    assert video.asked == [0, 1, 2, 1]  # 0 was used last when 2 came, so 1 went
    for i in range(20):
        frames[i]
    assert len(frames._cache) == 2
    with pytest.raises(ValueError, match="cache_size"):
        LazyFrames(video, 16, cache_size=0)


@pytest.mark.parametrize(
    ("planned", "asked"),
    [
        (range(8), range(8)),
        (range(7, -1, -1), range(7, -1, -1)),
        (range(8), [0, 5, 6, 5, 4, 3, 7, 0]),
        (range(3), range(8)),
        (range(8), [0, 1]),
    ],
)
def test_reading_ahead_changes_no_frame(planned, asked):
    plain, video = LazyFrames(Video(8), 16), Video(8)
    frames = LazyFrames(video, 16, cache_size=1, read_ahead=3)
    with frames.ahead(planned):
        for i in asked:
            assert torch.equal(frames[i], plain[i])
    assert not threads_of_reading()
    if planned == asked:
        assert video.asked == list(asked)  # each frame once
        assert video.threads == {"sam2-read-ahead_0"}


def threads_of_reading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_reading_ahead_is_bounded_and_passes_over_what_is_not_wanted():
    video = Video(40)
    frames = LazyFrames(video, 16, cache_size=1, read_ahead=3)
    with frames.ahead(range(40), lambda i: i >= 20):
        frames[20]
        time.sleep(0.1)
        assert video.asked == [20, 21, 22, 23]
        frames[30]  # a prompt on a frame that is far away leaves the others in their places
        frames[23]
        time.sleep(0.1)
        assert video.asked[4:] == [30, 24]
    assert video.asked[6:] == []


def test_reading_overlaps_the_work_of_who_asks():
    class Slow(Video):
        def __getitem__(self, index: int, /) -> np.ndarray:
            time.sleep(0.03)
            return super().__getitem__(index)

    began = time.perf_counter()
    for _ in LazyFrames(Slow(8), 16):
        time.sleep(0.03)
    assert time.perf_counter() - began < 8 * 0.06 * 0.85


def test_a_damaged_frame_ahead_hurts_only_who_asks_for_it():
    class Damaged(Video):
        def __getitem__(self, index: int, /) -> np.ndarray:
            if index == 1:
                raise ValueError("frame 1 is damaged")
            return super().__getitem__(index)

    frames = LazyFrames(Damaged(3), 16)
    with frames.ahead(range(3)):
        assert frames[0].shape == (3, 16, 16)
        with pytest.raises(ValueError, match="frame 1 is damaged"):
            frames[1]
        assert frames[2].shape == (3, 16, 16)


def test_closing_in_the_middle_ends_the_threads():
    frames = LazyFrames(Video(8), 16)
    with frames.ahead(range(8)):
        frames[0]
        frames.close()
        assert not threads_of_reading()
        assert frames[1].shape == (3, 16, 16)  # the reader is the caller's


def test_two_blocks_at_once_and_threads_in_them_get_their_frames():
    plain, frames = LazyFrames(Video(30), 16), LazyFrames(Video(30), 16, cache_size=1, read_ahead=2)
    turn, wrong = threading.Lock(), []

    def work(order: range) -> None:
        with frames.ahead(order):
            for i in order:
                with turn:  # as a session's lock does
                    if not torch.equal(frames[i], plain[i]):
                        wrong.append(i)

    threads = [threading.Thread(target=work, args=(o,)) for o in (range(30), range(29, 9, -1), range(5, 25))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not threads_of_reading()


def test_close_closes_the_reader_where_asked():
    for close_reader in (False, True):
        video = Video(2)
        frames = LazyFrames(video, 16, close_reader=close_reader)
        frames[0]
        frames.close()
        assert video.closed == close_reader


class Still(Video):
    """A reader without state, so that it can be pickled."""


def test_frames_can_be_pickled():
    frames = LazyFrames(Still(3), 16)
    first = frames[0]
    copy = pickle.loads(pickle.dumps(frames))
    assert torch.equal(copy[0], first)
    frames.close()
    copy.close()
