"""The simulated user: where clicks and boxes may fall."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2.prompts.simulate import (
    get_next_point,
    mask_boxes,
    sample_box_points,
    sample_one_point_from_error_center,
    sample_points_from_mask,
    sample_random_points_from_errors,
)
from sam2.prompts.types import Box, Mask, Points


def blobs(seed: int, count: int = 4, height: int = 13, width: int = 17) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 1, height, width)) > 0.6)


@given(seed=st.integers(0, 10**6), method=st.sampled_from(["uniform", "center"]))
@settings(max_examples=40, deadline=None)
def test_clicks_fall_on_errors_with_the_label_of_the_truth(seed: int, method: str) -> None:
    truth, pred = blobs(seed), blobs(seed + 1)
    points, labels = get_next_point(truth, pred, method)
    assert points.shape == (4, 1, 2)
    assert labels.shape == (4, 1)
    assert labels.dtype == torch.int32
    for i, ((x, y),) in enumerate(points.long().tolist()):
        assert truth[i, 0, y, x] != pred[i, 0, y, x]
        assert bool(labels[i, 0]) == bool(truth[i, 0, y, x])


def test_uniform_clicks_reach_every_wrong_pixel_equally() -> None:
    truth = torch.zeros(1, 1, 6, 7, dtype=torch.bool)
    truth[0, 0, 2:4, 3:6] = True
    pred = torch.zeros_like(truth)
    pred[0, 0, 3:6, 5] = True
    points, _ = sample_random_points_from_errors(truth, pred, 7000, torch.Generator().manual_seed(0))
    x, y = points[0].long().unbind(-1)
    counts = torch.bincount(y * 7 + x, minlength=42).reshape(6, 7)
    wrong = (truth ^ pred)[0, 0]
    assert int(wrong.sum()) == 7
    assert bool((counts[~wrong] == 0).all())
    assert int(counts[wrong].min()) > 850
    assert int(counts[wrong].max()) < 1150


def test_a_right_prediction_gets_a_negative_click_on_the_background() -> None:
    truth = blobs(3)
    points, labels = get_next_point(truth, truth, "uniform")
    x, y = points[:, 0].long().unbind(-1)
    assert not truth[torch.arange(4), 0, y, x].any()
    assert not labels.any()


def test_points_from_a_mask_are_positive_and_negative_without_one() -> None:
    masks = blobs(5)
    masks[2] = False
    _, labels = sample_points_from_mask(masks, 3)
    assert labels.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]]


def test_the_centre_click_is_the_middle_of_the_largest_error() -> None:
    truth = torch.zeros(2, 1, 40, 40, dtype=torch.bool)
    truth[:, 0, 10:31, 5:26] = True
    pred = torch.zeros_like(truth)
    pred[1, 0, 10:31, 5:26] = True
    pred[1, 0, 2:5, 30:33] = True
    points, labels = sample_one_point_from_error_center(truth, pred)
    assert points[:, 0].tolist() == [[15, 20], [31, 3]]
    assert labels[:, 0].tolist() == [1, 0]


def test_the_border_is_an_edge_only_with_padding() -> None:
    truth = torch.zeros(1, 1, 21, 21, dtype=torch.bool)
    truth[..., :11] = True
    inner, _ = sample_one_point_from_error_center(truth, None)
    border, _ = sample_one_point_from_error_center(truth, None, padding=False)
    assert inner[0, 0, 0] == 5
    assert border[0, 0, 0] == 0


def test_centre_click_without_any_error_or_background() -> None:
    full = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    assert sample_one_point_from_error_center(full, None, padding=False)[1].tolist() == [[1]]
    assert sample_one_point_from_error_center(full, full)[0].tolist() == [[[4, 4]]]
    assert sample_one_point_from_error_center(~full, ~full)[1].tolist() == [[0]]


def test_boxes_fit_and_noise_is_bounded() -> None:
    masks = torch.zeros(2, 1, 50, 60, dtype=torch.bool)
    masks[0, 0, 10:20, 5:45] = True
    assert mask_boxes(masks).tolist() == [[5, 10, 44, 19], [0, 0, 59, 49]]
    exact, labels = sample_box_points(masks, noise=0)
    assert exact[0].tolist() == [[5, 10], [44, 19]]
    assert labels.tolist() == [[2, 3], [2, 3]]
    for seed in range(30):
        noisy, _ = sample_box_points(
            masks, noise=0.1, noise_bound=3, generator=torch.Generator().manual_seed(seed)
        )
        moved = (noisy[0] - exact[0]).abs().amax(dim=0)
        assert float(moved[0]) <= 3
        assert float(moved[1]) <= 1
        assert float(noisy.min()) >= 0


def test_a_generator_repeats_its_clicks() -> None:
    truth, pred = blobs(1), blobs(2)
    draws = [
        sample_random_points_from_errors(truth, pred, 5, torch.Generator().manual_seed(4))[0]
        for _ in range(2)
    ]
    assert torch.equal(*draws)


def test_bad_input_is_named() -> None:
    truth = blobs(1)
    with pytest.raises(ValueError, match="unknown click method 'centre'"):
        get_next_point(truth, None, "centre")
    with pytest.raises(ValueError, match="must be bool"):
        get_next_point(truth.float(), None, "uniform")
    with pytest.raises(ValueError, match="pred_masks must be bool"):
        get_next_point(truth, truth[:, :, 1:], "uniform")


def test_prompts_check_themselves() -> None:
    assert Points([3, 4]).coords.shape == (1, 2)
    assert Points([[1, 2], [3, 4]], [1, 0]).labels.tolist() == [1, 0]
    assert Box.of([1, 2, 3, 4]).array.tolist() == [1, 2, 3, 4]
    assert Mask(np.array([[0, 255]])).pixels.tolist() == [[False, True]]
    for make, words in (
        (lambda: Points([[1, float("nan")]]), "finite"),
        (lambda: Points([[1, 2]], [1, 0]), "1 points need 1 labels"),
        (lambda: Points([[1, 2]], [2]), "labels must be 1"),
        (lambda: Points([[1, 2, 3]]), "x, y"),
        (lambda: Points([[[1, 2]]]), "x, y"),
        (lambda: Box(3, 0, 3, 5), "is empty"),
        (lambda: Box.of([1, 2, 3]), "four numbers"),
        (lambda: Mask(np.zeros((2, 2, 2), bool)), r"\[H, W\]"),
        (lambda: Mask(np.array([[0.5, 0.2]])), "must be bool"),
        (lambda: Points([[30, 4]]).check_inside(10, 20), r"\(30, 4\) lies outside the picture of 20x10"),
        (lambda: Mask(np.zeros((2, 3), bool)).check_size(3, 3), "the mask is 3x2 but the picture is 3x3"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
