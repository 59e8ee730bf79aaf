from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sam2.masks import files, png

RNG = np.random.default_rng(0)
MASK = RNG.random((12, 17)) < 0.4


def encoded(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def grey(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values))


def test_palette_is_that_of_voc() -> None:
    palette = png.davis_palette().tolist()
    assert palette[:9] == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
    ]
    assert palette[21] == [128, 64, 128]
    assert palette[255] == [224, 224, 192]
    assert len({tuple(color) for color in palette}) == 256


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 255))
)
def test_indexed_png_round_trip(labels: np.ndarray) -> None:
    data = png.encode_indexed_png(labels)
    np.testing.assert_array_equal(png.read_label_map(data), labels)
    objects = png.read_indexed_png(data)
    assert list(objects) == sorted(set(labels.ravel().tolist()) - {0})
    np.testing.assert_array_equal(png.label_map(objects, size=labels.shape), labels)
    np.testing.assert_array_equal(png.read_mask(data), labels > 0)
    np.testing.assert_array_equal(Image.open(io.BytesIO(data)).convert("RGB"), png.davis_palette()[labels])


def test_indexed_png_on_disk(tmp_path: Path) -> None:
    target = png.write_indexed_png(tmp_path / "a.png", {3: MASK, 200: ~MASK})
    with Image.open(target) as picture:
        assert picture.mode == "P"
    objects = png.read_indexed_png(target)
    assert list(objects) == [3, 200]
    np.testing.assert_array_equal(objects[3], MASK)
    with pytest.raises(files.OutputExistsError, match="--force"):
        png.write_indexed_png(target, [MASK])
    png.write_indexed_png(target, [MASK], force=True)
    assert list(png.read_indexed_png(str(target))) == [1]
    assert os.listdir(tmp_path) == ["a.png"]


def test_overlaps_go_to_the_higher_score_then_to_the_later() -> None:
    left = np.array([[1, 1, 0]], bool)
    right = np.array([[0, 1, 1]], bool)
    assert png.label_map({5: left, 2: right}).tolist() == [[5, 2, 2]]
    assert png.label_map({2: right, 5: left}).tolist() == [[5, 5, 2]]
    assert png.label_map({5: left, 2: right}, scores={5: 0.9, 2: 0.1}).tolist() == [[5, 5, 2]]
    assert png.label_map({5: left, 2: right}, scores={5: 0.5, 2: 0.5}).tolist() == [[5, 2, 2]]
    with pytest.raises(ValueError, match=r"missing for the ids \[2\]"):
        png.label_map({5: left, 2: right}, scores={5: 0.5})


