from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO
from scipy import ndimage

from sam2.masks import coco, files, geometry, yolo

# pycocotools predates NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMOOTH = ndimage.gaussian_filter(np.random.default_rng(2).random((120, 160)), 9) > 0.5
MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


def with_hole() -> np.ndarray:
    y, x = np.mgrid[:120, :160]
    distance = np.hypot(x - 80, y - 60)
    return (distance < 50) & (distance > 20)


@pytest.mark.parametrize("segmentation", ["rle", "polygons"])
def test_pycocotools_loads_the_data_set(tmp_path: Path, segmentation: coco.Segmentation) -> None:
    dataset = coco.CocoDataset({1: "object", 7: "ring"}, description="test")
    first = dataset.add_image("a.jpg", 160, 120)
    second = dataset.add_image("b.jpg", 160, 120)
    masks = {}
    for image, mask, category in ((first, SMOOTH, 1), (second, with_hole(), 7), (second, ~SMOOTH, 1)):
        key = dataset.add_annotation(image, mask, category, segmentation=segmentation, extra={"score": 0.5})
        masks[key] = mask
    loaded = COCO(str(dataset.write(tmp_path / "a.json")))
    assert loaded.getImgIds() == [1, 2]
    assert loaded.getAnnIds(imgIds=[2], catIds=[7]) == [2]
    assert [category["name"] for category in loaded.loadCats([1, 7])] == ["object", "ring"]
    for key, mask in masks.items():
        (annotation,) = loaded.loadAnns([key])
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == list(geometry.mask_to_xywh(mask))
        assert annotation["iscrowd"] == 0
        assert annotation["score"] == 0.5
        theirs = loaded.annToMask(annotation).astype(bool)
        if segmentation == "rle":
            np.testing.assert_array_equal(theirs, mask)
        else:
            assert geometry.iou(theirs, mask) > 0.95
        ours = coco.from_segmentation(annotation["segmentation"], mask.shape)
        np.testing.assert_array_equal(ours, mask)


def test_crowds_are_plain_rle(tmp_path: Path) -> None:
    dataset = coco.CocoDataset()
    dataset.add_annotation(dataset.add_image("a.jpg", 160, 120), SMOOTH, crowd=True, segmentation="polygons")
    loaded = COCO(str(dataset.write(tmp_path / "a.json")))
    (annotation,) = loaded.loadAnns(loaded.getAnnIds(iscrowd=True))
    assert isinstance(annotation["segmentation"]["counts"], list)
    np.testing.assert_array_equal(loaded.annToMask(annotation), SMOOTH)


def test_pycocotools_loads_results(tmp_path: Path) -> None:
    dataset = coco.CocoDataset({1: "object", 4: "other"})
    dataset.add_image("a.jpg", 160, 120)
    truth = COCO(str(dataset.write(tmp_path / "truth.json")))
    objects = {3: SMOOTH, 5: np.zeros_like(SMOOTH), 9: with_hole()}
    entries = coco.results(1, objects, scores={3: 0.25, 5: 1, 9: 0.75}, category_ids={3: 1, 5: 1, 9: 4})
    target = coco.write_json(tmp_path / "results.json", entries)
    loaded = truth.loadRes(str(target))
    annotations = loaded.loadAnns(loaded.getAnnIds())
    assert [a["object_id"] for a in annotations] == [3, 9]
    assert [a["score"] for a in annotations] == [0.25, 0.75]
    assert [a["category_id"] for a in annotations] == [1, 4]
    np.testing.assert_array_equal(loaded.annToMask(annotations[1]), with_hole())
    assert [entry["score"] for entry in coco.results(1, [SMOOTH])] == [1.0]


def test_what_coco_cannot_hold_is_refused(tmp_path: Path) -> None:
    dataset = coco.CocoDataset()
    image = dataset.add_image("a.jpg", 160, 120)
    with pytest.raises(ValueError, match="empty"):
        dataset.add_annotation(image, np.zeros((120, 160), bool))
    with pytest.raises(ValueError, match="no image 2"):
        dataset.add_annotation(2, SMOOTH)
    with pytest.raises(ValueError, match="no category 5"):
        dataset.add_annotation(image, SMOOTH, 5)
    with pytest.raises(ValueError, match="160x120"):
        dataset.add_annotation(image, SMOOTH[:50])
    with pytest.raises(ValueError, match="polygons"):
        coco.to_segmentation(SMOOTH, "boxes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ring"):
        coco.from_segmentation([[1, 2, 3]], (5, 5))
    with pytest.raises(ValueError, match="160x120"):
        coco.from_segmentation(coco.to_segmentation(SMOOTH), (5, 5))
    target = dataset.write(tmp_path / "a.json")
    with pytest.raises(files.OutputExistsError):
        dataset.write(target)
    with pytest.raises(ValueError, match="JSON"):
        coco.write_json(target, [float("nan")], force=True)
    assert json.loads(target.read_text())["images"][0]["width"] == 160


@given(MASKS, st.integers(0, 90))
def test_yolo_round_trip_is_exact_without_simplification(mask: np.ndarray, class_id: int) -> None:
    line = yolo.to_line(mask, class_id, tolerance=0)
    if line is None:
        assert not mask.any()
        return
    numbers = [float(field) for field in line.split()[1:]]
    assert len(numbers) % 2 == 0
    assert all(0 <= number <= 1 for number in numbers)
    ((found_class, found),) = yolo.from_text(line, mask.shape)
    assert found_class == class_id
    np.testing.assert_array_equal(found, mask)


def test_yolo_line_by_hand() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:4, 5:10] = True
    assert yolo.to_line(mask, 3) == "3 0.25 0.2 0.5 0.2 0.5 0.4 0.25 0.4"


@pytest.mark.parametrize("shape", [(20_000, 100), (100, 20_000)])
def test_yolo_is_exact_on_long_pictures(shape: tuple[int, int]) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 8) > 0.5
    ((_, found),) = yolo.from_text(yolo.to_line(mask, tolerance=0) or "", shape)
    np.testing.assert_array_equal(found, mask)


def test_yolo_files(tmp_path: Path) -> None:
    objects = {4: SMOOTH, 6: np.zeros_like(SMOOTH), 8: with_hole()}
    target = yolo.write(tmp_path / "a.txt", objects, {4: 0, 6: 0, 8: 2}, tolerance=1.0)
    found = yolo.from_text(target.read_text(), SMOOTH.shape)
    assert [class_id for class_id, _ in found] == [0, 2]
    assert geometry.iou(found[0][1], SMOOTH) > 0.93
    assert geometry.iou(found[1][1], with_hole()) > 0.97
    assert yolo.write(tmp_path / "none.txt", {}).read_text() == ""
    with pytest.raises(files.OutputExistsError):
        yolo.write(target, objects)


@pytest.mark.parametrize("text", ["0 0.1 0.2 0.3 0.4", "x 0 0 0 1 1 1", "0 0 0 0 1 1", "0 0 0 0 1 1 nan"])
def test_malformed_yolo_lines_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        yolo.from_text("\n" + text, (5, 5))


def test_yolo_classes_count_from_zero() -> None:
    with pytest.raises(ValueError, match="-1"):
        yolo.to_line(SMOOTH, -1)
