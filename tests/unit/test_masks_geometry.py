from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sam2.masks import geometry

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16))
BOXES = hnp.arrays(np.int64, st.tuples(st.integers(0, 4), st.just(4)), elements=st.integers(-5, 20))


@given(MASKS)
def test_box_is_that_of_the_pixels(mask: np.ndarray) -> None:
    y, x = np.nonzero(mask)
    if not len(x):
        assert geometry.mask_to_box(mask) is None
        assert geometry.mask_to_xywh(mask) == (0, 0, 0, 0)
        assert geometry.centroid(mask) is None
        assert geometry.interior_point(mask) is None
        return
    assert geometry.mask_to_box(mask) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert geometry.mask_to_xywh(mask) == (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
    assert geometry.centroid(mask) == pytest.approx((x.mean(), y.mean()))
    assert geometry.area(mask) == len(x)


@given(MASKS)
def test_interior_point_is_farthest_from_every_pixel_outside(mask: np.ndarray) -> None:
    point = geometry.interior_point(mask)
    if point is None:
        assert not mask.any()
        return
    outside = np.argwhere(~np.pad(mask, 1)) - 1

    def depth(y: int, x: int) -> float:
        return np.hypot(*(outside - (y, x)).T).min()

    x, y = point
    assert mask[y, x]
    assert depth(y, x) == pytest.approx(max(depth(*pixel) for pixel in np.argwhere(mask)))


@given(BOXES, BOXES)
def test_box_iou_counts_pixels(boxes_a: np.ndarray, boxes_b: np.ndarray) -> None:
    def pixels(box: np.ndarray) -> set[tuple[int, int]]:
        x0, y0, x1, y1 = box
        return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}

    result = geometry.box_iou(boxes_a, boxes_b)
    assert result.shape == (len(boxes_a), len(boxes_b))
    for i, a in enumerate(boxes_a):
        for j, b in enumerate(boxes_b):
            union = pixels(a) | pixels(b)
            expected = len(pixels(a) & pixels(b)) / len(union) if union else 0
            assert result[i, j] == pytest.approx(expected)


def test_mask_iou() -> None:
    a = np.zeros((4, 4), bool)
    a[:2] = True
    b = np.zeros((4, 4), bool)
    b[1:3] = True
    assert geometry.iou(a, b) == pytest.approx(1 / 3)
    assert geometry.iou(a, ~a) == 0
    assert geometry.iou(a & ~a, b & ~b) == 1
    with pytest.raises(ValueError, match="different sizes"):
        geometry.iou(a, b[:2])


@given(MASKS)
def test_boundary_is_what_erosion_takes(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(geometry.boundary(mask), mask & ~ndimage.binary_erosion(mask))


@given(MASKS, st.sampled_from([0, 1, 1.5, 2, 3.2, 30]))
def test_dilate_and_erode_follow_the_distance(mask: np.ndarray, radius: float) -> None:
    grid = np.argwhere(np.ones_like(mask))
    on = np.argwhere(mask)
    distance = np.hypot(*(grid[:, None] - on[None]).transpose(2, 0, 1)).min(axis=1, initial=np.inf)
    np.testing.assert_array_equal(geometry.dilate(mask, radius), (distance <= radius).reshape(mask.shape))
    np.testing.assert_array_equal(geometry.erode(mask, radius), ~geometry.dilate(~mask, radius))


@given(MASKS, st.integers(0, 20), st.sampled_from(["holes", "islands"]))
def test_small_regions_go_and_large_ones_stay(mask: np.ndarray, area: int, mode: str) -> None:
    holes = mode == "holes"
    result, changed = geometry.remove_small_regions(mask, area, mode)
    labels, count = ndimage.label(mask ^ holes, structure=np.ones((3, 3)))
    regions = [labels == label for label in range(1, count + 1)]
    kept = [region for region in regions if region.sum() >= area]
    if not holes and not kept and regions:
        kept = [max(regions, key=np.sum)]
    expected = np.any(kept, axis=0) if kept else np.zeros_like(mask)
    np.testing.assert_array_equal(result ^ holes, expected)
    assert changed == bool((result != mask).any())


def test_clean_fills_before_it_drops() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:8, 1:8] = True
    mask[3, 3] = False
    mask[10, 10] = True
    cleaned = geometry.clean(mask, 5)
    expected = np.zeros_like(mask)
    expected[1:8, 1:8] = True
    np.testing.assert_array_equal(cleaned, expected)
    assert not mask[3, 3]


def test_options_out_of_range_are_refused() -> None:
    mask = np.eye(3, dtype=bool)
    with pytest.raises(ValueError, match="radius"):
        geometry.dilate(mask, -1)
    with pytest.raises(ValueError, match="islands"):
        geometry.remove_small_regions(mask, 3, "spots")  # type: ignore[arg-type]
