"""Scenes with something left out: each name does what it says, and nothing left out changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from sam2.cli import main
from sam2.cli.data import WITHOUT
from sam2.data import shapes
from sam2.data.actors import posed
from sam2.data.motion import paint_clip
from sam2.data.pool import ClipPool, write_pool
from sam2.data.recipe import Recipe
from sam2.data.render import Canvas, Posed
from sam2.data.scenes import camera_matrix, make_scene, paint_posed, paint_still
from sam2.data.targets import Painting
from sam2.data.textures import WRITING
from sam2.data.without import NAMES, checked
from sam2.training.pretrain_dense import PoolOptions, _open_pool

SEEDS = range(8)


def digest(painting: Painting) -> str:
    targets = repr([(t.owners, t.kind) for t in painting.targets]).encode()
    content = painting.frames.tobytes() + painting.owners.tobytes() + targets + painting.name.encode()
    return hashlib.sha256(content).hexdigest()[:16]


def arithmetic() -> str:
    """What processor and libraries make of the operations that scenes are drawn with."""
    x = np.random.Generator(np.random.PCG64(1)).normal(0, 9, 4096)
    noise = np.fft.irfft2(np.exp(1j * x.reshape(64, 64)).astype(np.complex64), s=(64, 126))
    picture = Image.new("RGB", (96, 96))
    ImageDraw.Draw(picture).polygon((5.3, 7.7, 90.1, 20.2, 44.4, 80.8), fill=(200, 90, 30))
    picture.paste((9, 200, 9), (30, 30), shapes.glyph("R2").resize((40, 40)))
    picture = picture.filter(ImageFilter.GaussianBlur(1.3)).filter(ImageFilter.BoxBlur(0.7))
    matrix = (0.9, 0.2, 3.3, -0.1, 1.1, 2.2)
    picture = picture.transform((96, 96), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    numbers = (np.sin(x), np.cos(x), np.exp(x / 9), np.abs(x) ** -1.3, np.tanh(x), np.log(np.abs(x)), noise)
    content = b"".join(n.tobytes() for n in numbers) + np.asarray(Image.open(file)).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def test_scenes_with_everything_are_bit_for_bit_what_they_were() -> None:
    """The digests are of the code from before anything could be left out."""
    if arithmetic() != "f182d55aa5cb687d":
        pytest.skip("this processor or these libraries draw other pixels than those of the digests")
    for (seed, difficulty), known in {(0, 0.0): "87e0a93ce3536d57", (8, 0.6): "112ceec99f627ffc"}.items():
        assert digest(paint_still(seed, 96, difficulty)) == known
    assert digest(paint_clip(2, 64, 7, 0.6)) == "926c0907eda7e39a"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_changes_stills_and_clips_and_any_scene_stays_sound(name: str) -> None:
    changed = {1: 0, 3: 0}
    for seed in range(3):
        for length in changed:
            full, less = (
                Recipe(40, length, (0.9, 0.9), seed=seed, without=without).paint(seed)
                for without in ((), (name,))
            )
            assert less.frames.shape == full.frames.shape
            assert less.targets
            changed[length] += digest(full) != digest(less)
    assert min(changed.values()) >= 1


def test_only_occlusion_moves_objects() -> None:
    """In stills; parts and letters that go leave their objects where they were."""
    rest = tuple(name for name in NAMES if name != "occlusion")
    for seed in SEEDS:
        full, less = make_scene(seed, 0.8), make_scene(seed, 0.8, rest)
        assert [(a.x, a.y, a.scale, a.angle) for a in full.actors] == [
            (a.x, a.y, a.scale, a.angle) for a in less.actors
        ]


def test_without_texture_an_object_has_few_colours() -> None:
    def colours(without: Iterable[str]) -> float:
        """Distinct colours inside wholes, at the median; camera and light play no part."""
        counts = []
        for seed in SEEDS:
            painting = paint_still(seed, 96, 0.8, ("shading", "blur", *without))
            scene = make_scene(seed, 0.8, ("shading", "blur", *without))
            scene = replace(scene, photograph=type(scene.photograph)())
            view = camera_matrix(96, scene.aspect)
            poses = [posed(a, view @ a.matrix(), scene.light, 96) for a in scene.actors]
            canvas, _ = paint_posed(scene, scene.actors, poses, view, 96)
            picture, owner = np.asarray(canvas.picture), np.asarray(canvas.owner)
            for target in painting.targets:
                if target.kind == "whole":
                    inside = picture[np.isin(owner, target.owners)]
                    counts.append(len(np.unique(inside, axis=0)) / len(inside))
        return float(np.median(counts))

    assert colours(("texture",)) < 0.5 * colours(())


def test_without_shading_nothing_is_lit_and_nothing_throws_a_shadow() -> None:
    lit = 0
    for seed in SEEDS:
        full, less = make_scene(seed, 0.8), make_scene(seed, 0.8, ("shading",))
        lit += sum(bool(a.relief or a.gloss or a.shadow) for a in full.actors) + (full.shade is not None)
        assert not any(a.relief or a.gloss or a.shadow for a in less.actors)
        assert less.shade is None
    assert lit > 20


def test_without_occlusion_no_object_is_cut_by_another() -> None:
    def hidden(without: tuple[str, ...]) -> tuple[int, int]:
        """Objects that are seen less than they would be alone, and all objects."""
        cut = count = 0
        for seed in SEEDS:
            scene = make_scene(seed, 0.8, without)
            view = camera_matrix(160, scene.aspect)
            poses = [posed(a, view @ a.matrix(), scene.light, 160) for a in scene.actors]
            canvas, numbers = paint_posed(scene, scene.actors, poses, view, 160)
            owner = np.asarray(canvas.owner)
            for actor, pose, mine in zip(scene.actors, poses, numbers):
                if not actor.stuff:
                    alone = Canvas(160)
                    alone.paint(pose)
                    whole = np.asarray(alone.owner) > 0
                    cut += bool((whole & ~np.isin(owner, mine)).any())
                    count += 1
        return cut, count

    before, after = hidden(()), hidden(("occlusion",))
    assert before[0] > 0.2 * before[1]
    assert after[0] == 0
    assert after[1] > 0.5 * before[1]


def test_without_occlusion_objects_of_clips_do_not_meet_in_any_frame() -> None:
    """Their outlines stay apart: pixels of two objects are never neighbours."""

    def touching(without: tuple[str, ...]) -> int:
        pairs = 0
        for seed in range(5):
            painting = paint_clip(seed, 96, 5, 0.6, without)
            label = np.zeros(256, int)
            for n, target in enumerate((t for t in painting.targets if t.kind == "whole"), 1):
                label[list(target.owners)] = n
            shown = label[painting.owners]
            for a, b in ((shown[:, 1:], shown[:, :-1]), (shown[:, :, 1:], shown[:, :, :-1])):
                pairs += int(((a != b) & (a > 0) & (b > 0)).sum())
        return pairs

    assert touching(()) > 50
    assert touching(("occlusion",)) == 0


def test_without_parts_objects_are_of_one_material_and_no_part_is_a_target() -> None:
    several = 0
    for seed in SEEDS:
        several += sum(len({id(p.material) for p in a.parts}) > 1 for a in make_scene(seed, 0.8).actors)
        for actor in make_scene(seed, 0.8, ("parts",)).actors:
            assert len({id(p.material) for p in actor.parts}) == 1
        painting = paint_still(seed, 64, 0.8, ("parts",))
        assert "part" not in {t.kind for t in painting.targets}
        assert "whole" in {t.kind for t in painting.targets}
    assert several > 10


def test_without_camouflage_no_object_is_of_the_grounds_texture_by_intent() -> None:
    def alike(without: tuple[str, ...]) -> int:
        """Objects of a texture that the ground has at the very same scale: chance does not make them."""
        found = 0
        for seed in range(40):
            scene = make_scene(seed, 1.0, without)
            ground = {
                (p.material.index, *p.material.placement[0, :2])
                for a in scene.actors
                if a.stuff
                for p in a.parts
                if p.material.index >= 0
            }
            found += sum(
                any((p.material.index, *p.material.placement[0, :2]) in ground for p in a.parts)
                for a in scene.actors
                if not a.stuff
            )
        return found

    assert alike(()) > 10
    assert alike(("camouflage",)) == 0


def test_without_blur_pictures_are_sharper() -> None:
    soft = 0
    for seed in range(30):
        full, less = make_scene(seed, 1.0), make_scene(seed, 1.0, ("blur",))
        soft += bool(full.photograph.blur or full.focus or any(a.defocus for a in full.actors))
        assert (less.photograph.blur, less.focus, less.haze) == (0.0, 0.0, 0.0)
        assert not any(a.defocus for a in less.actors)
        assert replace(full.photograph, blur=0.0) == less.photograph
    assert soft > 10


def test_without_blur_nothing_in_a_clip_is_smeared(monkeypatch: pytest.MonkeyPatch) -> None:
    motions: list[tuple[float, float]] = []
    paint = Canvas.paint

    def watched(canvas: Canvas, thing: Posed) -> range:
        motions.append(thing.motion)
        return paint(canvas, thing)

    monkeypatch.setattr(Canvas, "paint", watched)
    for seed in range(4):
        paint_clip(seed, 48, 3, 1.0)
    assert any(motion != (0.0, 0.0) for motion in motions)
    motions.clear()
    for seed in range(4):
        paint_clip(seed, 48, 3, 1.0, ("blur",))
    assert motions
    assert not any(motion != (0.0, 0.0) for motion in motions)


def test_without_glyphs_there_are_no_letters() -> None:
    letters = 0
    for seed in range(40):
        full, less = make_scene(seed, 0.9), make_scene(seed, 0.9, ("glyphs",))
        assert len(full.actors) == len(less.actors)
        for scene in (full, less):
            parts = [p for a in scene.actors for p in a.parts]
            written = sum(p.stamp is not None or p.material.index in WRITING for p in parts)
            written += scene.shade is not None and scene.shade.index in WRITING
            assert all(a.parts for a in scene.actors)
            letters += written if scene is full else 0
            assert scene is full or not written
    assert letters > 20


def test_names_are_checked_and_put_in_order() -> None:
    assert checked(["blur", "texture", "blur"]) == ("texture", "blur")
    assert Recipe(without=("blur", "texture")) == Recipe(without=("texture", "blur"))
    with pytest.raises(ValueError, match=r"nothing called 'colour' can be left out; known are texture, shad"):
        Recipe(without=("colour",))
    with pytest.raises(ValueError, match="nothing called 'noise'"):
        paint_still(0, 32, 0.5, ("noise",))


def test_a_pool_tells_what_it_lacks_and_is_not_mixed(tmp_path: Path) -> None:
    plain = Recipe(32, without=("texture", "blur"))
    pool = write_pool(tmp_path, plain, 2, codec="raw")
    assert json.loads((tmp_path / "pool.json").read_text())["without"] == ["texture", "blur"]
    assert digest(pool.painting(1)) == digest(plain.paint(1))
    assert len(write_pool(tmp_path, plain, 4, codec="raw")) == 4
    with pytest.raises(ValueError, match=r"another recipe \(without\)"):
        write_pool(tmp_path, Recipe(32), 2, codec="raw")
    options = PoolOptions(str(tmp_path), 2, 32, 1, (0.0, 1.0), without=("texture",))
    with pytest.raises(ValueError, match=r"another recipe \(codec, without\)"):
        _open_pool(options)


def test_pools_from_before_lack_nothing(tmp_path: Path) -> None:
    write_pool(tmp_path, Recipe(32), 2)
    note = json.loads((tmp_path / "pool.json").read_text())
    del note["without"]
    (tmp_path / "pool.json").write_text(json.dumps(note))
    assert len(write_pool(tmp_path, Recipe(32), 4)) == 4


def test_the_command_leaves_out_what_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert WITHOUT == NAMES
    out = str(tmp_path / "pool")
    made = ["data", "make", out, "--count", "1", "--size", "32", "--workers", "1", "--without"]
    assert main([*made, "blur,texture"]) == 0
    assert ClipPool(out).settings["without"] == ["texture", "blur"]
    with pytest.raises(SystemExit):
        main([*made, "colour"])
    assert "'colour' is not one of texture, shading, occlusion" in capsys.readouterr().err
