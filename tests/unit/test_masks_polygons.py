from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sam2.masks import geometry, polygons

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


def ring_with_hole() -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[1:8, 2:10] = True
    mask[3:5, 4:7] = False
    return mask


def blobs(seed: int = 0, size: int = 256) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).random((size, size)), 6) > 0.5


@given(MASKS)
def test_unsimplified_polygons_give_back_the_mask(mask: np.ndarray) -> None:
    traced = polygons.mask_to_polygons(mask)
    np.testing.assert_array_equal(polygons.polygons_to_mask(traced, mask.shape), mask)
    if traced:
        bridged = polygons.bridge(traced)
        np.testing.assert_array_equal(polygons.polygons_to_mask([bridged], mask.shape), mask)


@given(MASKS)
def test_polygons_are_the_connected_regions(mask: np.ndarray) -> None:
    traced = polygons.mask_to_polygons(mask)
    labels, count = ndimage.label(mask)
    assert len(traced) == count
    areas = [polygon.area for polygon in traced]
    assert areas == sorted(np.bincount(labels.ravel())[1:], reverse=True)
    background, _ = ndimage.label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))
    assert sum(len(polygon.holes) for polygon in traced) == len(np.unique(background[background > 1]))
    for polygon in traced:
        assert polygons.signed_area(polygon.outer) > 0
        assert all(polygons.signed_area(hole) < 0 for hole in polygon.holes)
        alone = polygons.polygons_to_mask([polygon], mask.shape)
        assert len(np.unique(labels[alone])) == 1
        for ring in polygon.rings:  # edges alternate, so that no corner is superfluous
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps[:, 0], 1) == 0)).all()


def test_rectangle_with_hole_by_hand() -> None:
    (polygon,) = polygons.mask_to_polygons(ring_with_hole())
    assert polygon.outer.tolist() == [[2, 1], [10, 1], [10, 8], [2, 8]]
    (hole,) = polygon.holes
    assert sorted(hole.tolist()) == [[4, 3], [4, 5], [7, 3], [7, 5]]
    assert polygon.area == 7 * 8 - 6
    assert polygons.mask_to_polygons(np.zeros((3, 3), bool)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (20_000, 100)])
def test_full_masks_are_one_rectangle(shape: tuple[int, int]) -> None:
    (polygon,) = polygons.mask_to_polygons(np.ones(shape, bool))
    height, width = shape
    assert polygon.outer.tolist() == [[0, 0], [width, 0], [width, height], [0, height]]


@given(st.integers(0, 50), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_simplified_outline_stays_within_the_tolerance(seed: int, tolerance: float) -> None:
    mask = blobs(seed, 48)
    exact = polygons.mask_to_polygons(mask)
    simple = polygons.mask_to_polygons(mask, tolerance)
    assert len(simple) == len(exact)
    changed = polygons.polygons_to_mask(simple, mask.shape) ^ mask
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~mask)
    assert np.maximum(inside, outside)[changed].max(initial=0) <= tolerance + 1
    assert sum(len(p.outer) for p in simple) <= sum(len(p.outer) for p in exact)


def test_simplifying_saves_corners_and_keeps_the_shape() -> None:
    y, x = np.mgrid[:200, :200]
    disc = np.hypot(x - 100, y - 100) < 80
    (exact,) = polygons.mask_to_polygons(disc)
    (simple,) = polygons.mask_to_polygons(disc, 1.0)
    assert len(simple.outer) < len(exact.outer) / 4
    assert geometry.iou(polygons.polygons_to_mask([simple], disc.shape), disc) > 0.98


def test_a_collapsing_part_stays_and_a_collapsing_hole_goes() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:18, 2:18] = True
    mask[8, 8] = False
    (polygon,) = polygons.mask_to_polygons(mask, 5.0)
    assert not polygon.holes
    lone = np.zeros((20, 20), bool)
    lone[3, 3] = True
    np.testing.assert_array_equal(
        polygons.polygons_to_mask(polygons.mask_to_polygons(lone, 5.0), lone.shape), lone
    )


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(3, 7), st.just(2)), elements=st.floats(-4, 16, width=32)),
)
def test_rasteriser_takes_pixel_centres_with_nonzero_winding(ring: np.ndarray) -> None:
    ring = np.round(ring, 1)
    height, width = 9, 12
    y, x = np.mgrid[:height, :width] + 0.5
    winding = np.zeros((height, width))
    clear = np.ones((height, width), bool)  # of the outline itself, where either answer would do
    for start, end in zip(ring, np.roll(ring, -1, axis=0)):
        a = np.arctan2(start[1] - y, start[0] - x)
        b = np.arctan2(end[1] - y, end[0] - x)
        turn = (b - a + np.pi) % (2 * np.pi) - np.pi
        clear &= np.pi - np.abs(turn) > 1e-6
        clear &= np.hypot(start[0] - x, start[1] - y) > 1e-6
        winding += turn
    mask = polygons.polygons_to_mask([ring], (height, width))
    np.testing.assert_array_equal(mask[clear], np.abs(winding[clear]) > np.pi)


def test_overlapping_polygons_are_united_even_over_a_hole() -> None:
    (outer,) = polygons.mask_to_polygons(ring_with_hole())
    patch = np.zeros((9, 12), bool)
    patch[2:6, 3:12] = True
    both = [outer, *polygons.mask_to_polygons(patch)]
    np.testing.assert_array_equal(polygons.polygons_to_mask(both, patch.shape), ring_with_hole() | patch)


def test_a_hole_outside_its_ring_turns_nothing_on() -> None:
    square = np.array([[1, 1], [5, 1], [5, 5], [1, 5]], float)
    poking = polygons.Polygon(square, (np.array([[4, 2], [8, 2], [8, 3], [4, 3]], float),))
    mask = polygons.polygons_to_mask([poking], (8, 10))
    assert mask.sum() == 15
    assert not mask[2, 4:].any()


def test_flat_lists_and_either_direction_are_rings() -> None:
    flat = [1, 1, 5, 1, 5, 4, 1, 4]
    expected = np.zeros((6, 7), bool)
    expected[1:4, 1:5] = True
    for ring in (flat, np.reshape(flat, (-1, 2))[::-1]):
        np.testing.assert_array_equal(polygons.polygons_to_mask([ring], (6, 7)), expected)
    assert not polygons.polygons_to_mask([], (6, 7)).any()


@pytest.mark.parametrize(
    "ring", [[[0, 0], [1, 1]], [0, 0, 1], [[0, 0, 1]] * 3, [[0, 0], [1, np.nan], [2, 2]]]
)
def test_malformed_rings_are_refused(ring: list) -> None:
    with pytest.raises(ValueError, match="ring"):
        polygons.polygons_to_mask([ring], (5, 5))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="tolerance"):
        polygons.mask_to_polygons(ring_with_hole(), -1)
    with pytest.raises(ValueError, match="empty"):
        polygons.bridge([])


def test_large_masks_round_trip() -> None:
    mask = blobs(1, 1024)
    traced = polygons.mask_to_polygons(mask)
    np.testing.assert_array_equal(polygons.polygons_to_mask(traced, mask.shape), mask)
    np.testing.assert_array_equal(polygons.polygons_to_mask([polygons.bridge(traced)], mask.shape), mask)
