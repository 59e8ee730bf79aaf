"""Pools of scenes on disk, and streams of scenes from worker processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from sam2.data.pool import ClipPool, write_pool
from sam2.data.readers import check, open_dataset
from sam2.data.recipe import Recipe, SceneStream

STILLS = Recipe(size=48, difficulty=(0.2, 0.6), seed=4)
CLIPS = Recipe(size=32, length=3, difficulty=(0.0, 0.3))


def test_a_raw_pool_gives_back_what_the_recipe_paints(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, CLIPS, 5, codec="raw")
    assert len(pool) == 5
    for number in range(5):
        painted, read = CLIPS.paint(number), pool.painting(number)
        assert np.array_equal(painted.frames, read.frames)
        assert np.array_equal(painted.owners, read.owners)
        assert painted.targets == read.targets
        assert np.array_equal(painted.clip().masks, pool[number].masks)
        assert pool.difficulty(number) == pytest.approx(CLIPS.difficulty_at(number), abs=1e-4)


def test_a_jpeg_pool_keeps_masks_exactly_and_pictures_nearly(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, STILLS, 4)
    for number in range(4):
        painted, read = STILLS.paint(number).clip(), pool[number]
        assert np.array_equal(painted.masks, read.masks)
        assert np.abs(painted.frames.astype(int) - read.frames).mean() < 4


def test_a_window_of_a_clip_is_read_alone(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, CLIPS, 2, codec="raw")
    whole, window = pool.painting(1), pool.painting(1, frames=[1, 2])
    assert np.array_equal(window.frames, whole.frames[1:])
    assert np.array_equal(window.owners, whole.owners[1:])


def test_writing_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    write_pool(tmp_path, STILLS, 3)
    first = (tmp_path / "shard-00000.bin").stat().st_mtime_ns
    pool = write_pool(tmp_path, STILLS, 6)
    assert len(pool) == 6
    assert (tmp_path / "shard-00000.bin").stat().st_mtime_ns == first
    assert np.array_equal(pool[5].masks, STILLS.paint(5).clip().masks)


def test_a_pool_that_grows_is_seen_after_refresh(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, STILLS, 2)
    write_pool(tmp_path, STILLS, 4)
    assert len(pool) == 2
    assert pool.refresh() == 4
    assert pool[3].masks.shape[2:] == (48, 48)


def test_a_half_written_shard_is_not_read_and_written_again(tmp_path: Path) -> None:
    write_pool(tmp_path, STILLS, 2)
    (tmp_path / "shard-00001.bin").write_bytes(b"cut off")
    assert len(ClipPool(tmp_path)) == 2
    assert len(write_pool(tmp_path, STILLS, 4)) == 4
    shards = {f"shard-0000{n}.{kind}" for n in (0, 1) for kind in ("bin", "json")}
    assert {path.name for path in tmp_path.iterdir()} == {"pool.json", *shards}


def test_another_recipe_is_not_mixed_in(tmp_path: Path) -> None:
    write_pool(tmp_path, STILLS, 2)
    with pytest.raises(ValueError, match=r"another recipe \(seed\)"):
        write_pool(tmp_path, Recipe(size=48, difficulty=(0.2, 0.6), seed=5), 2)


def test_damage_names_the_shard(tmp_path: Path) -> None:
    write_pool(tmp_path, STILLS, 2)
    data = (tmp_path / "shard-00000.bin").read_bytes()
    (tmp_path / "shard-00000.bin").write_bytes(data[: len(data) // 3])
    with pytest.raises(ValueError, match=r"shard-00000.bin: scene 1 is damaged"):
        ClipPool(tmp_path)[1]
    (tmp_path / "shard-00000.json").write_text("[{")
    with pytest.raises(ValueError, match=r"shard-00000.json: damaged"):
        ClipPool(tmp_path)


def test_a_pool_is_a_data_set_like_others(tmp_path: Path) -> None:
    write_pool(tmp_path, CLIPS, 3, codec="raw")
    data = open_dataset(tmp_path)
    assert data.format == "pool"
    assert (len(data), data.num_frames(0)) == (3, 3)
    whole, part = data[2], data.load(2, [2, 0])
    assert np.array_equal(part.frames, whole.frames[[2, 0]])
    seen = whole.masks[[2, 0]].any((0, 2, 3))
    assert np.array_equal(part.masks, whole.masks[[2, 0]][:, seen])
    assert check(tmp_path) == []
    (tmp_path / "shard-00000.bin").write_bytes(b"nothing")
    assert len(check(tmp_path)) == 3


def test_a_recipe_is_a_source_of_clips() -> None:
    assert len(STILLS) == 2**31
    assert np.array_equal(STILLS[7].masks, STILLS.paint(7).clip().masks)
    assert not np.array_equal(STILLS[7].frames, Recipe(48, difficulty=(0.2, 0.6), seed=5)[7].frames)


def test_no_pool_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no pool"):
        ClipPool(tmp_path)


def test_a_pool_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, STILLS, 2)
    expected = pool[1].masks
    assert np.array_equal(pickle.loads(pickle.dumps(pool))[1].masks, expected)
    pool.close()
    assert np.array_equal(pool[1].masks, expected)


def test_difficulty_climbs_over_the_ramp() -> None:
    recipe = Recipe(difficulty=(0.1, 0.9), ramp=1000)
    drawn = np.array([recipe.difficulty_at(n) for n in range(2000)])
    assert drawn[:100].max() < 0.19
    assert drawn[1000:].max() > 0.85
    assert drawn.min() >= 0.1


@pytest.mark.parametrize("wrong", [{"difficulty": (0.5, 0.2)}, {"size": 4}, {"length": 0}, {"seed": -1}])
def test_recipes_check_themselves(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        Recipe(**wrong)


def test_a_stream_goes_on_from_its_position() -> None:
    with SceneStream(STILLS) as stream:
        first = [next(stream).name for _ in range(4)]
        assert stream.position == 4
    with SceneStream(STILLS, start=2) as later:
        assert [next(later).name for _ in range(2)] == first[2:]


def test_a_stream_keeps_its_order_with_workers_and_ends_cleanly() -> None:
    alone = [STILLS.paint(n) for n in range(3, 9)]
    with SceneStream(STILLS, workers=2, start=3, ahead=2) as stream:
        together = [next(stream) for _ in range(6)]
    assert [p.name for p in together] == [p.name for p in alone]
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(alone, together))
    with SceneStream(STILLS, workers=1) as unread:
        assert unread.position == 0
