"""Connected components against SciPy's twin and a flood fill, and what is done with small ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sam2.ops import connected_components, fill_small_regions
from sam2.ops.components import components_scipy, components_torch, small_components

masks = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9))


def flood_fill(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The definition, pixel by pixel."""
    labels, areas = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
    found = 0
    for start in zip(*np.nonzero(mask)):
        if labels[start]:
            continue
        found += 1
        todo, seen = [start], {start}
        while todo:
            y, x = todo.pop()
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
                if inside and mask[near] and near not in seen:
                    seen.add(near)
                    todo.append(near)
        for pixel in seen:
            labels[pixel], areas[pixel] = found, len(seen)
    return labels, areas


def spiral(size: int) -> np.ndarray:
    """One winding path, a pixel wide, with a pixel between its turns."""
    mask = np.zeros((size, size), bool)
    y = x = 0
    dy, dx = 0, 1
    mask[0, 0] = True
    turns = 0
    while turns < 2:
        ny, nx, ay, ax = y + dy, x + dx, y + 2 * dy, x + 2 * dx
        blocked = not (0 <= ny < size and 0 <= nx < size)
        blocked = blocked or (0 <= ay < size and 0 <= ax < size and mask[ay, ax])
        if blocked:
            dy, dx, turns = dx, -dy, turns + 1
            continue
        y, x, turns = ny, nx, 0
        mask[y, x] = True
    return mask


@pytest.mark.parametrize("components", [components_scipy, components_torch])
@settings(max_examples=80, deadline=None)
@given(batch=masks)
def test_equals_a_flood_fill(components, batch):
    labels, areas = components(torch.from_numpy(batch)[:, None])
    assert labels.dtype == areas.dtype == torch.int32
    for i, mask in enumerate(batch):
        expected_labels, expected_areas = flood_fill(mask)
        np.testing.assert_array_equal(labels[i, 0], expected_labels)
        np.testing.assert_array_equal(areas[i, 0], expected_areas)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.42, 0.6, 0.95])
def test_twins_agree_on_large_masks(density):
    mask = torch.rand(3, 1, 65, 130, generator=torch.Generator().manual_seed(0)) < density
    for ours, twin in zip(components_torch(mask), components_scipy(mask)):
        assert torch.equal(ours, twin)


def test_a_winding_component_is_one():
    mask = torch.from_numpy(spiral(63))[None, None]
    labels, areas = components_torch(mask)
    assert labels.max() == 1
    assert areas.max() == mask.sum()


def test_diagonal_neighbours_touch():
    checkers = torch.from_numpy(np.indices((8, 8)).sum(0) % 2 == 0)[None, None]
    labels, areas = connected_components(checkers)
    assert labels.max() == 1
    assert set(areas.unique().tolist()) == {0, 32}


def test_masks_of_a_batch_do_not_touch():
    labels, areas = components_torch(torch.ones(2, 1, 3, 3, dtype=torch.uint8))
    assert set(labels.unique().tolist()) == {1}
    assert set(areas.unique().tolist()) == {9}


@pytest.mark.parametrize("components", [components_scipy, components_torch])
def test_no_masks_and_empty_masks(components):
    assert components(torch.zeros(0, 1, 4, 5))[0].shape == (0, 1, 4, 5)
    labels, areas = components(torch.zeros(2, 1, 4, 5))
    assert not labels.any()
    assert not areas.any()


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[N, 1, H, W\], got \[4, 5\]"):
        connected_components(torch.zeros(4, 5))


@settings(max_examples=60, deadline=None)
@given(mask=masks, hole=st.integers(0, 6), island=st.integers(0, 6))
def test_small_regions_are_judged_by_area(mask, hole, island):
    logits = torch.where(torch.from_numpy(mask), 3.0, -3.0)
    before = logits.clone()
    result = fill_small_regions(logits, 0.0, hole, island, 10.0)
    assert torch.equal(logits, before)
    for plane, ours in zip(mask, result):
        _, hole_areas = flood_fill(~plane)
        _, island_areas = flood_fill(plane)
        expected = np.where(plane, 3.0, -3.0)
        expected[(hole_areas > 0) & (hole_areas <= hole)] = 10.0
        expected[(island_areas > 0) & (island_areas <= island)] = -10.0
        np.testing.assert_array_equal(ours, expected)


@settings(deadline=None)
@given(batch=masks, limit=st.integers(1, 9))
def test_small_components_are_those_of_few_pixels(batch, limit):
    mask = torch.from_numpy(batch)[:, None]
    _, areas = components_scipy(mask)
    assert torch.equal(small_components(mask, limit), (areas > 0) & (areas <= limit))


@pytest.mark.parametrize("density", [0.3, 0.5, 0.6])
def test_small_components_of_large_masks(density):
    mask = torch.from_numpy(np.random.RandomState(5).rand(3, 1, 128, 96) < density)
    _, areas = components_scipy(mask)
    assert torch.equal(small_components(mask, 8), (areas > 0) & (areas <= 8))


def test_zero_logits_are_background():
    logits = torch.ones(5, 5)
    logits[2, 2] = 0.0
    assert fill_small_regions(logits, 0.0, 1, 0, 0.5)[2, 2] == 0.5
