"""Pictures with an alpha channel in generated scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam2.cli import main
from sam2.data.cutouts import LONGEST, Cutouts, read
from sam2.data.motion import paint_clip
from sam2.data.pool import write_pool
from sam2.data.recipe import Recipe
from sam2.data.scenes import make_scene, paint_still

MAGENTA = (255, 0, 255)


def disc(path: Path, size: int = 120, colour: tuple[int, ...] = MAGENTA) -> Path:
    picture = Image.new("RGBA", (size + 20, size + 20))
    ImageDraw.Draw(picture).ellipse((10, 10, size + 9, size + 9), fill=(*colour, 255))
    picture.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cutouts" / "deeper").mkdir(parents=True)
    disc(tmp_path / "cutouts" / "a.png")
    disc(tmp_path / "cutouts" / "deeper" / "b.webp", 90)
    return tmp_path / "cutouts"


def test_a_file_is_cut_to_what_it_shows_and_reduced(tmp_path: Path) -> None:
    small, large = read(disc(tmp_path / "small.png")), read(disc(tmp_path / "large.png", 900))
    assert small is not None
    assert large is not None
    assert small.size == (120, 120)
    assert large.size == (LONGEST, LONGEST)
    assert np.asarray(large)[..., 3].mean() / 255 == pytest.approx(np.pi / 4, abs=0.01)


def test_large_clip_art_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disc(tmp_path / "large.png", 120)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12_000)  # it warns from here on, and refuses at twice that
    assert read(path) is not None


def test_what_is_no_cutout_is_passed_over(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100), MAGENTA).save(tmp_path / "photo.png")
    Image.new("RGBA", (100, 100)).save(tmp_path / "empty.png")
    disc(tmp_path / "tiny.png", 20)
    lines = Image.new("RGBA", (200, 200))
    for k in range(0, 200, 8):
        ImageDraw.Draw(lines).line((k, 0, k, 199), fill=(0, 0, 0, 255), width=2)
    lines.save(tmp_path / "lines.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    cut_off = disc(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut_off.png").write_bytes(cut_off[: len(cut_off) // 2])
    (tmp_path / "whole.png").unlink()
    assert [path.name for path in sorted(tmp_path.iterdir()) if read(path) is not None] == []
    with pytest.raises(ValueError, match="hardly any of the 6 pictures"):
        paint_still(0, 64, 0.5, cutouts=Cutouts((str(tmp_path),), 1.0))


def test_a_cutout_is_one_object_where_it_is_seen(folder: Path) -> None:
    cutouts = Cutouts((str(folder),), 1.0)
    inside = 0
    for seed in range(24):
        painting = paint_still(seed, 128, 0.0, cutouts=cutouts)
        nearest = max((t for t in painting.targets if t.kind == "whole"), key=lambda t: max(t.owners))
        mask = np.isin(painting.owners[0], nearest.owners)
        if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
            continue
        inside += 1
        # A disc, perhaps flattened: so much of its box is covered.
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert mask.sum() / box == pytest.approx(np.pi / 4, abs=0.05)
    assert inside >= 4


def test_the_share_is_kept_and_nothing_else_changes(folder: Path) -> None:
    cutouts = Cutouts((str(folder),), 0.5)
    pictured = objects = 0
    for seed in range(40):
        actors = [a for a in make_scene(seed, 0.7, cutouts=cutouts).actors if not a.stuff]
        pictured += sum(any(p.picture is not None for p in a.parts) for a in actors)
        objects += len(actors)
    assert 0.4 < pictured / objects < 0.6
    assert np.array_equal(
        paint_still(3, 64, 0.7).frames, paint_still(3, 64, 0.7, cutouts=Cutouts((str(folder),), 0.0)).frames
    )


def test_clips_repeat_and_move_cutouts_as_one(folder: Path) -> None:
    cutouts = Cutouts((str(folder),), 1.0)
    for seed in range(4):
        first, again = (paint_clip(seed, 64, 5, 0.3, cutouts=cutouts) for _ in range(2))
        assert np.array_equal(first.frames, again.frames)
        assert np.array_equal(first.owners, again.owners)
        assert first.targets == again.targets


def test_pools_know_their_cutouts(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(64, cutouts=(str(folder),), cutout_share=0.9)
    pool = write_pool(tmp_path / "pool", recipe, 4)
    assert np.array_equal(pool.painting(2).owners, recipe.paint(2).owners)
    with pytest.raises(ValueError, match=r"another recipe \(cutout_share\)"):
        write_pool(tmp_path / "pool", Recipe(64, cutouts=(str(folder),), cutout_share=0.8), 4)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_cannot_be_is_refused(share: float, folder: Path) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Recipe(64, cutouts=(str(folder),), cutout_share=share)


def test_the_command_makes_them_and_names_a_wrong_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = ["data", "make", str(tmp_path / "pool"), "--count", "2", "--size", "64", "--workers", "1"]
    assert main([*make, "--cutouts", str(tmp_path / "nowhere")]) != 0
    assert "no folder of cutouts" in capsys.readouterr().err
    (tmp_path / "bare").mkdir()
    assert main([*make, "--cutouts", str(tmp_path / "bare")]) != 0
    assert "no .png or .webp file" in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()
    assert main([*make, "--cutouts", str(folder), "--cutout-share", "1"]) == 0
