"""Annotation files, read back by their consumers' rules."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from formats_helpers import CAT, NAMES, SIZE, TIMES, frames_of, mask_of, picture_of, source_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sam2.formats import export
from sam2.masks import yolo
from sam2.masks.cvat import mask_attributes
from sam2.masks.geometry import iou
from sam2.masks.labelstudio import encode_brush
from sam2.masks.polygons import polygons_to_mask

# pycocotools' own arrays do not know NumPy 2's copy keyword
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda size: arrays(np.bool_, size))


def written(name: str, folder: Path, is_video: bool = True, **options: Any) -> Path:
    return export(name, folder, source_of(is_video), frames_of(is_video), options)


def decoded_brush(data: list[int]) -> np.ndarray:
    """Label Studio's decoding rule, as its converter applies it: the array of bytes."""
    stream = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        return int(stream[at - size : at], 2)

    length, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < length:
        same = read(1)
        count = read(widths[read(2)]) + 1
        out += [read(word)] * count if same else [read(word) for _ in range(count)]
    assert len(out) == length
    assert len(stream) - at < 8
    return np.array(out, dtype=np.uint8)


def decoded_cvat(shape: dict[str, str]) -> np.ndarray:
    """CVAT's rule: runs through the box row by row, off first."""
    runs = [int(run) for run in shape["rle"].split(",")]
    left, top, width, height = (int(shape[key]) for key in ("left", "top", "width", "height"))
    assert sum(runs) == width * height
    mask = np.zeros(SIZE, dtype=bool)
    inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    mask[top : top + height, left : left + width] = inside
    return mask


def polygon_mask(points: str) -> np.ndarray:
    return polygons_to_mask([[[float(v) for v in pair.split(",")] for pair in points.split(";")]], SIZE)


@given(MASKS)
def test_brush_gives_the_mask_back(mask: np.ndarray) -> None:
    rgba = decoded_brush(encode_brush(mask)).reshape(*mask.shape, 4)
    for channel in range(4):
        np.testing.assert_array_equal(rgba[..., channel], mask * 255)


@pytest.mark.parametrize("run", [2, 4, 5, 64, 65, 16384, 16385, 40000])
def test_brush_holds_runs_of_every_width(run: int) -> None:
    """4, 16, 256 and 65536 bytes are the ends of the four widths; a pixel is four bytes."""
    mask = np.zeros((1, 2 * run + 3), dtype=bool)
    mask[0, run : 2 * run] = True
    np.testing.assert_array_equal(decoded_brush(encode_brush(mask))[::4] == 255, mask[0])


@given(MASKS)
def test_cvat_masks_give_the_mask_back(mask: np.ndarray) -> None:
    shape = mask_attributes(mask)
    if shape is None:
        assert not mask.any()
        return
    runs = [int(run) for run in shape["rle"].split(",")]
    left, top, width, height = (int(shape[key]) for key in ("left", "top", "width", "height"))
    found = np.zeros_like(mask)
    inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    found[top : top + height, left : left + width] = inside
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("segmentation", ["rle", "polygons"])
def test_coco_is_read_by_pycocotools(tmp_path: Path, segmentation: str) -> None:
    coco = COCO(written("coco", tmp_path, segmentation=segmentation, tolerance=0))
    assert [image["file_name"] for image in coco.dataset["images"]] == [f"{i:05d}.png" for i in range(5)]
    assert [one["name"] for one in coco.dataset["categories"]] == [CAT, "猫,é", "object"]
    assert len(coco.anns) == 5 + 3
    for one in coco.anns.values():
        mask = mask_of(one["object_id"], one["image_id"] - 1)
        assert one["area"] == mask.sum()
        assert coco.cats[one["category_id"]]["name"] == (CAT if one["object_id"] == 3 else "猫,é")
        if segmentation == "rle":
            np.testing.assert_array_equal(coco.annToMask(one), mask)
            assert coco_mask.toBbox(one["segmentation"]).tolist() == one["bbox"]
        else:
            assert iou(coco.annToMask(one), mask) > 0.8  # pycocotools rounds corners in its own way


def test_youtube_vis_has_an_entry_for_every_frame(tmp_path: Path) -> None:
    data = json.loads(written("coco", tmp_path, video="ytvis").read_text())
    (video,) = data["videos"]
    assert (video["width"], video["height"], video["length"]) == (41, 30, 5)
    assert video["file_names"] == [f"{i:05d}.png" for i in range(5)]
    assert [one["object_id"] for one in data["annotations"]] == [3, 300]  # 7 is never there
    for one in data["annotations"]:
        assert len(one["segmentations"]) == len(one["bboxes"]) == len(one["areas"]) == 5
        for index, (segmentation, box, area) in enumerate(
            zip(one["segmentations"], one["bboxes"], one["areas"], strict=True)
        ):
            mask = mask_of(one["object_id"], index)
            if not mask.any():
                assert segmentation is box is area is None
                continue
            np.testing.assert_array_equal(coco_mask.decode(segmentation), mask)
            assert coco_mask.toBbox(segmentation).tolist() == box
            assert area == mask.sum()


