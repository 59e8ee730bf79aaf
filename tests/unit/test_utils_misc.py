"""The published helpers of `sam2.utils.misc`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from sam2.utils import misc
from sam2.utils.transforms import SAM2Transforms


def write_clip(folder, count=3, height=12, width=20):
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05d}.png")


@settings(max_examples=60, deadline=None)
@given(masks=arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)))
def test_mask_to_box(masks):
    boxes = misc.mask_to_box(torch.from_numpy(masks)[:, None])
    assert boxes.shape == (len(masks), 1, 4)
    height, width = masks.shape[1:]
    for mask, box in zip(masks, boxes[:, 0].tolist()):
        y, x = np.nonzero(mask)
        expected = [x.min(), y.min(), x.max(), y.max()] if len(x) else [width, height, -1, -1]
        assert box == expected


def test_fill_holes_gives_small_holes_a_small_score():
    scores = torch.full((1, 1, 9, 9), 4.0)
    scores[..., 1, 1] = -2.0
    scores[..., 4:7, 4:7] = -3.0
    filled = misc.fill_holes_in_mask_scores(scores, 8)
    assert filled[0, 0, 1, 1] == pytest.approx(0.1)
    assert filled[0, 0, 5, 5] == -3.0
    assert (filled[0, 0, 8] == 4.0).all()
    with pytest.raises(ValueError, match="max_area must be above 0"):
        misc.fill_holes_in_mask_scores(scores, 0)


def test_fill_holes_leaves_islands():
    scores = torch.full((1, 1, 9, 9), -4.0)
    scores[..., 4, 4] = 4.0
    assert torch.equal(misc.fill_holes_in_mask_scores(scores, 8), scores)


def test_concat_points():
    first = misc.concat_points(None, torch.zeros(1, 2, 2), torch.ones(1, 2))
    both = misc.concat_points(first, torch.ones(1, 1, 2), torch.zeros(1, 1))
    assert both["point_coords"].tolist() == [[[0, 0], [0, 0], [1, 1]]]
    assert both["point_labels"].tolist() == [[1, 1, 0]]


def test_connected_components_and_transforms_have_their_published_homes():
    _, areas = misc.get_connected_components(torch.ones(1, 1, 2, 3))
    assert areas.unique().tolist() == [6]
    assert SAM2Transforms(resolution=32, mask_threshold=0.0).resolution == 32
    assert all(isinstance(setting, bool) for setting in misc.get_sdpa_settings())


def test_load_img_as_tensor_does_not_normalise(tmp_path):
    write_clip(tmp_path, 1)
    image, height, width = misc._load_img_as_tensor(tmp_path / "00000.png", 16)
    assert (image.shape, height, width) == ((3, 16, 16), 12, 20)
    resized = Image.open(tmp_path / "00000.png").resize((16, 16))
    np.testing.assert_allclose(image.permute(1, 2, 0) * 255, np.asarray(resized), atol=1e-4)


@pytest.mark.parametrize("async_loading_frames", [False, True])
def test_load_video_frames_is_lazy(tmp_path, async_loading_frames):
    write_clip(tmp_path)
    frames, height, width = misc.load_video_frames(
        str(tmp_path), 16, True, async_loading_frames=async_loading_frames
    )
    assert (len(frames), height, width) == (3, 12, 20)
    image, _, _ = misc._load_img_as_tensor(tmp_path / "00002.png", 16)
    raw, _, _ = misc.load_video_frames(tmp_path, 16, True, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    torch.testing.assert_close(raw[2], image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(frames[2], (image - mean[:, None, None]) / std[:, None, None])
    frames.close()


def test_loader_of_folders_refuses_a_file(tmp_path):
    write_clip(tmp_path)
    frames, _, _ = misc.load_video_frames_from_jpg_images(tmp_path, 16, True)
    assert len(frames) == 3
    with pytest.raises(ValueError, match="is not a folder"):
        misc.load_video_frames_from_jpg_images(tmp_path / "00000.png", 16, True)


def test_device(tmp_path):
    write_clip(tmp_path)
    frames, _, _ = misc.load_video_frames(tmp_path, 16, False, compute_device="meta")
    assert frames[0].device.type == "meta"
    offloaded, _, _ = misc.load_video_frames(tmp_path, 16, True, compute_device="meta")
    assert offloaded[0].device.type == "cpu"
