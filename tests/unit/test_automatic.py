"""Automatic masks against a plain twin, and the helpers they are made of."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco
from torch.utils._python_dispatch import TorchDispatchMode
from training_helpers import tiny_model

from sam2 import automatic_mask_generator
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.ops import run_lengths
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.utils import amg

H, W = 70, 100


@pytest.fixture(scope="module")
def model():
    return tiny_model().eval()


@pytest.fixture(scope="module")
def photo():
    smooth = np.random.default_rng(5).integers(0, 256, (7, 10, 3), dtype=np.uint8)
    return np.array(Image.fromarray(smooth).resize((W, H)))


# What lets random weights through the sieve.
LOOSE = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0, "points_per_side": 3}


# ---------------------------------------------------------------- the generator


def plain_twin(model, photo, iou_thresh, stability_thresh, **options):
    """Every point of one crop by itself, every mask at full size, no batching: the definition."""
    predictor = SAM2ImagePredictor(model, zoom=False, **options)
    predictor.set_image(photo)
    found = []
    for point in amg.build_point_grid(3) * [W, H]:
        logits, ious, _ = predictor.predict(point[None], [1], return_logits=True)
        for mask, iou in zip(logits, ious):
            stability = (mask > 1).sum() / max((mask > -1).sum(), 1)
            if iou > iou_thresh and stability >= stability_thresh:
                found.append((iou, mask > 0, stability, point))
    return sorted(found, key=lambda f: -f[0])


def test_by_instalments_the_same_masks_come(model, photo):
    generator = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle", **LOOSE)
    (grid,) = generator.point_grids
    ask = generator.begin(photo)
    parts = [ask(grid[i : i + 2]) for i in range(0, len(grid), 2)]
    one_by_one = sorted((one for part in parts for one in part), key=lambda one: -one["predicted_iou"])
    at_once = generator.generate(photo)
    assert [one["point_coords"] for one in one_by_one] == [one["point_coords"] for one in at_once]
    assert [one["bbox"] for one in one_by_one] == [one["bbox"] for one in at_once]


@pytest.mark.parametrize(("min_area", "pixels"), [(0, 1), (0, 2**25), (12, 20_000)])
def test_equals_asking_point_by_point(model, photo, monkeypatch, min_area, pixels):
    ious, stabilities = zip(*[(f[0], f[2]) for f in plain_twin(model, photo, 0, 0)])
    iou_thresh, stability_thresh = float(np.quantile(ious, 0.3)), float(np.quantile(stabilities, 0.2))
    monkeypatch.setattr(automatic_mask_generator, "PIXELS_AT_A_TIME", pixels)
    generator = SAM2AutomaticMaskGenerator(
        model,
        points_per_side=3,
        points_per_batch=4,
        pred_iou_thresh=iou_thresh,
        stability_score_thresh=stability_thresh,
        box_nms_thresh=1.0,
        min_mask_region_area=min_area,
    )
    areas = {"max_hole_area": min_area, "max_sprinkle_area": min_area}
    expected = plain_twin(model, photo, iou_thresh, stability_thresh, **areas)
    anns = generator.generate(photo)
    assert 0 < len(anns) < 27
    assert abs(len(anns) - len(expected)) <= 1  # a score may stand on the threshold itself
    for ann in anns:
        iou, mask, stability, point = min(expected, key=lambda f: abs(f[0] - ann["predicted_iou"]))
        assert ann["predicted_iou"] == pytest.approx(iou, abs=1e-4)
        assert ann["stability_score"] == pytest.approx(stability, abs=5e-3)
        assert (ann["segmentation"] != mask).mean() < 1e-2
        np.testing.assert_allclose(ann["point_coords"], [point], rtol=1e-6)


def test_what_a_mask_is_made_of(model, photo):
    anns = SAM2AutomaticMaskGenerator(model, **LOOSE).generate(photo)
    assert anns
    assert [a["predicted_iou"] for a in anns] == sorted((a["predicted_iou"] for a in anns), reverse=True)
    for ann in anns:
        mask = ann["segmentation"]
        assert mask.shape == (H, W)
        assert mask.dtype == bool
        assert ann["area"] == mask.sum()
        y, x = np.nonzero(mask)
        expected = [x.min(), y.min(), np.ptp(x), np.ptp(y)] if len(x) else [0, 0, 0, 0]
        assert ann["bbox"] == expected
        assert ann["crop_box"] == [0, 0, W, H]
        assert isinstance(ann["area"], int)
        assert isinstance(ann["predicted_iou"], float)
        assert isinstance(ann["stability_score"], float)


def test_output_modes_agree(model, photo):
    binary, plain, compressed = (
        SAM2AutomaticMaskGenerator(model, **LOOSE, output_mode=mode).generate(photo)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    for b, p, c in zip(binary, plain, compressed, strict=True):
        np.testing.assert_array_equal(amg.rle_to_mask(p["segmentation"]), b["segmentation"])
        assert c["segmentation"] == amg.coco_encode_rle(p["segmentation"])


def disk_at_the_point(self, point_coords, point_labels, boxes, mask_input, multimask_output, img_idx):
    """A decoder that answers each point (in the model's 64 px) with disks of rising size and score."""
    centre = point_coords[:, 0, :, None, None] / 4
    rows, columns = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    distance = ((columns - centre[:, :1]) ** 2 + (rows - centre[:, 1:]) ** 2).sqrt()
    radii = torch.tensor([1.2, 1.5, 1.8] if multimask_output else [1.4])
    scores = radii / 2 + 0.01 * centre[:, :1, 0, 0]
    return 10 * (radii[None, :, None, None] - distance), scores


@pytest.mark.parametrize("use_m2m", [False, True])
@pytest.mark.parametrize("multimask", [False, True])
def test_crops(model, monkeypatch, use_m2m, multimask):
    monkeypatch.setattr(SAM2ImagePredictor, "_decode", disk_at_the_point)
    generator = SAM2AutomaticMaskGenerator(
        model,
        **{**LOOSE, "points_per_side": 2},
        crop_n_layers=1,
        crop_nms_thresh=1.0,
        use_m2m=use_m2m,
        multimask_output=multimask,
    )
    anns = generator.generate(np.zeros((300, 400, 3), np.uint8))
    assert len(anns) == (3 if multimask else 1) * 4 * 5
    for ann in anns:
        x, y, w, h = ann["crop_box"]
        px, py = ann["point_coords"][0]
        assert x < px < x + w
        assert y < py < y + h
        rows, columns = np.nonzero(ann["segmentation"])
        assert columns.mean() == pytest.approx(px, abs=2)
        assert rows.mean() == pytest.approx(py, abs=2)
    sizes = [a["crop_box"][2] * a["crop_box"][3] for a in anns]
    assert sizes == sorted(sizes)  # smaller crops come first
    assert len({tuple(a["crop_box"]) for a in anns}) == 5


def test_masks_at_inner_crop_edges_go(model, monkeypatch):
    monkeypatch.setattr(SAM2ImagePredictor, "_decode", disk_at_the_point)
    at_the_edge = np.array([[0.0, 0.5]])
    generator = SAM2AutomaticMaskGenerator(
        model,
        **{**LOOSE, "points_per_side": None},
        point_grids=[at_the_edge, at_the_edge],
        crop_n_layers=1,
        crop_nms_thresh=1.0,
        multimask_output=False,
    )
    anns = generator.generate(np.zeros((300, 400, 3), np.uint8))
    # the left edge of the left crops is the picture's, that of the right ones lies within it
    assert sorted(a["crop_box"][:2] for a in anns) == [[0, 0], [0, 0], [0, 99]]


def test_masks_of_smaller_crops_win(model, monkeypatch):
    monkeypatch.setattr(SAM2ImagePredictor, "_decode", disk_at_the_point)
    options = {**LOOSE, "points_per_side": None, "crop_n_layers": 1, "multimask_output": False}
    corner = np.array([[200 / 251, 150 / 201]])  # of the first crop: the picture's centre
    generator = SAM2AutomaticMaskGenerator(
        model, **options, point_grids=[np.array([[0.5, 0.5]]), corner], crop_nms_thresh=0.3
    )
    anns = generator.generate(np.zeros((300, 400, 3), np.uint8))
    at_centre = [a for a in anns if np.allclose(a["point_coords"], [[200, 150]], atol=1e-3)]
    assert [a["crop_box"] for a in at_centre] == [[0, 0, 251, 201]]


def test_m2m_asks_again_with_the_first_mask(model, monkeypatch):
    asked = []

    def decode(self, point_coords, point_labels, boxes, mask_input, multimask_output, img_idx):
        asked.append((point_coords, mask_input, multimask_output))
        return disk_at_the_point(
            self, point_coords, point_labels, boxes, mask_input, multimask_output, img_idx
        )

    monkeypatch.setattr(SAM2ImagePredictor, "_decode", decode)
    SAM2AutomaticMaskGenerator(model, **LOOSE, use_m2m=True, points_per_batch=9).generate(
        np.zeros((64, 64, 3), np.uint8)
    )
    first, *again = asked
    assert first[1] is None
    assert first[2]
    low_res, _ = disk_at_the_point(None, first[0], None, None, None, True, 0)
    assert [len(points) for points, _, _ in again] == [9, 9, 9]
    assert not any(multimask for _, _, multimask in again)
    torch.testing.assert_close(
        torch.cat([mask for _, mask, _ in again]), low_res.flatten(0, 1).clamp(-32, 32)[:, None]
    )
    torch.testing.assert_close(
        torch.cat([points for points, _, _ in again]), first[0].repeat_interleave(3, dim=0)
    )


@pytest.mark.parametrize("layers", [0, 1])
def test_nothing_found_is_an_empty_list(model, photo, layers):
    generator = SAM2AutomaticMaskGenerator(
        model, points_per_side=2, pred_iou_thresh=2.0, crop_n_layers=layers
    )
    assert generator.generate(photo) == []


@pytest.mark.parametrize("shape", [(1, 1), (2, 90), (90, 3)])
def test_tiny_pictures(model, shape):
    generator = SAM2AutomaticMaskGenerator(model, **{**LOOSE, "points_per_side": 1}, crop_n_layers=2)
    for ann in generator.generate(np.zeros((*shape, 3), np.uint8)):
        assert ann["segmentation"].shape == shape


def test_nms_leaves_distinct_boxes(model, photo):
    anns = SAM2AutomaticMaskGenerator(model, **{**LOOSE, "box_nms_thresh": 0.5}).generate(photo)
    boxes = np.array([a["bbox"] for a in anns], dtype=float)
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[:i]:
            shared = max(0, min(x + w, x2 + w2) - max(x, x2)) * max(0, min(y + h, y2 + h2) - max(y, y2))
            assert shared <= 0.5 * (w * h + w2 * h2 - shared)


def test_own_grids(model, photo):
    grid = np.array([[0.25, 0.5]])
    options = {**LOOSE, "points_per_side": None}
    anns = SAM2AutomaticMaskGenerator(model, **options, point_grids=[grid], multimask_output=False).generate(
        photo
    )
    assert [a["point_coords"] for a in anns] == [[[25.0, 35.0]]]


GRIDS = [np.zeros((1, 2))]
SPARSER = {"crop_n_points_downscale_factor": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": None}, "points_per_side or point_grids"),
        ({"point_grids": GRIDS}, "points_per_side or point_grids"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 3))]}, "point grid must be"),
        ({"points_per_side": None, "point_grids": [np.full((1, 2), 2.0)]}, "point grid must be"),
        (
            {"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1},
            "needs 2 point_grids",
        ),
        ({"output_mode": "png"}, "output_mode must be one of binary_mask"),
        ({"points_per_batch": 0}, "points_per_batch must lie in 1"),
        ({"crop_n_layers": -1}, "crop_n_layers must lie in 0"),
        ({"crop_overlap_ratio": 1.5}, "crop_overlap_ratio must lie in 0..1"),
        ({"min_mask_region_area": -2}, "min_mask_region_area"),
        ({"points_per_side": 0}, "without points"),
        (
            {"points_per_side": 4, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3},
            "layer 2 without points",
        ),
    ],
)
def test_refuses_options(model, options, message):
    with pytest.raises(ValueError, match=message):
        SAM2AutomaticMaskGenerator(model, **options)


