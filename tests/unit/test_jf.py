"""J and F: figures worked out by hand, and the evaluators' rules on which frames count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sam2.evaluation.jf import boundary_accuracy, clip_jf, mask_boundary, object_jf, region_similarity


def square(x: int, size: int = 10, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[20 : 20 + size, x : x + size] = True
    return mask


def test_region_similarity() -> None:
    assert region_similarity(square(10), square(10)) == 1
    assert region_similarity(square(10), square(15)) == pytest.approx(50 / 150)
    assert region_similarity(square(10) & False, square(10) & False) == 1
    assert region_similarity(square(10), square(10) & False) == 0


def test_boundary_tolerance_is_0_008_of_the_diagonal() -> None:
    # the diagonal is 100 pixels, so boundaries may be one pixel apart, not two
    assert boundary_accuracy(square(10), square(11)) == 1
    assert boundary_accuracy(square(10), square(12)) < 1
    assert boundary_accuracy(square(10), square(40)) == 0
    assert boundary_accuracy(square(10) & False, square(10) & False) == 1
    assert boundary_accuracy(square(10), square(10) & False) == 0


def test_boundary_accuracy_equals_a_dilating_twin() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = (ndimage.gaussian_filter(rng.standard_normal((90, 120)), 5) > 0.02 for _ in range(2))
        yy, xx = np.mgrid[-2:3, -2:3]
        disk = xx**2 + yy**2 <= 4  # ceil(0.008 * 150) = 2
        ea, eb = mask_boundary(a), mask_boundary(b)
        precision = (ea & ndimage.binary_dilation(eb, disk)).sum() / ea.sum()
        recall = (eb & ndimage.binary_dilation(ea, disk)).sum() / eb.sum()
        assert boundary_accuracy(a, b) == pytest.approx(2 * precision * recall / (precision + recall))


def test_first_and_last_frames_are_skipped() -> None:
    truth = np.stack([square(10)] * 4)
    pred = truth.copy()
    pred[0], pred[3] = False, False
    assert object_jf(pred, truth).jf == 100
    assert object_jf(pred, truth, skip=0).jf == 50


def test_an_object_counts_from_its_first_appearance_on() -> None:
    truth = np.zeros((6, 60, 80), np.uint8)
    truth[:, :5, :5] = 1
    truth[3:5][:, square(10)] = 2
    pred = truth.copy()
    pred[2][square(30)] = 2  # before object 2 exists: not its fault
    assert clip_jf(pred, truth)[2].j == 100
    pred[4] = 0
    assert clip_jf(pred, truth)[2].j == 50


def test_later_absence_counts() -> None:
    truth = np.stack([square(10), square(10), square(10) & False, square(10)])
    assert object_jf(np.stack([square(10)] * 4), truth).j == 50


def test_ids_only_predicted_are_ignored() -> None:
    truth = np.ones((3, 8, 8), np.uint8)
    assert list(clip_jf(truth + 1, truth)) == [1]


def test_bad_input() -> None:
    truth = np.stack([square(10)] * 4)
    with pytest.raises(ValueError, match="3 predicted frames but 4"):
        object_jf(truth[:3], truth)
    with pytest.raises(ValueError, match="nothing to score"):
        object_jf(truth[:2], truth[:2])
    with pytest.raises(ValueError, match=r"frame 1: the predicted mask is \(60, 40\)"):
        object_jf(truth[:, :, :40], truth)