def check_yolo(root: Path) -> dict[str, list[tuple[int, np.ndarray]]]:
    """What Ultralytics asks of a segmentation data set; returns the objects by picture."""
    data = yaml.safe_load((root / "data.yaml").read_text())
    assert set(data) == {"train", "val", "names"}  # without path: the folder of the file itself
    assert list(data["names"]) == list(range(len(data["names"])))
    objects = {}
    pictures = sorted((root / data["train"]).iterdir())
    assert pictures
    assert (root / data["val"]).is_dir()
    for picture in pictures:
        label = Path(str(picture).replace("/images/", "/labels/")).with_suffix(".txt")
        with Image.open(picture) as opened:
            width, height = opened.size
        for line in label.read_text().splitlines():
            fields = line.split()
            assert len(fields) >= 7  # a class and three points
            assert len(fields) % 2 == 1
            assert re.fullmatch(r"\d+", fields[0])
            assert int(fields[0]) in data["names"]
            assert all(0 <= float(field) <= 1 for field in fields[1:])
        objects[picture.stem] = yolo.from_text(label.read_text(), (height, width))
    return objects


def test_yolo_is_a_data_set_to_train_on(tmp_path: Path) -> None:
    root = written("yolo", tmp_path, tolerance=0, pictures="png")
    assert yaml.safe_load((root / "data.yaml").read_text())["names"] == {0: CAT, 1: "猫,é", 2: "object"}
    found = check_yolo(root)
    assert len(found) == 5
    for index in range(5):
        present = [key for key in (3, 300) if mask_of(key, index).any()]
        objects = found[f"{index:05d}"]
        assert [class_id for class_id, _ in objects] == [{3: 0, 300: 1}[key] for key in present]
        for key, (_, mask) in zip(present, objects, strict=True):
            np.testing.assert_array_equal(mask, mask_of(key, index))
    with Image.open(root / "images/train/00002.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), picture_of(2))


def test_label_studio_brush_and_its_interface_agree(tmp_path: Path) -> None:
    root = written("labelstudio", tmp_path, is_video=False, results="annotations", prefix="s3://x/")
    (task,) = json.loads((root / "tasks.json").read_text())
    assert task["data"] == {"image": "s3://x/photo.jpg"}
    results = task["annotations"][0]["result"]
    assert len({one["id"] for one in results}) == len(results) == 2
    interface = ElementTree.parse(root / "config.xml").getroot()
    tag = interface.find("BrushLabels")
    assert tag is not None
    labels = [label.attrib["value"] for label in tag]
    assert labels == [CAT, "猫,é", "object"]
    for one, key in zip(results, (3, 300), strict=True):
        assert (one["original_width"], one["original_height"], one["image_rotation"]) == (41, 30, 0)
        assert (one["from_name"], one["to_name"]) == (tag.attrib["name"], tag.attrib["toName"])
        assert one["type"] == "brushlabels"
        assert one["value"]["format"] == "rle"
        assert one["value"]["brushlabels"] == [labels[0 if key == 3 else 1]]
        alpha = decoded_brush(one["value"]["rle"]).reshape(*SIZE, 4)[..., 3]
        np.testing.assert_array_equal(alpha == 255, mask_of(key, 0))


@pytest.mark.parametrize(
    ("prefix", "expected"), [("/x?d=", "/x?d=a%20%26%23.mp4"), ("s3://b/", "s3://b/a &#.mp4")]
)
def test_label_studio_finds_media_with_strange_names(tmp_path: Path, prefix: str, expected: str) -> None:
    source = source_of(file_name="a &#.mp4")
    root = export("labelstudio", tmp_path, source, frames_of(), {"prefix": prefix})
    assert json.loads((root / "tasks.json").read_text())[0]["data"]["video"] == expected


def test_label_studio_polygons_are_percentages(tmp_path: Path) -> None:
    root = written("labelstudio", tmp_path, video="frames", shapes="polygons", tolerance=0)
    tasks = json.loads((root / "tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d={i:05d}.png" for i in range(5)
    ]
    height, width = SIZE
    for index, task in enumerate(tasks):
        together: dict[str, np.ndarray] = {}
        for one in task["predictions"][0]["result"]:
            ring = np.array(one["value"]["points"]) * (width / 100, height / 100)
            (label,) = one["value"]["polygonlabels"]
            together[label] = together.get(label, False) | polygons_to_mask([ring], SIZE)
        np.testing.assert_array_equal(together[CAT], mask_of(3, index))
        assert ("猫,é" in together) == mask_of(300, index).any()


def test_label_studio_boxes_follow_through_a_video(tmp_path: Path) -> None:
    root = written("labelstudio", tmp_path)
    (task,) = json.loads((root / "tasks.json").read_text())
    assert task["data"] == {"video": "/data/local-files/?d=clip.mp4"}
    ring, squares = task["predictions"][0]["result"]
    for one in (ring, squares):
        assert one["type"] == "videorectangle"
        assert one["value"]["framesCount"] == 5
        assert one["value"]["duration"] == pytest.approx(0.5)
    assert [step["frame"] for step in ring["value"]["sequence"]] == [1, 2, 3, 4, 5]
    assert [step["time"] for step in ring["value"]["sequence"]] == TIMES
    # absent on the second and the fifth frame: the box before does not reach into them
    shown = {step["frame"]: step["enabled"] for step in squares["value"]["sequence"]}
    assert shown == {1: False, 3: True, 4: False}
    step = ring["value"]["sequence"][2]
    rows, columns = np.nonzero(mask_of(3, 2))
    assert step["x"] == pytest.approx(100 * columns.min() / 41, abs=1e-3)
    assert step["y"] == pytest.approx(100 * rows.min() / 30, abs=1e-3)
    assert step["x"] + step["width"] == pytest.approx(100 * (columns.max() + 1) / 41, abs=1e-3)
    assert step["y"] + step["height"] == pytest.approx(100 * (rows.max() + 1) / 30, abs=1e-3)
    tag = ElementTree.parse(root / "config.xml").getroot().find("VideoRectangle")
    assert tag is not None
    assert (ring["from_name"], ring["to_name"]) == (tag.attrib["name"], tag.attrib["toName"])


def cvat_head(path: Path, mode: str, size: int) -> ElementTree.Element:
    """The root, after the parts that both kinds of file have by CVAT's description of its XML 1.1."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/mode") == mode
    assert root.findtext("meta/task/size") == str(size)
    names = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert names == [CAT, "猫,é", "object"]
    return root


@pytest.mark.parametrize("shapes", ["masks", "polygons"])
def test_cvat_for_images(tmp_path: Path, shapes: str) -> None:
    path = written("cvat", tmp_path, video="images", shapes=shapes, tolerance=0)
    images = cvat_head(path, "annotation", 5).findall("image")
    for index, image in enumerate(images):
        assert image.attrib == {"id": str(index), "name": f"{index:05d}.png", "width": "41", "height": "30"}
        masks: dict[str, np.ndarray] = {}
        for shape in image:
            assert shape.tag == shapes[:-1]
            assert shape.attrib["label"] in (CAT, "猫,é")
            assert shape.attrib["occluded"] == "0"
            assert int(shape.attrib["z_order"]) >= 0
            one = decoded_cvat(shape.attrib) if shapes == "masks" else polygon_mask(shape.attrib["points"])
            group = shape.attrib["group_id"]
            masks[group] = masks.get(group, False) | one
        for key in (3, 300):
            np.testing.assert_array_equal(masks.get(str(key), np.zeros(SIZE, bool)), mask_of(key, index))
    assert len(images) == 5


def test_cvat_for_video_ends_tracks_where_objects_leave(tmp_path: Path) -> None:
    tracks = cvat_head(written("cvat", tmp_path, tolerance=0), "interpolation", 5).findall("track")
    assert [(track.attrib["id"], track.attrib["label"]) for track in tracks] == [
        ("0", CAT),
        ("1", "猫,é"),
    ]
    for track, key in zip(tracks, (3, 300), strict=True):
        shown = {int(shape.attrib["frame"]): shape for shape in track}
        assert list(shown) == sorted(shown)
        assert len(shown) == len(track)
        for index, shape in shown.items():
            assert shape.tag == "polygon"
            assert shape.attrib["keyframe"] == "1"
            outside = shape.attrib["outside"] == "1"
            assert outside != mask_of(key, index).any()
            if not outside:
                np.testing.assert_array_equal(polygon_mask(shape.attrib["points"]), mask_of(key, index))
    assert {int(shape.attrib["frame"]) for shape in tracks[1]} == {0, 1, 2, 3, 4}


def test_cvat_masks_of_a_video_are_tracks_of_one_frame(tmp_path: Path) -> None:
    tracks = cvat_head(written("cvat", tmp_path, shapes="masks"), "interpolation", 5).findall("track")
    assert [track.attrib["id"] for track in tracks] == [str(number) for number in range(8)]
    for track in tracks:
        (shape,) = track
        expected = mask_of(int(track.attrib["group_id"]), int(shape.attrib["frame"]))
        np.testing.assert_array_equal(decoded_cvat(shape.attrib), expected)


def test_the_table_quotes_what_needs_it(tmp_path: Path) -> None:
    with open(written("csv", tmp_path), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    for row, (index, key) in zip(rows, itertools.product(range(5), NAMES), strict=True):
        mask = mask_of(key, index)
        assert (int(row["frame"]), int(row["object"]), int(row["area"])) == (index, key, mask.sum())
        assert float(row["time"]) == pytest.approx(TIMES[index])
        assert row["name"] == (NAMES[key].name or "7")
        assert (float(row["predicted_iou"]), float(row["presence"])) == (0.875, 0.5)
        if mask.any():
            x0, y0, x1, y1 = (int(row[side]) for side in ("x0", "y0", "x1", "y1"))
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
        else:
            assert row["x0"] == row["y1"] == ""
