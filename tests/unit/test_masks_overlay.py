from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam2.masks import marks
from sam2.masks.colors import object_color
from sam2.masks.overlay import line_width, overlay
from sam2.masks.sheets import sheet

GREY = np.full((80, 120, 3), 100, np.uint8)


def disc(radius: float = 25) -> np.ndarray:
    y, x = np.mgrid[:80, :120]
    return np.hypot(x - 60, y - 40) < radius


def test_fill_is_the_mix_of_picture_and_colour() -> None:
    result = overlay(GREY, {1: disc()}, opacity=0.4, thickness=0, colors={1: (200, 0, 50)})
    np.testing.assert_array_equal(result[~disc()], GREY[~disc()])
    np.testing.assert_array_equal(np.unique(result[disc()], axis=0), [[140, 60, 80]])
    assert (GREY == 100).all()


@given(hnp.arrays(np.uint8, (6, 7, 3)), st.floats(0, 1), hnp.arrays(np.uint8, 3))
def test_fill_is_rounded_right(picture: np.ndarray, opacity: float, color: np.ndarray) -> None:
    result = overlay(picture, [np.ones((6, 7))], opacity=opacity, thickness=0, colors={1: tuple(color)})
    weight = round(opacity * 255) / 255
    np.testing.assert_allclose(result, picture * (1 - weight) + color * weight, atol=0.51)


@pytest.mark.parametrize("thickness", [1, 2, 3, 6])
def test_outline_follows_the_edge_at_its_thickness(thickness: int) -> None:
    mask = np.zeros((80, 120), bool)
    mask[20:60, 30:90] = True
    result = overlay(GREY, {1: mask}, opacity=0, thickness=thickness, colors={1: (255, 255, 255)})
    profile = (result[40, :60, 0].astype(float) - 100) / 155
    line = np.flatnonzero(profile > 0.9)
    assert len(line) == thickness
    assert line[0] <= 30 <= line[-1] + 1
    assert profile[: line[0] - 1].max() == 0
    assert profile[line[-1] + 2 :].max() == 0
    assert 0 < profile[line[0] - 1] < 0.5  # softened


def test_thin_and_tiny_parts_are_visible() -> None:
    for rows, columns in ((slice(40, 41), slice(10, 100)), (slice(5, 6), slice(7, 8))):
        mask = np.zeros((80, 120), bool)
        mask[rows, columns] = True
        for thickness in (1, 3):
            result = overlay(GREY, {1: mask}, thickness=thickness, colors={1: (255, 255, 255)})
            assert (result[mask] > 150).all()


def test_masks_at_the_picture_edge_are_outlined_there() -> None:
    result = overlay(GREY, [np.ones((80, 120))], opacity=0, thickness=2, colors={1: (255, 0, 0)})
    assert (result[0, :, 0] == 255).all()
    assert (result[:, -1, 0] == 255).all()
    assert (result[5:-5, 5:-5] == 100).all()


def test_later_objects_lie_on_top() -> None:
    full = np.ones((80, 120), bool)
    colors = {1: (255, 0, 0), 2: (0, 0, 255)}
    result = overlay(GREY, {2: full, 1: full}, opacity=1, colors=colors)
    assert (result == (255, 0, 0)).all()


def test_prompts_and_labels_are_drawn() -> None:
    plain = overlay(GREY, {1: disc(), 2: ~disc()})
    marked = overlay(
        GREY,
        {1: disc(), 2: ~disc()},
        points=[[60, 40], [10, 10], [30, 5]],
        point_labels=[1, 0, -1],
        boxes=[30, 10, 100, 70],
        labels={1: "cup", 9: "absent"},
    )
    assert marked.shape == plain.shape
    red = marked[10 - 3, 10].astype(int)
    assert red[0] > red[1] + 100
    assert (marked[10, 10] == 255).all()  # the minus
    assert (marked[10, 60] == 255).all()  # the box
    changed = (marked != plain).any(axis=2)
    assert changed[40, 60]
    assert not changed[:8, 24:37].any()  # label -1 is padding


@pytest.mark.parametrize("kind", [0, 1])
def test_clicks_have_their_colour_and_a_white_rim(kind: int) -> None:
    picture = GREY.copy()
    marks.draw_points(picture, [60, 40], [kind], radius=10)
    assert (picture[40, 60] == 255).all()
    body = picture[40 + 5, 60 + 5].astype(int)
    assert body[kind] > body[1 - kind] + 100
    assert (picture[40, 60 + 11] == 255).all()
    assert ((picture[40 + 4, 60] == 255).all()) == bool(kind)  # a plus has a vertical bar
    assert (picture[:20] == 100).all()


