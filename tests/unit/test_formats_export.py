"""One export from beginning to end: options, one file, whole or not at all."""

from __future__ import annotations

import re
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from formats_helpers import NAMES, frames_of, mask_of, source_of
from PIL import Image

from sam2.formats import FORMATS, FrameMasks, ObjectInfo, describe, export, find
from sam2.formats.frames import Found
from sam2.formats.options import Options
from sam2.masks.files import OutputExistsError, OutputWriteError

SMALL = {3: NAMES[3], 7: NAMES[7]}


class Cancelled(Exception):
    """Raised by a caller to stop."""


@pytest.mark.parametrize("is_video", [True, False], ids=["video", "picture"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_makes_one_file_and_nothing_beside_it(tmp_path: Path, name: str, is_video: bool) -> None:
    seen: list[int] = []
    source = source_of(is_video, objects=SMALL)
    path = export(
        name, tmp_path, source, frames_of(is_video, SMALL), progress=seen.append, zipped_as="clip, 1"
    )
    assert path.is_file()
    assert path.name.startswith("clip, 1-")
    assert list(tmp_path.iterdir()) == [path]
    assert seen == list(range(1, 6 if is_video else 2))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            assert packed.testzip() is None
            assert packed.namelist()
            inside = FORMATS[name].entry_of(Options(), is_video)
            assert all(entry.startswith(f"{inside}/") for entry in packed.namelist())


@pytest.mark.parametrize("name", FORMATS)
def test_a_cancelled_export_leaves_nothing(tmp_path: Path, name: str) -> None:
    def progress(done: int) -> None:
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        export(name, tmp_path / "new", source_of(objects=SMALL), frames_of(objects=SMALL), progress=progress)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    """A limit on the size of files stands for it; it fails at the same calls."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, most[1]))
    try:
        with pytest.raises(OutputWriteError, match=f"cannot write {tmp_path}"):
            export(name, tmp_path, source_of(objects=SMALL), frames_of(objects=SMALL))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_frames_without_objects_are_no_fault(tmp_path: Path, name: str) -> None:
    frames = [FrameMasks(i, f"{i}.png", i / 10, {}) for i in range(2)]
    assert export(name, tmp_path, source_of(objects={}), frames).exists()


def test_an_earlier_result_is_kept_until_the_new_one_is_whole(tmp_path: Path) -> None:
    source = source_of(objects=SMALL)
    path = export("csv", tmp_path, source, frames_of(objects=SMALL))
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"masks\.csv"):
        export("csv", tmp_path, source, frames_of(objects=SMALL))

    def broken():
        yield next(frames_of(objects=SMALL))
        raise Cancelled

    with pytest.raises(Cancelled):
        export("csv", tmp_path, source, broken(), force=True)
    assert path.read_bytes() == before
    export("csv", tmp_path, source, list(frames_of(objects=SMALL))[:1], force=True)
    assert len(path.read_text().splitlines()) < len(before.splitlines())
    assert list(tmp_path.iterdir()) == [path]


def test_no_frame_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frame"):
        export("coco", tmp_path, source_of(), [])
    assert not any(tmp_path.iterdir())


def test_ids_beyond_an_indexed_png_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"300.*davis"):
        export("davis", tmp_path, source_of(), frames_of())
    assert not any(tmp_path.iterdir())


def test_davis_gives_overlapping_pixels_to_the_better_mask(tmp_path: Path) -> None:
    whole = np.ones(mask_of(3, 0).shape, bool)
    found = {1: Found.of(mask_of(3, 0), 0.9, None), 2: Found.of(whole, 0.5, None)}
    source = source_of(is_video=False, objects={1: ObjectInfo(), 2: ObjectInfo()})
    path = export("davis", tmp_path, source, [FrameMasks(0, "photo.jpg", None, found)])
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.where(mask_of(3, 0), 1, 2))


def test_formats_describe_themselves_for_forms() -> None:
    described = {one["name"]: one for one in describe()}
    assert set(described) == set(FORMATS)
    opacity = described["overlay"]["options"]["opacity"]
    assert (opacity["type"], opacity["default"], opacity["min"], opacity["max"]) == ("number", 0.45, 0, 1)
    assert described["coco"]["options"]["segmentation"]["choices"] == ["rle", "polygons"]
    for one in described.values():
        assert one["title"]
        for option in one["options"].values():
            assert {"title", "type", "default"} <= set(option)


def test_the_page_on_outputs_names_every_format_and_option() -> None:
    page = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    for one in FORMATS.values():
        (about,) = re.findall(rf"^- `{one.name}`: (.*?)(?=^- |\Z|^$)", page, re.MULTILINE | re.DOTALL)
        for option in one.options.schema():
            assert f"`{option}`" in about, (one.name, option)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("overlay", {"opacty": 1}, "opacty.*opacity"),
        ("overlay", {"opacity": 2}, "opacity.*0.0 to 1.0.*2"),
        ("overlay", {"opacity": "much"}, "opacity.*much"),
        ("overlay", {"opacity": True}, "opacity.*True"),
        ("overlay", {"gif_width": 20.5}, "gif_width.*whole"),
        ("overlay", {"opacity": float("nan")}, "opacity.*nan"),
        ("overlay", {"outline": "maybe"}, "outline.*true or false"),
        ("coco", {"segmentation": "boxes"}, "segmentation.*rle, polygons.*boxes"),
        ("coco", {"segmentation": ["rle"]}, "segmentation"),
        ("background", {"color": "red"}, "color.*#30a0ff.*red"),
        ("labelstudio", {"prefix": 3}, "prefix.*text"),
        ("csv", {"x": 1}, "x.*none"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, name: str, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        export(name, tmp_path, source_of(), frames_of(), options)


def test_an_unknown_format_is_met_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        find("cocoo")
