"""The image predictor with a small random model: shapes, equalities, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from training_helpers import tiny_model

from sam2.sam2_image_predictor import SAM2ImagePredictor

SIZE = 64
H, W = 90, 140


@pytest.fixture(scope="module")
def model():
    return tiny_model().eval()


@pytest.fixture(scope="module")
def photo():
    smooth = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    return np.array(Image.fromarray(smooth).resize((W, H)))


@pytest.fixture(scope="module")
def encoded(model, photo):
    """For tests that leave the predictor as it is."""
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(photo)
    return predictor


@pytest.fixture
def predictor(model, photo):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(photo)
    return predictor


POINT = {"point_coords": np.array([[40.0, 30.0]]), "point_labels": np.array([1])}
BOX = np.array([20.0, 10.0, 100.0, 70.0])


def same(ours, other):
    for a, b in zip(ours, other, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


# ---------------------------------------------------------------- results


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_shapes_and_dtypes(encoded, multimask, count):
    masks, ious, low = encoded.predict(**POINT, multimask_output=multimask)
    assert (masks.shape, ious.shape, low.shape) == ((count, H, W), (count,), (count, SIZE // 4, SIZE // 4))
    assert masks.dtype == ious.dtype == low.dtype == np.float32
    assert set(np.unique(masks)) <= {0, 1}


def test_logits_are_what_masks_are_cut_from(predictor):
    logits = predictor.predict(**POINT, return_logits=True)[0]
    np.testing.assert_array_equal(logits > 0, predictor.predict(**POINT)[0])
    predictor.mask_threshold = 1.0
    np.testing.assert_array_equal(logits > 1, predictor.predict(**POINT)[0])


def test_several_objects_equal_each_alone(encoded):
    boxes = np.stack([BOX, BOX * 0.5, BOX * 0.5 + 30])
    together = encoded.predict(box=boxes, multimask_output=False)
    assert together[0].shape == (3, 1, H, W)
    for i, box in enumerate(boxes):
        alone = encoded.predict(box=box, multimask_output=False, return_logits=True)
        same([together[1][i], together[2][i]], alone[1:])
    same(encoded.predict(box=boxes[:1]), encoded.predict(box=boxes[0]))

    points = np.array([[[40.0, 30.0]], [[90.0, 60.0]]])
    together = encoded.predict(points, np.ones((2, 1)))
    assert together[0].shape == (2, 3, H, W)
    same([t[1] for t in together[1:]], encoded.predict(points[1], np.ones(1))[1:])


def test_shares_and_pixels_are_one(encoded):
    shares = POINT["point_coords"] / [W, H]
    same(encoded.predict(shares, [1], normalize_coords=False)[1:], encoded.predict(**POINT)[1:])
    box = BOX / [W, H, W, H]
    same(encoded.predict(box=box, normalize_coords=False)[1:], encoded.predict(box=BOX)[1:])


def test_a_box_is_its_corners_as_points(encoded):
    corners = encoded.predict(BOX.reshape(2, 2), np.array([2, 3]))
    same(corners, encoded.predict(box=BOX))


def test_mask_input_refines(encoded):
    first = encoded.predict(**POINT)
    low = first[2][:1]
    refined = encoded.predict(**POINT, mask_input=low)
    assert not np.allclose(refined[1], first[1])
    same(encoded.predict(**POINT, mask_input=torch.from_numpy(low)[None]), refined)
    boxes = np.stack([BOX, BOX])
    one_for_all = encoded.predict(box=boxes, mask_input=low)
    same(encoded.predict(box=boxes, mask_input=np.stack([low, low])), one_for_all)
    assert encoded.predict(mask_input=low)[0].shape == (3, H, W)
    assert encoded.predict(mask_input=np.stack([low, low]))[0].shape == (2, 3, H, W)


def test_padding_points_change_nothing(encoded):
    padded = encoded.predict(np.array([[40.0, 30.0], [-5.0, 9999.0]]), np.array([1, -1]))
    elsewhere = encoded.predict(np.array([[40.0, 30.0], [0.0, 0.0]]), np.array([1, -1]))
    same(padded, elsewhere)


def test_lists_and_tensors_are_prompts_too(encoded):
    expected = encoded.predict(**POINT)
    same(encoded.predict([[40, 30]], [1]), expected)
    same(encoded.predict(torch.tensor([[40.0, 30.0]]), torch.tensor([1])), expected)


def test_prompts_are_not_written_on(encoded):
    coords, box = POINT["point_coords"].astype(np.float32), BOX.astype(np.float32)
    before = coords.copy(), box.copy()
    encoded.predict(coords, np.array([1]), box)
    np.testing.assert_array_equal(coords, before[0])
    np.testing.assert_array_equal(box, before[1])


def test_corner_points_and_boxes_beyond_the_edge_are_valid(encoded):
    encoded.predict(np.array([[0.0, 0.0], [W, H]]), np.array([1, 0]))
    encoded.predict(box=np.array([-3.0, -2.0, W + 5, H + 1]))


def test_islands_are_dropped(model, photo):
    plain, clean = SAM2ImagePredictor(model), SAM2ImagePredictor(model, 0.0, 1e9, 1e9)
    for predictor in (plain, clean):
        predictor.set_image(photo)
    logits, _, low = clean.predict(**POINT, return_logits=True)
    swapped = torch.where(torch.from_numpy(low) > 0, -10.0, 10.0)[None]
    expected = torch.nn.functional.interpolate(swapped, (H, W), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    same([low], [plain.predict(**POINT)[2]])


# ---------------------------------------------------------------- pictures


def test_every_kind_of_picture(model, photo, tmp_path):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(photo)
    expected = predictor.get_image_embedding()
    assert expected.shape == (1, 32, SIZE // 16, SIZE // 16)
    picture = Image.fromarray(photo)
    picture.save(tmp_path / "photo.png")
    for kind in (picture, picture.convert("RGBA"), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        predictor.set_image(kind)
        assert predictor._orig_hw == [(H, W)]
        torch.testing.assert_close(predictor.get_image_embedding(), expected)
    predictor.set_image(picture.convert("L"))
    assert predictor.predict(**POINT)[0].shape == (3, H, W)


@pytest.mark.parametrize("shape", [(1, 1, 3), (100, 5000, 3)])
def test_odd_sizes(model, shape):
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(np.zeros(shape, np.uint8))
    assert predictor.predict([[0.5, 0.5]], [1])[0].shape == (3, *shape[:2])


def test_state(model, photo):
    predictor = SAM2ImagePredictor(model)
    assert (predictor._is_image_set, predictor._is_batch, predictor._features) == (False, False, None)
    predictor.set_image(photo)
    assert (predictor._is_image_set, predictor._is_batch) == (True, False)
    assert predictor._orig_hw == [(H, W)]
    assert [tuple(f.shape[-2:]) for f in predictor._features["high_res_feats"]] == predictor._bb_feat_sizes[
        :2
    ]
    assert predictor.device == torch.device("cpu")
    predictor.reset_predictor()
    assert not predictor._is_image_set
    with pytest.raises(ValueError, match="call set_image"):
        predictor.predict(**POINT)


def test_a_bad_picture_leaves_the_one_before(predictor):
    before = predictor.predict(**POINT)
    with pytest.raises(ValueError, match="not a picture"):
        predictor.set_image(np.zeros((4, 4, 7), np.uint8))
    same(predictor.predict(**POINT), before)


def test_batch_equals_single_pictures(model, photo):
    predictor = SAM2ImagePredictor(model)
    other = photo[:60, ::-1]
    predictor.set_image_batch([photo, other])
    assert predictor._is_batch
    boxes = np.stack([BOX * 0.5, BOX * 0.3])
    masks, ious, low = predictor.predict_batch(
        [POINT["point_coords"], None], [POINT["point_labels"], None], box_batch=[None, boxes]
    )
    assert [m.shape for m in masks] == [(3, H, W), (2, 3, 60, W)]
    predictor.set_image(photo)
    same([ious[0], low[0]], predictor.predict(**POINT)[1:])
    predictor.set_image(other)
    same([ious[1], low[1]], predictor.predict(box=boxes)[1:])


def test_batch_is_asked_as_a_batch(predictor, photo):
    with pytest.raises(ValueError, match="use predict"):
        predictor.predict_batch([None], [None])
    predictor.set_image_batch([photo, photo])
    with pytest.raises(ValueError, match="use predict_batch"):
        predictor.predict(**POINT)
    with pytest.raises(ValueError, match="box_batch has 1 items for 2 pictures"):
        predictor.predict_batch(box_batch=[BOX])
    with pytest.raises(ValueError, match="picture 1 of the batch: no prompt"):
        predictor.predict_batch(box_batch=[BOX, None])
    with pytest.raises(ValueError, match="a list of at least one"):
        predictor.set_image_batch([])
    with pytest.raises(ValueError, match="set_image"):
        predictor.set_image_batch(photo)


# ---------------------------------------------------------------- what is refused

XY = [[40.0, 30.0]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt"),
        ({"point_coords": XY}, "go together"),
        ({"point_labels": [1]}, "go together"),
        (
            {"point_coords": [[W + 1.0, 5.0]], "point_labels": [1]},
            r"\(141, 5\) lies outside the picture of 140",
        ),
        ({"point_coords": [[5.0, -1.0]], "point_labels": [0]}, r"\(5, -1\) lies outside"),
        ({"point_coords": [[5.0, np.nan]], "point_labels": [1]}, "finite"),
        ({"point_coords": [[5.0, np.inf]], "point_labels": [-1]}, "finite"),
        ({"point_coords": [["a", "b"]], "point_labels": [1]}, "array of numbers"),
        ({"point_coords": [5.0, 5.0], "point_labels": [1]}, r"must be \[N, 2\]"),
        ({"point_coords": [[5.0, 5.0, 5.0]], "point_labels": [1]}, r"must be \[N, 2\]"),
        ({"point_coords": np.zeros((0, 2)), "point_labels": []}, r"must be \[N, 2\]"),
        ({"point_coords": XY, "point_labels": [1, 0]}, r"point_labels must be \[1\]"),
        ({"point_coords": [XY], "point_labels": [1]}, r"point_labels must be \[1, 1\]"),
        ({"point_coords": XY, "point_labels": [5]}, "point_labels must be 1"),
        ({"point_coords": XY, "point_labels": [0.5]}, "point_labels must be 1"),
        ({"box": [10.0, 10.0, 10.0, 20.0]}, "is empty"),
        ({"box": [10.0, 30.0, 20.0, 20.0]}, "is empty"),
        ({"box": [10.0, 10.0, 20.0]}, r"box must be \[4\]"),
        ({"box": np.zeros((0, 4))}, r"box must be \[4\]"),
        ({"box": [W + 1.0, 1.0, W + 9.0, 9.0]}, "lies outside"),
        ({"box": [np.nan, 1.0, 5.0, 9.0]}, "finite"),
        (
            {"box": [BOX, BOX], "point_coords": XY, "point_labels": [1]},
            "points for 1 objects but boxes for 2",
        ),
        ({"mask_input": np.zeros((1, H, W), np.float32)}, r"must be \[1, 16, 16\]"),
        ({"mask_input": np.zeros((16, 16), np.float32)}, r"must be \[1, 16, 16\]"),
        ({"mask_input": np.zeros((1, 16, 16), bool)}, "float logits"),
        ({"mask_input": torch.zeros(1, 16, 16, dtype=torch.uint8)}, "float logits"),
        ({"mask_input": np.full((1, 16, 16), np.nan)}, "finite"),
        ({"mask_input": np.zeros((3, 1, 16, 16)), "box": [BOX, BOX]}, "mask_input for 3 objects"),
    ],
)
def test_refuses(encoded, prompt, message):
    with pytest.raises(ValueError, match=message):
        encoded.predict(**prompt)


def test_refuses_shares_above_one(encoded):
    with pytest.raises(ValueError, match="outside the picture of 1 x 1"):
        encoded.predict([[40.0, 30.0]], [1], normalize_coords=False)


def test_prompts_need_a_picture(model):
    with pytest.raises(ValueError, match="call set_image"):
        SAM2ImagePredictor(model).predict(**POINT)
    with pytest.raises(ValueError, match="call set_image"):
        SAM2ImagePredictor(model).get_image_embedding()


# ---------------------------------------------------------------- precision, builders


def test_precision_is_set_inside(model, photo):
    def ious(dtype, outer=False):
        predictor = SAM2ImagePredictor(model, dtype=dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
            predictor.set_image(photo)
            result = predictor.predict(**POINT)[1]
            assert torch.is_autocast_enabled("cpu") == outer
        return result

    exact = ious(None)
    np.testing.assert_array_equal(ious(torch.float32, outer=True), exact)
    for rough in (ious(torch.bfloat16), ious(None, outer=True)):
        assert not np.array_equal(rough, exact)
        np.testing.assert_allclose(rough, exact, atol=0.05)
    with pytest.raises(ValueError, match="dtype must be"):
        SAM2ImagePredictor(model, dtype=torch.int8)


def test_from_pretrained_shares_out_its_options(model, monkeypatch):
    seen = {}

    def build(model_id, **kwargs):
        seen.update(kwargs, model_id=model_id)
        return model

    monkeypatch.setattr("sam2.build_sam.build_sam2_hf", build)
    predictor = SAM2ImagePredictor.from_pretrained(
        "facebook/sam2-hiera-tiny", device="cpu", mask_threshold=0.5
    )
    assert seen == {"model_id": "facebook/sam2-hiera-tiny", "device": "cpu"}
    assert predictor.model is model
    assert predictor.mask_threshold == 0.5


def test_no_model_is_the_packaged_one(model, monkeypatch):
    monkeypatch.setattr("sam2.build_sam.build_sam2", lambda: model)
    assert SAM2ImagePredictor().model is model


# ---------------------------------------------------------------- presence


def test_presence_is_that_of_the_last_prompt(predictor, model, monkeypatch):
    with pytest.raises(ValueError, match="call predict first"):
        _ = predictor.presence
    scores = []
    decode = model.sam_mask_decoder.forward

    def listen(*args, **kwargs):
        outputs = decode(*args, **kwargs)
        scores.append(outputs[3])
        return outputs

    monkeypatch.setattr(model.sam_mask_decoder, "forward", listen)
    predictor.predict(**POINT)
    assert predictor.presence == pytest.approx(torch.sigmoid(scores[-1]).flatten().numpy())
    predictor.predict(box=np.stack([BOX, BOX / 2]))
    assert predictor.presence.shape == (2,)
    assert predictor.presence == pytest.approx(torch.sigmoid(scores[-1]).flatten().numpy())
    predictor.reset_predictor()
    with pytest.raises(ValueError, match="call predict first"):
        _ = predictor.presence
