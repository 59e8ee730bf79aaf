"""Looking again: the geometry of crops, which of several masks is offered, and predictions that zoom in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import tiny_model

from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.zoom import OUTSIDE, Prompt, View, Window, Zoom, answer, around, extent, moved, paste

H, W, SIDE = 240, 400, 16
BLOB = (300, 40, 324, 60)
"""The only object of `Eyes`: x0, y0, x1, y1."""


class Eyes:
    """A look that sees one rectangle wherever its crop shows enough of it, and notes what was asked."""

    def __init__(self, least: float = 0.2) -> None:
        self.least = least
        self.asked: list[tuple[list[Window], bool, bool]] = []

    def __call__(self, windows, prompts, logits, multimask):
        self.asked.append((list(windows), logits is not None, multimask))
        count = 3 if multimask else 1
        masks = torch.full((len(windows), count, SIDE, SIDE), -5.0)
        ious = torch.full((len(windows), count), 0.1)
        for row, window in enumerate(windows):
            x0, y0, x1, y1 = BLOB
            if (x1 - x0) / window.size[1] < self.least:
                masks[row, :, :, : SIDE // 2] = 5.0  # too small to be seen: half of the crop, not sure of it
                continue
            height, width = window.size
            x = window.x0 + (torch.arange(SIDE) + 0.5) / SIDE * width
            y = window.y0 + (torch.arange(SIDE) + 0.5) / SIDE * height
            inside = ((x >= x0) & (x < x1))[None] & ((y >= y0) & (y < y1))[:, None]
            masks[row, 0][inside] = 5.0
            ious[row, 0] = 0.9
        return masks, ious, torch.full((len(windows),), 4.0)


def click(x: float, y: float) -> Prompt:
    return Prompt(np.array([[x, y]]), np.array([1], np.int32))


def iou(mask: torch.Tensor) -> float:
    truth = torch.zeros(H, W, dtype=torch.bool)
    truth[BLOB[1] : BLOB[3], BLOB[0] : BLOB[2]] = True
    found = mask > 0
    return float((found & truth).sum() / (found | truth).sum())


# ---------------------------------------------------------------- geometry


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.floats(0.5, 4),
)
def test_a_window_lies_in_the_picture_and_holds_its_box(size, shares, factor):
    h, w = size
    x0, x1 = sorted((shares[0] * w, shares[1] * w))
    y0, y1 = sorted((shares[2] * h, shares[3] * h))
    window = around((x0, y0, x1, y1), factor, size, 1)
    assert 0 <= window.x0 < window.x1 <= w
    assert 0 <= window.y0 < window.y1 <= h
    if factor >= 1:
        # whole pixels: a fraction of one may stay outside
        assert window.x0 <= x0
        assert window.y0 <= y0
        assert window.x1 >= x1 - 1
        assert window.y1 >= y1 - 1


def test_a_window_is_square_where_the_picture_leaves_room():
    assert around((100, 100, 120, 110), 2.0, (H, W), 1).size == (40, 40)
    assert around((100, 100, 102, 101), 2.0, (H, W), 48).size == (48, 48)
    assert around((0, 0, 20, 20), 2.0, (H, W), 1) == Window(0, 0, 40, 40)
    assert around((0, 0, 400, 10), 2.0, (H, W), 1) == Window(0, 0, 400, 240)


def test_a_mask_moves_between_windows_and_back():
    logits = torch.full((SIDE, SIDE), -8.0)
    logits[4:12, 6:10] = 8.0
    view = View(Window(100, 80, 164, 144), logits, 1.0, 0.0)
    assert moved(view, view.window) is logits
    wider = View(Window(68, 48, 196, 176), moved(view, Window(68, 48, 196, 176)), 1.0, 0.0)
    assert float(wider.logits[0, 0]) == pytest.approx(OUTSIDE)
    np.testing.assert_allclose(extent(wider), (124, 96, 140, 128), atol=8)
    np.testing.assert_allclose(extent(view), (124, 96, 140, 128), atol=1e-3)
    whole = paste(view, (H, W), None, Zoom())
    assert whole.shape == (H, W)
    ys, xs = np.nonzero((whole > 0).numpy())
    np.testing.assert_allclose((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), (124, 96, 140, 128), atol=2)
    assert float(whole[0, 0]) == OUTSIDE


def test_an_empty_mask_has_no_extent():
    assert extent(View(Window(0, 0, 9, 9), torch.full((SIDE, SIDE), -1.0), 0.0, 0.0)) is None


def test_a_mask_hardly_reaches_beyond_its_box():
    view = View(Window(0, 0, W, H), torch.full((SIDE, SIDE), 5.0), 1.0, 0.0)
    pasted = paste(view, (H, W), np.array([100, 50, 200, 150], np.float32), Zoom(slack=0.05)) > 0
    assert pasted[45:155, 95:205].all()
    assert pasted.sum() == 110 * 110


# ---------------------------------------------------------------- what is asked


def test_a_box_is_looked_at_from_near():
    eyes = Eyes()
    prompt = Prompt(np.zeros((0, 2)), np.zeros(0, np.int32), np.array(BLOB, np.float32))
    [[view]] = answer(eyes, (H, W), [prompt], [None], False, Zoom(smallest=8))
    assert iou(paste(view, (H, W), prompt.box, Zoom())) > 0.8
    assert view.window.size == (39, 39)
    assert [(known, many) for _, known, many in eyes.asked] == [(False, False), (True, False)]


def test_a_first_click_finds_the_scale_by_itself():
    eyes = Eyes()
    [views] = answer(eyes, (H, W), [click(310, 50)], [None], True, Zoom(smallest=8, least=40))
    sides = [max(window.size) for window in eyes.asked[0][0]]
    assert sides == [400, 200, 100, 50]
    assert len(views) == 3
    assert views[0].score >= max(view.score for view in views[1:])
    assert iou(paste(views[0], (H, W), None, Zoom())) > 0.8
    assert max(views[0].window.size) < 60  # looked at once more, from near


def test_small_pictures_are_not_cut_into_crumbs():
    eyes = Eyes()
    answer(eyes, (90, 120), [click(60, 50)], [None], True, Zoom(least=96))
    assert [max(window.size) for window in eyes.asked[0][0]] == [120]


def test_a_correction_goes_on_from_the_mask_before():
    eyes = Eyes()
    before = View(Window(200, 0, 400, 200), torch.full((SIDE, SIDE), -5.0), 0.5, 0.0)
    before.logits[3:5, 8:10] = 5.0  # x 300..325, y 37..62
    [[view]] = answer(eyes, (H, W), [click(310, 50)], [before], False, Zoom(smallest=8))
    [(windows, known, many)] = eyes.asked
    assert known
    assert not many
    assert max(windows[0].size) == pytest.approx(1.6 * 25, abs=2)
    assert iou(paste(view, (H, W), None, Zoom())) > 0.8


def test_a_mask_cut_off_by_its_crop_is_looked_at_from_further_away():
    eyes = Eyes()
    before = View(Window(200, 0, 400, 200), torch.full((SIDE, SIDE), -5.0), 0.5, 0.0)
    before.logits[4, 8] = 5.0  # a corner of the object: the crop around it cuts the rest off
    answer(eyes, (H, W), [click(306, 50)], [before], False, Zoom(smallest=8))
    assert [max(windows[0].size) for windows, _, _ in eyes.asked] == [20, 26]


# ---------------------------------------------------------------- in the predictor


@pytest.fixture(scope="module")
def model():
    return tiny_model().eval()


@pytest.fixture
def predictor(model):
    found = SAM2ImagePredictor(model, zoom=True)
    found.set_image(np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8))
    return found


PROMPTS = {
    "click": {"point_coords": np.array([[40.0, 30.0]]), "point_labels": np.array([1])},
    "box": {"box": np.array([20.0, 10.0, 60.0, 50.0])},
    "both": {
        "point_coords": np.array([[40.0, 30.0]]),
        "point_labels": np.array([1]),
        "box": np.array([20.0, 10.0, 60.0, 50.0]),
    },
}


@pytest.mark.parametrize("name", list(PROMPTS))
@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_zoomed_answers_have_the_published_shapes(predictor, name, multimask, count):
    masks, ious, low = predictor.predict(**PROMPTS[name], multimask_output=multimask)
    assert (masks.shape, ious.shape, low.shape) == ((count, 90, 140), (count,), (count, 16, 16))
    assert masks.dtype == ious.dtype == low.dtype == np.float32
    assert set(np.unique(masks)) <= {0, 1}
    assert predictor.presence.shape == (1,)
    assert ious[0] == ious.max()
    logits, _, _ = predictor.predict(**PROMPTS[name], multimask_output=multimask, return_logits=True)
    np.testing.assert_array_equal(logits > 0, masks > 0)


def test_logits_that_come_back_are_known(predictor):
    """What a caller feeds back is as fine as the crop that it came from, so zooming is not undone by it."""
    _, _, low = predictor.predict(**PROMPTS["box"], multimask_output=False)
    again = predictor.predict(**PROMPTS["box"], mask_input=low, multimask_output=False, return_logits=True)
    other = low.copy()
    other[0, 0, 0] += 0.25  # another array: seen as a mask of the whole picture
    coarse = predictor.predict(**PROMPTS["box"], mask_input=other, multimask_output=False, return_logits=True)
    assert again[0].shape == coarse[0].shape
    assert np.abs(again[0] - coarse[0]).max() > 1e-3


def test_a_mask_to_correct_is_as_fine_as_its_crop(predictor):
    """Two masks that the low-resolution logits of the whole picture cannot tell apart by much."""
    one = np.zeros((90, 140), bool)
    one[30:38, 40:48] = True
    other = one.copy()
    other[30:38, 45:48] = False
    answers = []
    for mask in (one, other):
        given = predictor.mask_to_input(mask)
        assert given.shape == (1, 16, 16)
        answers.append(predictor.predict(**PROMPTS["click"], mask_input=given, multimask_output=False)[1])
    assert abs(float(answers[0][0] - answers[1][0])) > 1e-5
    with pytest.raises(ValueError, match="the picture is"):
        predictor.mask_to_input(one[:-1])
    assert predictor.mask_to_input(np.zeros((90, 140))).max() == -10


def test_a_mask_alone_is_a_prompt(predictor):
    mask = np.zeros((90, 140), bool)
    mask[30:60, 40:80] = True
    masks, _, _ = predictor.predict(mask_input=predictor.mask_to_input(mask), multimask_output=False)
    assert masks.shape == (1, 90, 140)


def test_objects_asked_together_are_answered_as_alone(predictor):
    boxes = np.array([[20.0, 10.0, 60.0, 50.0], [70.0, 30.0, 130.0, 80.0]])
    together = predictor.predict(box=boxes, multimask_output=False, return_logits=True)
    for i, box in enumerate(boxes):
        alone = predictor.predict(box=box, multimask_output=False, return_logits=True)
        np.testing.assert_allclose(together[0][i], alone[0], atol=2e-3)
        np.testing.assert_allclose(together[1][i], alone[1], atol=1e-4)


def test_pictures_of_a_batch_zoom_each_in_itself(model):
    pictures = [
        np.random.default_rng(i).integers(0, 256, (60 + 20 * i, 90, 3), dtype=np.uint8) for i in (0, 1)
    ]
    batch, single = SAM2ImagePredictor(model, zoom=True), SAM2ImagePredictor(model, zoom=True)
    batch.set_image_batch(pictures)
    box = np.array([10.0, 10.0, 40.0, 40.0])
    found, _, _ = batch.predict_batch(box_batch=[box, box], multimask_output=False, return_logits=True)
    for picture, mask in zip(pictures, found):
        single.set_image(picture)
        np.testing.assert_allclose(
            mask, single.predict(box=box, multimask_output=False, return_logits=True)[0], atol=2e-3
        )


def test_crops_are_encoded_once(predictor, monkeypatch):
    counts: list[int] = []
    encode = predictor.model.forward_image

    def counted(images):
        counts.append(len(images))
        return encode(images)

    monkeypatch.setattr(predictor.model, "forward_image", counted)
    predictor.predict(**PROMPTS["box"], multimask_output=False)
    predictor.predict(**PROMPTS["box"], multimask_output=False)
    assert counts == [1]


def test_models_say_whether_predictions_zoom(model):
    assert SAM2ImagePredictor(model).zoom is None  # as published
    assert SAM2ImagePredictor(model, zoom=True).zoom == Zoom()
    zooming = tiny_model()
    zooming.zoom = True
    assert SAM2ImagePredictor(zooming).zoom == Zoom()
    assert SAM2ImagePredictor(zooming, zoom=False).zoom is None
