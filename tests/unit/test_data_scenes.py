"""Generated stills and clips: the same for the same seed, sound, and what they promise to contain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2.data.clip import Clip
from sam2.data.motion import generate_clip, paint_clip
from sam2.data.scenes import generate_still, make_scene, paint_still
from sam2.data.targets import faintest_area, smallest_area
from sam2.data.things import Style
from sam2.data.vocabulary import VOCABULARY

SEEDS = range(12)


def test_a_still_follows_from_its_seed_alone() -> None:
    first = generate_still(5, 96, 0.8)
    generate_still(6, 96, 0.8)
    again = generate_still(5, 96, 0.8)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.frames, generate_still(6, 96, 0.8).frames)


def test_a_clip_follows_from_its_seed_alone() -> None:
    first, again = generate_clip(3, 64, 5, 0.9), generate_clip(3, 64, 5, 0.9)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    size=st.sampled_from([32, 64, 100, 160]),
    difficulty=st.floats(0, 1),
    length=st.sampled_from([1, 1, 3]),
)
def test_any_scene_is_sound(seed: int, size: int, difficulty: float, length: int) -> None:
    clip = (
        generate_still(seed, size, difficulty)
        if length == 1
        else generate_clip(seed, size, length, difficulty)
    )
    assert clip.frames.shape == (length, size, size, 3)
    assert clip.masks.shape == (length, len(clip.object_ids), size, size)
    assert len(set(clip.object_ids)) == len(clip.object_ids)
    areas = clip.masks.sum((2, 3))
    assert np.all(areas.max(0) >= smallest_area(size))
    assert np.all((areas == 0) | (areas >= faintest_area(size)) | (length == 1))


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_every_scene_has_targets_one_can_see(difficulty: float) -> None:
    for seed in SEEDS:
        still = generate_still(seed, 96, difficulty)
        assert len(still.object_ids) >= 1
        assert still.frames.std() > 3


def test_easy_targets_stand_off_from_the_ground() -> None:
    gaps = []
    for seed in SEEDS:
        painting = paint_still(seed, 96, 0.0)
        frame = painting.frames[0].astype(float)
        ground = np.median(frame[painting.owners[0] == 1], 0)
        for target in painting.targets:
            if target.kind == "whole":
                inside = np.median(frame[np.isin(painting.owners[0], target.owners)], 0)
                gaps.append(np.abs(inside - ground).max())
    assert np.median(gaps) > 60
    assert np.mean(np.array(gaps) < 15) < 0.1


def test_harder_scenes_hold_more_and_smaller_objects() -> None:
    def objects(difficulty: float) -> tuple[float, float]:
        counts, areas = [], []
        for seed in range(40):
            actors = [a for a in make_scene(seed, difficulty).actors if not a.stuff]
            counts.append(len(actors))
            areas += [a.scale for a in actors]
        return float(np.mean(counts)), float(np.quantile(areas, 0.2))

    (few, large), (many, small) = objects(0.0), objects(1.0)
    assert many > few + 2
    assert small < 0.6 * large


def test_targets_are_wholes_parts_groups_and_ground_and_parts_lie_in_wholes() -> None:
    kinds = set()
    for seed in range(30):
        painting = paint_still(seed, 64, 1.0)
        kinds |= {target.kind for target in painting.targets}
        wholes = [set(t.owners) for t in painting.targets if t.kind in ("whole", "group")]
        for target in painting.targets:
            if target.kind == "part":
                clip_of_part = set(target.owners)
                assert all(clip_of_part <= w or not (clip_of_part & w) for w in wholes)
    assert kinds == {"whole", "part", "group", "ground"}


def test_owner_numbers_give_the_same_masks_as_sets_of_pixels() -> None:
    painting = paint_still(2, 96, 0.9)
    clip = painting.clip(max_targets=100)
    assert len(clip.object_ids) == len(painting.targets)
    for mask, target in zip(clip.masks[0], painting.targets):
        assert np.array_equal(mask, np.isin(painting.owners[0], target.owners))


def test_fewer_targets_asked_for_are_whole_objects_first() -> None:
    for seed in SEEDS:
        painting = paint_still(seed, 96, 1.0)
        wholes = sum(target.kind == "whole" for target in painting.targets)
        clip = painting.clip(max_targets=2)
        assert len(clip.object_ids) == min(2, len(painting.targets))
        if wholes >= 2:
            every = [np.isin(painting.owners[0], t.owners) for t in painting.targets if t.kind == "whole"]
            assert all(any(np.array_equal(mask, w) for w in every) for mask in clip.masks[0])


def test_clips_move_hide_and_lose_their_objects() -> None:
    moved = vanished = returned = 0
    for seed in range(12):
        clip = generate_clip(seed, 64, 8, 0.9)
        there = clip.masks.any((2, 3))
        moved += sum(
            bool((clip.masks[0, n] ^ clip.masks[-1, n]).sum() > 0.3 * clip.masks[0, n].sum() > 0)
            for n in range(there.shape[1])
        )
        vanished += int((~there[1:] & there[:-1]).any(0).sum())
        returned += int((there[2:] & ~there[1:-1] & there[0]).any(0).sum())
    assert moved > 20
    assert vanished > 8
    assert returned > 1


def test_easy_clips_have_a_still_camera() -> None:
    for seed in range(6):
        painting = paint_clip(seed, 64, 4, 0.0)
        ground = (painting.owners == 1).all(0)
        frames = painting.frames.astype(int)[:, ground]
        # Shadows of moving objects may pass over the ground; most of it stays as it was.
        assert np.mean(np.abs(frames[-1] - frames[0]).max(1) <= 3) > 0.7


@pytest.mark.parametrize("builder", VOCABULARY, ids=lambda b: getattr(b, "__name__", "object"))
def test_every_builder_draws_within_reach(builder) -> None:
    for seed in range(5):
        rng = np.random.Generator(np.random.PCG64(seed))
        parts = builder(rng, Style(rng, 0.7))
        assert 1 <= len(parts) <= 60
        assert not parts[0].clip
        for part in parts:
            assert part.stamp is not None or part.rings
            assert all(np.isfinite(ring).all() and np.abs(ring).max() < 4 for ring in part.rings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difficulty": 1.5}, "difficulty must be between 0 and 1, not 1.5"),
        ({"size": 8}, "size must be at least 16 pixels, not 8"),
    ],
)
def test_what_no_scene_can_be_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_still(0, **arguments)
    with pytest.raises(ValueError, match=message):
        generate_clip(0, **arguments)


def test_a_clip_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="length must be at least 1 frame, not 0"):
        generate_clip(0, length=0)


def test_a_clip_checks_its_arrays() -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="masks must be bool"):
        Clip(frames, np.zeros((1, 1, 8, 8), np.bool_), (1,))
    with pytest.raises(ValueError, match="frames must be uint8"):
        Clip(frames.astype(float), np.zeros((2, 1, 8, 8), np.bool_), (1,))
