"""Readers of data sets: each fixture is written here and must come back; each fault must name its file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sam2.data.clip import Clip
from sam2.data.motion import generate_clip
from sam2.data.readers import DatasetError, Problem, check, detect_format, open_dataset
from sam2.data.scenes import generate_still
from sam2.masks.coco import CocoDataset
from sam2.masks.png import write_binary_png, write_indexed_png
from sam2.masks.rle import encode_compressed
from tests.unit.video_samples import encode

SIZE = 48


def flat_clip(seed: int = 3, length: int = 3) -> Clip:
    """A clip whose objects do not overlap, as one label picture can hold them."""
    clip = generate_clip(seed, SIZE, length, 0.2)
    labels = np.zeros((length, SIZE, SIZE), np.uint8)
    for n in range(len(clip.object_ids)):
        labels[clip.masks[:, n]] = n + 1
    ids = [int(i) for i in np.unique(labels) if i]
    return Clip(clip.frames, np.stack([labels == i for i in ids], 1), tuple(ids), "swan")


def save(path: Path, frame: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path, **({"quality": 98, "subsampling": 0} if path.suffix == ".jpg" else {}))
    return path


def labels_of(clip: Clip, t: int) -> dict[int, np.ndarray]:
    return {i: clip.masks[t, n] for n, i in enumerate(clip.object_ids)}


def same(clip: Clip, read: Clip, exact: bool = False) -> None:
    """``read`` holds the objects that ``clip`` shows, and its frames as far as the codec keeps them."""
    seen = [n for n in range(len(clip.object_ids)) if clip.masks[:, n].any()]
    assert np.array_equal(clip.masks[:, seen], read.masks)
    assert read.frames.shape == clip.frames.shape
    gap = np.abs(read.frames.astype(int) - clip.frames)
    assert gap.max() == 0 if exact else gap.mean() < 6


def davis(root: Path, clip: Clip, suffix: str = ".jpg") -> Path:
    for t, frame in enumerate(clip.frames):
        save(root / "JPEGImages/480p/swan" / f"{t:05d}{suffix}", frame)
        write_indexed_png(
            root / "Annotations/480p/swan" / f"{t:05d}.png", labels_of(clip, t), size=(SIZE, SIZE)
        )
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("swan\n")
    return root


def messages(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


# --- folders of frames and label pictures


def test_davis_comes_back(tmp_path: Path) -> None:
    clip = flat_clip()
    data = open_dataset(davis(tmp_path, clip), split="val")
    assert data.format == "vos"
    assert list(data.names) == ["swan"]
    assert data.num_frames(0) == 3
    same(clip, data[0])
    assert data[0].object_ids == clip.object_ids
    assert check(tmp_path) == []


def test_png_frames_are_read_too(tmp_path: Path) -> None:
    clip = flat_clip()
    same(clip, open_dataset(davis(tmp_path, clip, ".png"))[0], exact=True)


def test_some_frames_of_a_clip_are_read_alone(tmp_path: Path) -> None:
    clip = flat_clip(length=4)
    part = open_dataset(davis(tmp_path, clip, ".png")).load(0, [3, 1])
    same(Clip(clip.frames[[3, 1]], clip.masks[[3, 1]], clip.object_ids), part, exact=True)


def test_a_dataset_can_be_sent_to_workers_and_sliced(tmp_path: Path) -> None:
    clip = flat_clip()
    data = open_dataset(davis(tmp_path, clip, ".png"))
    data.load(0, [0])
    same(clip, pickle.loads(pickle.dumps(data))[-1], exact=True)
    assert len(data[0:1]) == 1
    with pytest.raises(IndexError, match="clip 1 is out of range"):
        data[1]


def test_sparse_annotations_give_their_frames_alone(tmp_path: Path) -> None:
    clip = flat_clip(length=3)
    davis(tmp_path, clip, ".png")
    (tmp_path / "Annotations/480p/swan/00001.png").unlink()
    read = open_dataset(tmp_path)[0]
    same(Clip(clip.frames[[0, 2]], clip.masks[[0, 2]], clip.object_ids), read, exact=True)
    assert check(tmp_path) == []


def test_one_folder_an_object_comes_back_with_overlaps(tmp_path: Path) -> None:
    still = generate_still(7, SIZE, 0.8)
    frames = np.concatenate([still.frames, still.frames])
    clip = Clip(frames, np.concatenate([still.masks, still.masks]), still.object_ids, "v")
    for t, frame in enumerate(clip.frames):
        save(tmp_path / "JPEGImages_24fps/v" / f"{4 * t:05d}.png", frame)
        for n, object_id in enumerate(clip.object_ids):
            path = tmp_path / f"Annotations_6fps/v/{object_id:03d}/{4 * t:05d}.png"
            write_binary_png(path, clip.masks[t, n])
    save(tmp_path / "JPEGImages_24fps/v/00001.png", clip.frames[0])
    read = open_dataset(tmp_path)[0]
    same(clip, read, exact=True)
    assert read.object_ids == clip.object_ids
    assert check(tmp_path) == []


def test_vos_faults_name_their_files(tmp_path: Path) -> None:
    davis(tmp_path, flat_clip(length=4), ".png")
    images, annotations = tmp_path / "JPEGImages/480p", tmp_path / "Annotations/480p"
    write_binary_png(annotations / "swan/00000.png", np.ones((SIZE, SIZE + 2), np.bool_), force=True)
    data = (annotations / "swan/00001.png").read_bytes()
    (annotations / "swan/00001.png").write_bytes(data[: len(data) // 2])
    (images / "swan/00002.png").write_bytes(b"not a picture")
    high = Image.fromarray(np.full((SIZE, SIZE), 300, np.uint16))
    high.save(annotations / "swan/00003.png")
    write_binary_png(annotations / "swan/00009.png", np.ones((SIZE, SIZE), np.bool_))
    save(images / "goose/00000.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    found = {str(p.path.relative_to(tmp_path)): p.message for p in check(tmp_path)}
    assert "50x48 but its picture 48x48" in found["Annotations/480p/swan/00000.png"]
    assert "Annotations/480p/swan/00001.png" in found
    assert "JPEGImages/480p/swan/00002.png" in found
    assert "object id 300 is above 255" in found["Annotations/480p/swan/00003.png"]
    assert "no frame has the name" in found["Annotations/480p/swan/00009.png"]
    assert "no annotations for this video" in found["JPEGImages/480p/goose"]
    assert len(found) == 6


def test_loading_a_damaged_frame_names_it(tmp_path: Path) -> None:
    davis(tmp_path, flat_clip(), ".png")
    bad = tmp_path / "JPEGImages/480p/swan/00001.png"
    bad.write_bytes(bad.read_bytes()[:200])
    data = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"00001\.png") as error:
        data[0]
    assert error.value.path == bad
    assert data.load(0, [0, 2]).frames.shape[0] == 2


def test_a_video_without_any_object_is_reported(tmp_path: Path) -> None:
    clip = flat_clip()
    davis(tmp_path, Clip(clip.frames, np.zeros_like(clip.masks), clip.object_ids))
    assert "empty masks" in messages(check(tmp_path))


def test_a_listed_video_that_is_not_there(tmp_path: Path) -> None:
    davis(tmp_path, flat_clip())
    (tmp_path / "ImageSets/2017/val.txt").write_text("swan\nheron\n")
    assert "heron: the frames of an annotated video are missing" in messages(check(tmp_path, split="val"))
    with pytest.raises(DatasetError, match=r"no list train\.txt"):
        open_dataset(tmp_path, split="train")


# --- SA-V


def sav(root: Path, clip: Clip, kind: str = "manual", first_id: int = 0) -> Path:
    """SA-V as published: 24 frames a second, annotations for every fourth."""
    root.mkdir(parents=True, exist_ok=True)
    frames = [clip.frames[t] for t in range(len(clip)) for _ in range(4)]
    encode(root / "sav_1.mp4", frames, rate=24, options={"crf": "4"})
    rows = [[encode_compressed(mask) for mask in masks] for masks in clip.masks]
    content = {
        "video_id": "sav_1",
        "video_frame_count": len(frames),
        "masklet_id": [first_id + n for n in range(len(clip.object_ids))],
        "masklet": rows,
    }
    (root / f"sav_1_{kind}.json").write_text(json.dumps(content))
    return root


def test_sav_comes_back(tmp_path: Path) -> None:
    clip = flat_clip(length=3)
    sav(tmp_path / "sav_000", clip)
    data = open_dataset(tmp_path)
    assert data.format == "sav"
    assert data.num_frames(0) == 3
    same(clip, data[0])
    same(Clip(clip.frames[[2]], clip.masks[[2]], clip.object_ids), data.load(0, [2]))
    assert check(tmp_path) == []


def test_manual_and_automatic_masklets_are_joined(tmp_path: Path) -> None:
    clip = flat_clip(length=2)
    sav(tmp_path, clip)
    sav(tmp_path, clip, "auto")
    read = open_dataset(tmp_path)[0]
    assert len(read.object_ids) == len(set(read.object_ids)) == 2 * clip.masks.any((0, 2, 3)).sum()


def test_sav_faults_name_their_files(tmp_path: Path) -> None:
    clip = flat_clip(length=2)
    sav(tmp_path, clip)
    note = tmp_path / "sav_1_manual.json"
    content = json.loads(note.read_text())
    content["masklet"].append(content["masklet"][0])
    note.write_text(json.dumps(content))
    assert "annotation 2 needs frame 8, but there are 8" in messages(check(tmp_path))
    with pytest.raises(DatasetError, match=r"sav_1\.mp4"):
        open_dataset(tmp_path)[0]
    del content["masklet_id"]
    note.write_text(json.dumps(content))
    assert "not an SA-V annotation" in messages(check(tmp_path))
    note.write_text("{")
    assert "sav_1_manual.json: not readable as JSON" in messages(check(tmp_path))
    note.rename(tmp_path / "sav_2_manual.json")
    report = messages(check(tmp_path))
    assert "sav_1.mp4: no annotation" in report
    assert "sav_2_manual.json: the video of this annotation is missing" in report


def test_sav_masks_of_another_size_or_nothing_are_reported(tmp_path: Path) -> None:
    clip = flat_clip(length=1)
    empty = Clip(clip.frames, np.zeros_like(clip.masks), clip.object_ids)
    sav(tmp_path, empty, first_id=250)
    report = messages(check(tmp_path))
    assert "empty masks: masklet 250 is never seen" in report
    content = json.loads((tmp_path / "sav_1_manual.json").read_text())
    content["masklet"] = [[encode_compressed(np.ones((4, 4), np.bool_))] * len(clip.object_ids)]
    content["masklet_id"] = [256 + n for n in range(len(clip.object_ids))]
    (tmp_path / "sav_1_manual.json").write_text(json.dumps(content))
    report = messages(check(tmp_path))
    assert "4x4 but its picture 48x48" in report
    assert "object id 256 is above 255" in report


def test_a_cut_off_video_is_named(tmp_path: Path) -> None:
    clip = flat_clip(length=3)
    sav(tmp_path, clip)
    (tmp_path / "sav_1.mp4").write_bytes(b"\0" * 2000)
    with pytest.raises(DatasetError, match=r"sav_1\.mp4"):
        open_dataset(tmp_path)[0]


# --- stills


def sa1b(root: Path, still: Clip, name: str = "sa_1") -> Path:
    save(root / f"{name}.jpg", still.frames[0])
    notes = [{"id": 7 + n, "segmentation": encode_compressed(m)} for n, m in enumerate(still.masks[0])]
    (root / f"{name}.json").write_text(json.dumps({"image": {"image_id": 1}, "annotations": notes}))
    return root


def test_sa1b_comes_back(tmp_path: Path) -> None:
    still = generate_still(2, SIZE, 0.7)
    data = open_dataset(sa1b(tmp_path, still))
    assert data.format == "sa1b"
    assert list(data.names) == ["sa_1"]
    same(still, data[0])
    assert check(tmp_path) == []


def test_sa1b_faults_name_their_files(tmp_path: Path) -> None:
    still = generate_still(2, SIZE, 0.7)
    empty = Clip(still.frames, np.zeros_like(still.masks), still.object_ids)
    sa1b(tmp_path, empty, "sa_1")
    sa1b(tmp_path, still, "sa_2")
    (tmp_path / "sa_2.jpg").unlink()
    sa1b(tmp_path, still, "sa_3")
    (tmp_path / "sa_3.json").unlink()
    sa1b(tmp_path, still, "sa_4")
    content = json.loads((tmp_path / "sa_4.json").read_text())
    content["annotations"][0]["segmentation"]["counts"] = "~~"
    content["annotations"][1]["segmentation"] = encode_compressed(np.ones((5, 5), np.bool_))
    (tmp_path / "sa_4.json").write_text(json.dumps(content))
    report = messages(check(tmp_path))
    assert "sa_1.json: empty mask: object 7" in report
    assert "sa_2.json: the picture of this annotation is missing" in report
    assert "sa_3.jpg: no annotation" in report
    assert "sa_4.json: sa_4: a damaged segmentation" in report
    assert "5x5 but its picture 48x48" in report
    data = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"sa_4\.json"):
        data[1]


@pytest.mark.parametrize("kind", ["rle", "polygons"])
def test_coco_comes_back(tmp_path: Path, kind: str) -> None:
    still = generate_still(2, SIZE, 0.4)
    coco = CocoDataset()
    image = coco.add_image("a.png", SIZE, SIZE)
    for mask in still.masks[0]:
        coco.add_annotation(image, mask, segmentation=kind)  # type: ignore[arg-type]
    coco.add_annotation(image, np.ones((SIZE, SIZE), np.bool_), crowd=True)
    coco.add_image("unmarked.png", SIZE, SIZE)
    save(tmp_path / "val2017/a.png", still.frames[0])
    path = coco.write(tmp_path / "annotations/instances.json")
    data = open_dataset(path)
    assert data.format == "coco"
    assert list(data.names) == ["a.png"]
    same(still, data[0], exact=True)
    assert check(path) == []


def test_coco_faults_name_their_files(tmp_path: Path) -> None:
    still = generate_still(2, SIZE, 0.4)
    coco = CocoDataset()
    for name in ("a.png", "b.png"):
        coco.add_annotation(coco.add_image(name, SIZE, SIZE), still.masks[0, 0])
    save(tmp_path / "a.png", still.frames[0, :, :-4])
    path = coco.write(tmp_path / "instances.json")
    report = messages(check(path))
    assert "instances.json: a.png: the mask is 48x48 but its picture 44x48" in report
    assert "b.png" in report
    (tmp_path / "a.png").unlink()
    assert "its pictures (a.png, ...) are not beside it" in messages(check(path))
    path.write_text('{"images": []}')
    assert "not COCO instances" in messages(check(path))


# --- pictures and masks by name


def disjoint_still() -> Clip:
    clip = flat_clip(length=1)
    seen = [n for n in range(len(clip.object_ids)) if clip.masks[0, n].any()]
    return Clip(clip.frames, clip.masks[:, seen], tuple(range(1, len(seen) + 1)))


@pytest.mark.parametrize("way", ["indexed", "suffix", "folder"])
def test_pairs_come_back(tmp_path: Path, way: str) -> None:
    still = disjoint_still()
    save(tmp_path / "images/a_b.png", still.frames[0])
    for n, mask in enumerate(still.masks[0], 1):
        if way == "suffix":
            write_binary_png(tmp_path / f"masks/a_b_{n}.png", mask)
        if way == "folder":
            write_binary_png(tmp_path / f"masks/a_b/{n}.png", mask)
    if way == "indexed":
        write_indexed_png(tmp_path / "masks/a_b.png", labels_of(still, 0))
    data = open_dataset(tmp_path)
    assert data.format == "pairs"
    same(still, data[0], exact=True)
    assert check(tmp_path) == []


@pytest.mark.parametrize("kind", ["lossy", "soft", "16 bits"])
def test_one_black_and_white_mask_is_one_object(tmp_path: Path, kind: str) -> None:
    still = disjoint_still()
    save(tmp_path / "a.jpg", still.frames[0])
    grey = Image.fromarray((still.masks[0, 0] * 255).astype(np.uint8))
    if kind == "lossy":
        grey.save(tmp_path / "a_mask.jpg", quality=90)
    elif kind == "soft":
        grey.filter(ImageFilter.BoxBlur(0.4)).save(tmp_path / "a_mask.png")
    else:
        Image.fromarray(still.masks[0, 0] * np.uint16(65535)).save(tmp_path / "a_mask.png")
    read = open_dataset(tmp_path)[0]
    assert read.object_ids == (1,)
    assert (read.masks[0, 0] ^ still.masks[0, 0]).mean() < 0.02


def test_pair_faults_name_their_files(tmp_path: Path) -> None:
    still = disjoint_still()
    for name in ("a", "b", "c", "d"):
        save(tmp_path / f"images/{name}.png", still.frames[0])
    write_binary_png(tmp_path / "masks/a.png", np.zeros((SIZE, SIZE), np.bool_))
    write_binary_png(tmp_path / "masks/b.png", np.ones((SIZE, 10), np.bool_))
    write_binary_png(tmp_path / "masks/x.png", np.ones((SIZE, SIZE), np.bool_))
    (tmp_path / "masks/c.png").write_bytes(b"nothing")
    report = messages(check(tmp_path))
    assert "masks/a.png: empty mask" in report
    assert "masks/b.png: the mask is 10x48 but its picture 48x48" in report
    assert "masks/c.png" in report
    assert "images/d.png: no mask has the name of this picture" in report
    assert "masks/x.png: no picture has the name of this mask" in report


# --- finding out


def test_two_pictures_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    still = disjoint_still()
    save(tmp_path / "images/a.png", still.frames[0])
    save(tmp_path / "images/a.jpg", still.frames[0])
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="has the same name"):
        open_dataset(tmp_path)
    assert "has the same name" in messages(check(tmp_path))


def test_what_is_no_data_set_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no known layout"):
        detect_format(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(ValueError, match="format must be one of"):
        open_dataset(tmp_path, "voc")
    with pytest.raises(ValueError, match="has no split"):
        open_dataset(tmp_path, "pairs", split="val")
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(DatasetError, match="a data set is a folder"):
        open_dataset(tmp_path / "note.txt")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "no annotated clip or picture here" in messages(check(tmp_path))