def test_from_pretrained_shares_out_its_options(model, monkeypatch):
    seen = {}

    def build(model_id, **kwargs):
        seen.update(kwargs, model_id=model_id)
        return model

    monkeypatch.setattr("sam2.build_sam.build_sam2_hf", build)
    generator = SAM2AutomaticMaskGenerator.from_pretrained("some/model", device="cpu", points_per_side=5)
    assert seen == {"model_id": "some/model", "device": "cpu"}
    assert len(generator.point_grids[0]) == 25


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x["segmentation"], y["segmentation"])
        assert {k: v for k, v in x.items() if k != "segmentation"} == {
            k: v for k, v in y.items() if k != "segmentation"
        }


@pytest.mark.parametrize("use_m2m", [False, True])
def test_a_device_sieves_all_points_at_once_to_the_same_masks(model, photo, monkeypatch, use_m2m):
    options = {**LOOSE, "points_per_batch": 2, "pred_iou_thresh": 0.3, "use_m2m": use_m2m}
    expected = SAM2AutomaticMaskGenerator(model, **options).generate(photo)
    assert expected
    monkeypatch.setattr(automatic_mask_generator, "_runs_ahead", lambda device: True)
    generator = SAM2AutomaticMaskGenerator(model, **options)
    stages = []

    @contextlib.contextmanager
    def stage(name):
        stages.append(name)
        yield

    generator.stage = stage
    same(generator.generate(photo), expected)
    assert stages == ["encode", "ask", "sieve", "nms", "rle"]


