"""`sam2 segment` and `sam2 auto`: what is written says what the model said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from e2e_helpers import picture_of
from PIL import Image
from pycocotools.coco import COCO

from sam2.formats import FORMATS
from sam2.masks import yolo
from sam2.masks.png import davis_palette, read_indexed_png, read_mask

# pycocotools' own arrays do not know NumPy 2's copy keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALL = ",".join(FORMATS)


@pytest.fixture(scope="module")
def predictor(checkpoint):
    """The library itself, to compare with."""
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(build_sam2(ckpt_path=checkpoint, device="cpu"))
    predictor.set_image(picture_of())
    return predictor


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_every_format_holds_the_mask_of_the_library(sam2, tmp_path, photo, checkpoint, predictor):
    outcome = sam2(
        "segment", photo, "--point", "32,32", "--point", "80,10,0", "--model", checkpoint, "--format", ALL
    )
    assert (outcome.code, outcome.err) == (0, "")
    out = tmp_path / "out/photo"
    masks, ious, _ = predictor.predict(
        np.array([[32, 32], [80, 10]]), np.array([1, 0]), multimask_output=False
    )
    mask = masks[0] > 0
    assert 0 < mask.sum() < mask.size

    np.testing.assert_array_equal(read_mask(out / "png/1.png"), mask)
    np.testing.assert_array_equal(read_indexed_png(out / "davis.png")[1], mask)
    with Image.open(out / "davis.png") as davis:
        assert davis.getpalette() == davis_palette().ravel().tolist()
    with Image.open(out / "cutout/1.png") as cut:
        np.testing.assert_array_equal(np.asarray(cut)[..., 3] > 0, mask)
        np.testing.assert_array_equal(np.asarray(cut)[..., :3][mask], picture_of()[mask])
    coco = COCO(out / "coco.json")
    (annotation,) = coco.loadAnns(coco.getAnnIds())
    np.testing.assert_array_equal(coco.annToMask(annotation), mask)
    assert coco.loadImgs(annotation["image_id"])[0]["file_name"] == "photo.png"
    (polygon,) = yolo.from_text((out / "yolo/labels/train/photo.txt").read_text(), mask.shape)
    assert (polygon[1] & mask).sum() / (polygon[1] | mask).sum() > 0.8
    with Image.open(out / "overlay.png") as overlay:
        changed = (np.asarray(overlay) != picture_of()).any(axis=2)
    assert overlay.size == (96, 64)
    assert changed[mask].mean() > 0.99

    result = result_of(out)
    (found,) = result["frames"][0]["objects"]
    rows, columns = np.nonzero(mask)
    assert found["id"] == 1
    assert found["area"] == mask.sum()
    assert found["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert found["predicted_iou"] == pytest.approx(ious[0], abs=1e-4)
    assert found["presence"] == pytest.approx(predictor.presence[0], abs=1e-4)
    assert result["prompts"]["objects"][0]["prompts"][0]["labels"] == [1, 0]
    assert result["model"]["checkpoint"] == str(checkpoint)
    assert result["input"] == {"path": str(photo), "width": 96, "height": 64}
    assert result["interrupted"] is False
    for name in ("overlay.png", "davis.png", "png/ (1 file)", "coco.json", "cutout/ (1 file)", "result.json"):
        assert f"out/photo/{name}" in outcome.out


def test_options_of_formats_reach_them_and_wrong_ones_are_refused(sam2, tmp_path, photo, checkpoint):
    ask = [
        "segment",
        photo,
        "--box",
        "10,10,60,60",
        "--model",
        checkpoint,
        "--format",
        "background,coco,cutout",
    ]
    outcome = sam2(
        *ask, "--option", "background.mode=color", "--option", "background.color=#0000ff",
        "--option", "background.soft=0", "--option", "coco.segmentation=polygons",
        "--option", "cutout.crop=yes",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    out = tmp_path / "out/photo"
    x0, y0, x1, y1 = result_of(out)["frames"][0]["objects"][0]["box"]
    with Image.open(out / "background.png") as picture:
        blue = (np.asarray(picture) == (0, 0, 255)).all(axis=2)
    assert 96 * 64 - blue.sum() == result_of(out)["frames"][0]["objects"][0]["area"]
    with Image.open(out / "cutout/1.png") as cut:
        assert cut.size == (x1 - x0, y1 - y0)
    (annotation,) = COCO(out / "coco.json").anns.values()
    assert isinstance(annotation["segmentation"], list)

    assert sam2(*ask, "--option", "coco.color=red").refused("color", "segmentation")
    assert sam2(*ask, "--option", "background.mode=dim").refused("mode", "blur", "dim")
    assert sam2(*ask, "--option", "yolo.tolerance=1").refused("--format yolo")
    assert sam2(*ask, "--option", "tolerance=1").refused("FORMAT.NAME=VALUE")


def test_defaults_are_an_overlay_and_a_mask(sam2, tmp_path, photo, checkpoint):
    assert sam2("segment", photo, "--box", "10,10,60,60", "--model", checkpoint).code == 0
    names = {path.name for path in (tmp_path / "out/photo").iterdir()}
    assert names == {"overlay.png", "png", "result.json"}


def test_a_mask_is_a_prompt(sam2, tmp_path, photo, checkpoint, predictor):
    from sam2.preprocess import mask_to_logits

    rough = np.zeros((64, 96), dtype=bool)
    rough[16:48, 16:48] = True
    Image.fromarray(rough).save(tmp_path / "rough.png")
    assert sam2("segment", photo, "--mask", "rough.png", "--model", checkpoint).code == 0
    size = predictor.model.sam_prompt_encoder.mask_input_size
    logits = mask_to_logits(rough, size)
    assert (logits.min(), logits.max()) == (-10, 10)
    assert (logits[0] > 0).mean() == pytest.approx(rough.mean(), abs=0.01)
    expected = predictor.predict(mask_input=logits, multimask_output=False)[0][0] > 0
    np.testing.assert_array_equal(read_mask(tmp_path / "out/photo/png/1.png"), expected)
    prompt = result_of(tmp_path / "out/photo")["prompts"]["objects"][0]["prompts"][0]
    assert prompt == {"frame": 0, "mask": "rough.png"}


def test_multimask_gives_three_candidates_best_first(sam2, tmp_path, photo, checkpoint, predictor):
    outcome = sam2("segment", photo, "--point", "32,32", "--multimask", "--model", checkpoint, "--out", "o")
    assert outcome.code == 0
    found = result_of(tmp_path / "o")["frames"][0]["objects"]
    masks, ious, _ = predictor.predict(np.array([[32, 32]]), np.array([1]), multimask_output=True)
    order = np.argsort(-ious)
    assert [one["id"] for one in found] == [1, 2, 3]
    np.testing.assert_allclose([one["predicted_iou"] for one in found], ious[order], atol=1e-4)
    for place, which in enumerate(order, start=1):
        np.testing.assert_array_equal(read_mask(tmp_path / f"o/png/{place}.png"), masks[which] > 0)
    with Image.open(tmp_path / "o/overlay.png") as sheet:
        assert sheet.width > 3 * 96


def test_many_objects_from_a_prompt_file(sam2, tmp_path, photo, checkpoint, predictor):
    objects = [
        {"id": 7, "name": "disc", "prompts": [{"points": [[32, 32]]}]},
        {"id": 3, "name": "sky", "prompts": [{"box": [50, 2, 90, 40]}]},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    outcome = sam2("segment", photo, "--prompts", "p.json", "--model", checkpoint, "--format", ALL)
    assert outcome.code == 0
    out = tmp_path / "out/photo"
    disc = predictor.predict(np.array([[32, 32]]), np.array([1]), multimask_output=False)[0][0] > 0
    np.testing.assert_array_equal(read_mask(out / "png/7.png"), disc)
    assert (out / "png/3.png").exists()
    assert yaml.safe_load((out / "yolo/data.yaml").read_text())["names"] == {0: "disc", 1: "sky"}
    coco = COCO(out / "coco.json")
    names = {one["object_id"]: coco.cats[one["category_id"]]["name"] for one in coco.anns.values()}
    assert names == {7: "disc", 3: "sky"}
    # the result says what was asked, in the form of a prompt file
    written = tmp_path / "again.json"
    written.write_text(json.dumps(result_of(out)["prompts"]))
    assert sam2("segment", photo, "--prompts", written, "--model", checkpoint, "--out", "again").code == 0
    assert result_of(tmp_path / "again")["frames"] == result_of(out)["frames"]


def test_existing_output_asks_for_force_and_is_replaced_whole(sam2, tmp_path, photo, checkpoint):
    ask = ["segment", photo, "--point", "32,32", "--model", checkpoint, "--format", "png,davis"]
    assert sam2(*ask).code == 0
    out = tmp_path / "out/photo"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "png/99.png").write_bytes(b"of an earlier run")
    (out / "notes.txt").write_text("mine")
    assert sam2(*ask).refused("--force", "davis.png", "result.json")
    assert (out / "png/99.png").exists()
    assert sam2(*ask, "--force").code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert not (out / "png/99.png").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_auto_finds_what_the_generator_finds(sam2, tmp_path, photo, checkpoint):
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from sam2.build_sam import build_sam2

    grid = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    generator = SAM2AutomaticMaskGenerator(build_sam2(ckpt_path=checkpoint, device="cpu"), **grid)
    expected = [one for one in generator.generate(picture_of()) if one["area"] >= 500]
    assert expected
    options = [part for key, value in grid.items() for part in (f"--{key.replace('_', '-')}", value)]
    outcome = sam2(
        "auto", photo, *options, "--min-area", 500, "--model", checkpoint, "--format", "coco,davis,overlay"
    )
    assert outcome.code == 0
    coco = COCO(tmp_path / "out/photo/coco.json")
    assert len(coco.anns) == len(expected)
    for annotation, one in zip(coco.anns.values(), expected, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), one["segmentation"])
    found = result_of(tmp_path / "out/photo")["frames"][0]["objects"]
    assert [one["area"] for one in found] == [one["area"] for one in expected]
    assert found[0]["stability_score"] == pytest.approx(expected[0]["stability_score"], abs=1e-4)
    assert result_of(tmp_path / "out/photo")["options"]["points_per_side"] == 3


def test_auto_that_finds_nothing_says_so(sam2, tmp_path, photo, checkpoint):
    outcome = sam2(
        "auto",
        photo,
        "--points-per-side",
        2,
        "--pred-iou-thresh",
        "0.999",
        "--model",
        checkpoint,
        "--format",
        ALL,
    )
    assert outcome.code == 0
    assert "0 masks" in outcome.out
    assert result_of(tmp_path / "out/photo")["frames"][0]["objects"] == []