def test_marks_outside_the_picture_are_cut_off() -> None:
    picture = GREY.copy()
    marks.draw_points(picture, [[-500, 3], [1e6, 1e6], [np.nan, 3]])
    assert (picture == 100).all()
    marks.draw_points(picture, [[0, 0], [119.5, 79.5]])
    marks.draw_boxes(picture, [[-50, -50, 500, 40], [5, 5, 5, 5]])
    marks.draw_label(picture, "beyond", (500, -20), (255, 255, 0))
    assert (picture != 100).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2000, 10)])
def test_tiny_and_long_pictures(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    result = overlay(
        picture, {1: np.ones(shape)}, points=[[0, 0]], boxes=[[0, 0, shape[1], shape[0]]], labels=True
    )
    assert result.shape == picture.shape
    assert result.any()


def test_no_objects_leave_the_picture() -> None:
    np.testing.assert_array_equal(overlay(GREY, {}), GREY)
    np.testing.assert_array_equal(overlay(GREY, {1: np.zeros((80, 120))}, labels=True), GREY)
    np.testing.assert_array_equal(overlay(GREY[..., 0], {}), GREY)


def test_line_width_grows_with_the_picture() -> None:
    assert [line_width((side, 4000)) for side in (1, 256, 480, 1080, 3000)] == [1, 1, 2, 4, 10]


def test_colours_are_distinct() -> None:
    colors = [object_color(key) for key in range(1, 65)]
    assert len(set(colors)) == 64
    for i, a in enumerate(colors[:12]):
        for b in colors[:i]:
            assert np.abs(np.subtract(a, b)).max() > 30
    assert all(0 <= part <= 255 for key in (-3, 0, 10**9) for part in object_color(key))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opacity": 1.5}, "opacity"),
        ({"thickness": -1}, "thickness"),
        ({"points": [[1, 2, 3]]}, r"\[N, 2\]"),
        ({"points": [[1, 2]], "point_labels": [1, 0]}, "1 points but 2 labels"),
        ({"boxes": [1, 2, 3]}, r"\[M, 4\]"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlay(GREY, {1: disc()}, **options)


def test_malformed_pictures_are_refused() -> None:
    for picture, message in (
        (GREY / 255, "uint8"),
        (np.zeros((4, 4, 4), np.uint8), "RGB"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            overlay(picture, {})
    with pytest.raises(ValueError, match=r"object 1.*resize the mask"):
        overlay(GREY, {1: disc()[:10]})
    with pytest.raises(ValueError, match=r"\[N, H, W\]"):
        overlay(GREY, disc())
    with pytest.raises(ValueError, match=r"object 3.*dtype"):
        overlay(GREY, {3: np.full((80, 120), "a")})


def test_sheet_places_pictures_in_a_grid() -> None:
    red, green = (np.zeros((30, 60, 3), np.uint8) for _ in range(2))
    red[..., 0], green[..., 1] = 255, 255
    page = sheet([red, green, red[:, :30]], columns=2, cell_width=60, gap=10)
    assert page.shape == (10 + 30 + 10 + 60 + 10, 10 + 60 + 10 + 60 + 10, 3)
    assert (page[10:40, 10:70] == (255, 0, 0)).all()
    assert (page[10:40, 80:140] == (0, 255, 0)).all()
    assert (page[:10] == 255).all()
    captioned = sheet([red, green], ["one", "a caption far too long for the cell" * 3], cell_width=60)
    plain = sheet([red, green], cell_width=60)
    assert captioned.shape[0] > plain.shape[0]
    assert captioned.shape[1] == plain.shape[1]


def test_sheet_refuses_what_it_cannot_place() -> None:
    with pytest.raises(ValueError, match="at least one"):
        sheet([])
    with pytest.raises(ValueError, match="1 pictures but 2"):
        sheet([GREY], ["a", "b"])
    with pytest.raises(ValueError, match="columns=0"):
        sheet([GREY], columns=0)
    with pytest.raises(ValueError, match="picture 0"):
        sheet([GREY / 255])


def test_masks_import_without_torch() -> None:
    code = (
        "import sys, importlib, pkgutil, sam2.masks as m\n"
        "for info in pkgutil.iter_modules(m.__path__): importlib.import_module('sam2.masks.' + info.name)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