class Waits(TorchDispatchMode):
    """Names of operations that would wait for a device: values read, sizes from values, host data."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        waiting = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "equal", "is_nonzero")
        if by_mask or name in waiting:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("use_m2m", [False, True])
def test_nothing_waits_while_points_are_asked(model, photo, monkeypatch, use_m2m):
    monkeypatch.setattr(automatic_mask_generator, "_runs_ahead", lambda device: True)
    generator = SAM2AutomaticMaskGenerator(model, **LOOSE, points_per_batch=2, use_m2m=use_m2m)
    watched = {}

    @contextlib.contextmanager
    def stage(name):
        watched[name] = Waits()
        with watched[name]:
            yield

    generator.stage = stage
    with torch.backends.mkldnn.flags(enabled=False):  # the plain layers, as on a GPU
        assert generator.generate(photo)
    assert watched["ask"].names == []
    assert "nonzero" in watched["sieve"].names


def test_pictures_in_batches(model, photo):
    pictures = [photo, photo[:50, :80], photo[:, ::-1]]
    generator = SAM2AutomaticMaskGenerator(model, **LOOSE, crop_n_layers=1)
    together = generator.generate_batch(pictures, pictures_per_batch=4)
    for picture, found in zip(pictures, together, strict=True):
        alone = generator.generate(picture)
        assert len(found) == len(alone) > 0
        for a, b in zip(found, alone):
            assert a["crop_box"] == b["crop_box"]
            assert a["point_coords"] == b["point_coords"]
            assert a["predicted_iou"] == pytest.approx(b["predicted_iou"], abs=1e-4)
            assert (a["segmentation"] != b["segmentation"]).mean() < 1e-2
    assert generator.generate_batch([]) == []
    with pytest.raises(ValueError, match="pictures_per_batch must be at least 1"):
        generator.generate_batch(pictures, pictures_per_batch=0)
    with pytest.raises(ValueError, match="picture 1 of the batch"):
        generator.generate_batch([photo, np.zeros(3)])


# ---------------------------------------------------------------- its helpers

masks = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12))


@settings(max_examples=100, deadline=None)
@given(batch=masks)
def test_rle_against_pycocotools(batch):
    codes = amg.mask_to_rle_pytorch(torch.from_numpy(batch))
    for mask, code in zip(batch, codes, strict=True):
        np.testing.assert_array_equal(amg.rle_to_mask(code), mask)
        assert amg.area_from_rle(code) == mask.sum()
        judge = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        compressed = amg.coco_encode_rle(code)
        assert compressed == {"size": list(judge["size"]), "counts": judge["counts"].decode()}


@settings(max_examples=100, deadline=None)
@given(batch=masks)
def test_runs_found_on_a_device(batch):
    found = run_lengths(torch.from_numpy(batch))
    assert found == [code["counts"] for code in amg.mask_to_rle_pytorch(torch.from_numpy(batch))]
    assert run_lengths(torch.from_numpy(batch[:0])) == []


@settings(max_examples=100, deadline=None)
@given(batch=masks)
def test_boxes_of_masks(batch):
    for mask, box in zip(batch, amg.batched_mask_to_box(torch.from_numpy(batch)).tolist(), strict=True):
        y, x = np.nonzero(mask)
        assert box == ([x.min(), y.min(), x.max(), y.max()] if len(x) else [0, 0, 0, 0])


def test_boxes_of_any_number_of_axes():
    mask = torch.zeros(2, 3, 5, 6, dtype=torch.bool)
    mask[1, 2, 2:4, 1] = True
    boxes = amg.batched_mask_to_box(mask)
    assert boxes.shape == (2, 3, 4)
    assert boxes[1, 2].tolist() == [1, 2, 1, 3]
    assert amg.batched_mask_to_box(mask[0, 0]).tolist() == [0, 0, 0, 0]
    assert amg.batched_mask_to_box(mask[:0]).shape == (0, 3, 4)


crops_of = given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    layers=st.integers(0, 3),
    overlap=st.floats(0, 1),
)


@settings(max_examples=150, deadline=None)
@crops_of
def test_crops_cover_the_picture_and_stay_inside(height, width, layers, overlap):
    boxes, of_layer = amg.generate_crop_boxes((height, width), layers, overlap)
    assert boxes[0] == [0, 0, width, height]
    assert of_layer[0] == 0
    for layer in range(1, layers + 1):
        mine = [b for b, i in zip(boxes, of_layer, strict=True) if i == layer]
        assert len(mine) <= 4**layer
        covered = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in mine:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            covered[y0:y1, x0:x1] = True
        assert covered.all()


def test_crops_of_the_first_layer():
    boxes, _ = amg.generate_crop_boxes((300, 400), 1, 512 / 1500)
    assert boxes == [
        [0, 0, 400, 300],
        [0, 0, 251, 201],
        [0, 99, 251, 300],
        [149, 0, 400, 201],
        [149, 99, 400, 300],
    ]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_uncropping_puts_back(data, height, width):
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    whole = torch.zeros(1, height, width, dtype=torch.bool)
    whole[:, y0:y1, x0:x1] = torch.from_numpy(np.random.default_rng(0).random((y1 - y0, x1 - x0)) < 0.7)
    part = whole[:, y0:y1, x0:x1]
    assert torch.equal(amg.uncrop_masks(part, [x0, y0, x1, y1], height, width), whole)
    if part.any():
        boxes = amg.uncrop_boxes_xyxy(amg.batched_mask_to_box(part), [x0, y0, x1, y1])
        assert torch.equal(boxes, amg.batched_mask_to_box(whole))
    assert amg.uncrop_points(torch.tensor([[1.5, 2.0]]), [x0, y0, x1, y1]).tolist() == [[x0 + 1.5, y0 + 2.0]]


def test_boxes_at_inner_crop_edges():
    boxes = torch.tensor([[0, 0, 50, 50], [30, 30, 60, 60], [30, 0, 60, 99], [30, 30, 85, 60]])
    whole, crop = [0, 0, 200, 100], [100, 0, 200, 100]
    near = amg.is_box_near_crop_edge(boxes, crop, whole, atol=20)
    assert near.tolist() == [True, False, False, False]  # the crop's left edge alone is no picture edge
    assert not amg.is_box_near_crop_edge(boxes, whole, whole).any()


def test_stability_score():
    logits = torch.tensor([[[3.0, 0.5, -0.5, -3.0]], [[-5.0, -5.0, -5.0, -5.0]]])
    assert amg.calculate_stability_score(logits, 0.0, 1.0).tolist() == pytest.approx([1 / 3, 0])
    assert amg.calculate_stability_score(logits, 0.0, 0.2).tolist() == pytest.approx([1, 0])


def test_point_grids():
    np.testing.assert_allclose(
        amg.build_point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )
    assert [len(g) for g in amg.build_all_layer_point_grids(8, 2, 2)] == [64, 16, 4]
    with pytest.raises(ValueError, match="at least 1 point"):
        amg.build_point_grid(0)


def test_batches():
    batches = list(amg.batch_iterator(2, [1, 2, 3], "abc"))
    assert batches == [[[1, 2], "ab"], [[3], "c"]]
    assert list(amg.batch_iterator(2, [])) == []
    with pytest.raises(ValueError, match="one length"):
        list(amg.batch_iterator(2, [1], [1, 2]))


def test_box_forms():
    assert amg.box_xyxy_to_xywh([1, 2, 5, 9]) == [1, 2, 4, 7]
    box = np.array([[1, 2, 5, 9]])
    assert amg.box_xyxy_to_xywh(box).tolist() == [[1, 2, 4, 7]]
    assert box.tolist() == [[1, 2, 5, 9]]


def test_mask_data_filters_and_joins():
    data = amg.MaskData(t=torch.arange(3), a=np.arange(3) * 10, names=["x", "y", "z"])
    data.filter(torch.tensor([True, False, True]))
    assert (data["t"].tolist(), data["a"].tolist(), data["names"]) == ([0, 2], [0, 20], ["x", "z"])
    data.filter(torch.tensor([1, 0]))
    assert (data["t"].tolist(), data["names"]) == ([2, 0], ["z", "x"])
    data.cat(amg.MaskData(t=torch.tensor([7]), a=np.array([70]), names=["w"]))
    assert (data["t"].tolist(), data["a"].tolist(), data["names"]) == (
        [2, 0, 7],
        [20, 0, 70],
        ["z", "x", "w"],
    )
    data["half"] = torch.ones(3, dtype=torch.bfloat16)
    del data["a"]
    data.to_numpy()
    assert {key: type(column) for key, column in data.items()} == {
        "t": np.ndarray,
        "names": list,
        "half": np.ndarray,
    }
    with pytest.raises(ValueError, match="column 'n' must be a list"):
        amg.MaskData(n=3)


def test_empty_mask_data_takes_columns_over():
    data = amg.MaskData()
    data.cat(amg.MaskData(t=torch.zeros(0), names=[]))
    data.cat(amg.MaskData(t=torch.ones(1), names=["x"]))
    assert (data["t"].tolist(), data["names"]) == ([1.0], ["x"])
