"""Clips made of one picture: swaying crops, pieces cut off, and targets that no looks explain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam2.data.pool import ClipPool, write_pool
from sam2.data.recipe import Recipe
from sam2.data.scenes import paint_still
from sam2.training import scenes
from sam2.training.scenes import SceneBatches, SceneOptions
from sam2.training.sway import SMALLEST, anything, cut_up, swaying


@given(st.integers(0, 2**31), st.integers(20, 96), st.integers(1, 9))
def test_a_swaying_camera_stays_in_the_scene(seed: int, side: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    first = (int(rng.integers(97 - side)), int(rng.integers(97 - side)), side)
    crops = swaying(first, 96, frames, rng)
    assert crops[0] == first
    assert len(crops) == frames
    for top, left, size in crops:
        assert 0 <= top <= 96 - size
        assert 0 <= left <= 96 - size
        assert 8 <= size <= 96


def test_most_cameras_move_and_some_stand_still() -> None:
    moving = [len(set(swaying((20, 20, 60), 128, 4, np.random.default_rng(s)))) > 1 for s in range(200)]
    assert 0.7 < np.mean(moving) < 0.9


def test_cutting_changes_owners_but_no_target() -> None:
    cut = 0
    for seed in range(12):
        whole = paint_still(seed, 128, 0.4)
        pieced, pieces = cut_up(whole, np.random.default_rng(seed))
        cut += len(pieces)
        for before, after in zip(whole.targets, pieced.targets, strict=True):
            assert before.kind == after.kind
            assert np.array_equal(np.isin(whole.owners, before.owners), np.isin(pieced.owners, after.owners))
        for (piece,) in pieces:
            shown = pieced.owners[0] == piece
            assert shown.sum() >= SMALLEST
            origin = np.unique(whole.owners[0][shown])
            assert len(origin) == 1
            assert (pieced.owners[0] == origin[0]).sum() >= SMALLEST
            assert (whole.owners != piece).all()
    assert cut > 20


def test_regions_are_more_than_objects() -> None:
    painting, pieces = cut_up(paint_still(3, 128, 0.4), np.random.default_rng(0))
    shown = np.bincount(painting.owners.ravel(), minlength=256)
    rng = np.random.default_rng(1)
    drawn = [anything(painting.targets, pieces, shown, rng) for _ in range(300)]
    known = {tuple(sorted(t.owners)) for t in painting.targets}
    assert all(region and shown[list(region)].sum() >= SMALLEST for region in drawn)
    assert np.mean([region not in known for region in drawn]) > 0.5
    assert any(region in pieces for region in drawn)
    hidden = shown.copy()
    hidden[[n for piece in pieces for n in piece]] = 0
    assert not any(anything(painting.targets, pieces, hidden, rng) in pieces for _ in range(100))
    assert anything((), [], shown, rng) is None


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> ClipPool:
    return write_pool(tmp_path_factory.mktemp("pool") / "stills", Recipe(96, difficulty=(0.2, 0.5)), 4)


def test_stills_become_clips_in_which_targets_go_with_the_picture(stills: ClipPool) -> None:
    options = SceneOptions(batch=2, frames=3, objects=6, zoom=0.5, anything=0.5)
    batches = SceneBatches([stills], [options], 64, 5, 8)
    for k in range(8):
        batch = batches[k].batch
        assert batch.images.shape == (3, 2, 3, 64, 64)
        assert batch.by_mask is not None
        assert 2 <= int(batch.by_mask.sum()) <= 6
        assert batch.masks.shape[1] == len(batch.by_mask) == len(batch.picture)
        assert batch.masks[0].flatten(1).any(1).all()
        again = batches[k].batch
        assert torch.equal(batch.masks, again.masks)
        assert torch.equal(batch.images, again.images)


def test_no_target_of_a_clip_comes_twice(stills: ClipPool) -> None:
    # Seen whole, so that different targets show different pixels.
    options = SceneOptions(batch=1, frames=2, objects=20, parts=0.3, ground=0.2, crop=1.0, anything=0.5)
    batches = SceneBatches([stills], [options], 96, 5, 6)
    for k in range(6):
        batch = batches[k].batch
        assert batch.by_mask is not None
        for mine in (batch.by_mask, ~batch.by_mask):
            masks = [mask.numpy().tobytes() for mask in batch.masks[0, mine]]
            assert 1 < len(masks) == len(set(masks))


def test_a_scene_without_any_target_is_passed_over(stills: ClipPool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def late(*args: Any) -> tuple[int, ...] | None:
        asked.append(len(asked))
        return None if len(asked) <= 2 else anything(*args)

    monkeypatch.setattr(scenes, "anything", late)
    options = SceneOptions(batch=2, frames=2, objects=2, zoom=1.0, anything=1.0)
    batch = SceneBatches([stills], [options], 64, 5, 1)[0].batch
    assert len(asked) > 4
    assert set(batch.picture.tolist()) == {0, 1}


def test_without_a_swaying_camera_nothing_is_only_for_masks(stills: ClipPool) -> None:
    batch = SceneBatches([stills], [SceneOptions(batch=2, objects=6, anything=0.5)], 64, 5, 1)[0].batch
    assert batch.by_mask is None