@pytest.mark.parametrize("object_id", [0, 256, -1])
def test_ids_that_do_not_fit_are_refused(tmp_path: Path, object_id: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.255.*binary PNG"):
        png.write_indexed_png(tmp_path / "a.png", {object_id: MASK})
    assert os.listdir(tmp_path) == []


def test_no_objects_need_a_size() -> None:
    assert not png.label_map({}, size=(3, 4)).any()
    assert png.label_map(np.zeros((0, 3, 4), bool), size=(3, 4)).shape == (3, 4)
    with pytest.raises(ValueError, match="size="):
        png.label_map({})
    with pytest.raises(ValueError, match="object 2"):
        png.label_map({1: MASK, 2: MASK[:3]})


def test_binary_png_round_trip(tmp_path: Path) -> None:
    target = png.write_binary_png(tmp_path / "a.png", MASK)
    values = np.asarray(Image.open(target))
    assert set(np.unique(values)) == {0, 255}
    np.testing.assert_array_equal(png.read_mask(target), MASK)


def test_cut_out(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
    mask = np.zeros((12, 17), bool)
    mask[2:5, 3:9] = True
    mask[2, 3] = False
    target = png.write_cut_out(tmp_path / "a.png", picture, mask)
    result = np.asarray(Image.open(target))
    np.testing.assert_array_equal(result[..., 3], mask * 255)
    np.testing.assert_array_equal(result[mask][:, :3], picture[mask])
    assert not result[~mask].any()
    np.testing.assert_array_equal(png.read_mask(target), mask)
    np.testing.assert_array_equal(png.cut_out(picture, mask, crop=True), result[2:5, 3:9])
    with pytest.raises(ValueError, match="empty"):
        png.cut_out(picture, mask & ~mask, crop=True)
    with pytest.raises(ValueError, match="resize the mask"):
        png.cut_out(picture, mask[:5])
    with pytest.raises(ValueError, match="uint8"):
        png.cut_out(picture / 255, mask)


SOFT = np.where(MASK, 200, 60).astype(np.uint8)
COLOURED = np.where(MASK[..., None], (0, 0, 90), 0).astype(np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(MASK)),
        grey(MASK.astype(np.uint8)),
        grey(MASK.astype(np.uint8) * 255),
        grey(MASK.astype(np.uint8) * 7),
        grey(SOFT),
        grey(MASK.astype(np.uint16) * 65535),
        grey(MASK.astype(np.uint16) * 300),
        grey(np.dstack([SOFT] * 3)),
        grey(COLOURED),
        encoded(Image.fromarray(np.dstack([SOFT] * 3 + [np.full_like(SOFT, 255)]))),
        encoded(Image.fromarray(np.dstack([np.full_like(SOFT, 9)] * 3 + [SOFT]))),
        encoded(Image.fromarray(np.dstack([np.full_like(SOFT, 9), SOFT])), format="PNG"),
        encoded(Image.fromarray(COLOURED).quantize(4)),
        encoded(Image.fromarray(SOFT).convert("P")),
        encoded(Image.fromarray(MASK.astype(np.uint8) * 255).convert("RGB").quantize(2, dither=0)),
        encoded(Image.fromarray(np.kron(SOFT, np.ones((8, 8), np.uint8))), format="JPEG", quality=95),
        encoded(Image.fromarray(np.dstack([SOFT] * 3)).convert("CMYK"), format="TIFF"),
        encoded(Image.fromarray(MASK.astype(np.float32)), format="TIFF"),
    ],
)
def test_any_picture_reads_as_the_mask(data: bytes) -> None:
    mask = png.read_mask(data)
    step = len(mask) // len(MASK)
    np.testing.assert_array_equal(mask[::step, ::step], MASK)


def test_pictures_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    data = encoded(Image.fromarray(MASK.astype(np.uint8) * 255), exif=exif)
    upright = np.rot90(MASK, -1)
    np.testing.assert_array_equal(png.read_mask(data), upright)
    np.testing.assert_array_equal(png.read_mask(Image.open(io.BytesIO(data))), upright)


def test_an_all_black_mask_is_empty_and_a_white_one_full() -> None:
    for fill in (0, 255):
        assert (png.read_mask(grey(np.full((3, 4), fill, np.uint8))) == bool(fill)).all()
    assert not png.read_mask(png.encode_indexed_png(np.zeros((3, 4)))).any()


def test_unusable_mask_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        png.read_mask(tmp_path / "nowhere.png")
    large = png.encode_binary_png(RNG.random((64, 64)) < 0.5)
    for name, data in {"zero.png": b"", "text.png": b"not a picture", "cut.png": large[:200]}.items():
        (tmp_path / name).write_bytes(data)
        for read in (png.read_mask, png.read_label_map, png.read_indexed_png):
            with pytest.raises(png.MaskFileError, match=name):
                read(tmp_path / name)
    with pytest.raises(png.MaskFileError, match="cannot read"):
        png.read_mask(tmp_path)
    photo = grey(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(png.MaskFileError, match="photo"):
        png.read_mask(photo)
    with pytest.raises(png.MaskFileError, match="object ids"):
        png.read_label_map(photo)
    with pytest.raises(png.MaskFileError, match=r"17x12.*9x8"):
        png.read_mask(grey(SOFT), size=(8, 9))
    assert png.read_mask(grey(SOFT), size=(12, 17)).shape == (12, 17)


def test_grey_label_maps_of_16_bits_keep_their_ids() -> None:
    labels = np.array([[0, 300], [65535, 1]], np.uint16)
    np.testing.assert_array_equal(png.read_label_map(grey(labels)), labels)
    assert list(png.read_indexed_png(grey(labels))) == [1, 300, 65535]
