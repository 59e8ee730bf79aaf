"""Masks of everything in a picture: a grid of points, each asked for its masks, then a sieve."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sam2.ops import batched_nms
from sam2.sam2_image_predictor import LOGIT_LIMIT, Picture, SAM2ImagePredictor
from sam2.utils.amg import (
    MaskData,
    area_from_rle,
    batch_iterator,
    batched_mask_to_box,
    box_xyxy_to_xywh,
    build_all_layer_point_grids,
    calculate_stability_score,
    coco_encode_rle,
    generate_crop_boxes,
    is_box_near_crop_edge,
    mask_to_rle_pytorch,
    rle_to_mask,
    uncrop_boxes_xyxy,
    uncrop_masks,
    uncrop_points,
)
from sam2.video import read_picture

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")

# Logits resized to the picture at a time; more masks than this holds go in several passes.
PIXELS_AT_A_TIME = 32 * 1024 * 1024


class SAM2AutomaticMaskGenerator:
    """Asks the model for masks at every point of a grid and keeps those that are good and distinct.

    A mask stays where its predicted IoU and its stability are high enough, where its box does not touch
    the inner edge of a crop, and where no better mask has nearly the same box.

    Args:
        model: the packaged default model where None.
        points_per_side: the grid over the whole picture has this many points a side; None where
            `point_grids` are given.
        points_per_batch: points that go through the model together; more are faster and take more memory.
        pred_iou_thresh: masks of a predicted IoU above it stay; 0 keeps all.
        stability_score_thresh: masks of at least this stability stay; 0 keeps all.
        stability_score_offset: stability compares the mask at thresholds this far apart (logits).
        mask_threshold: logits above it are foreground.
        box_nms_thresh: of two masks of one crop whose boxes overlap by more (IoU), the better stays.
        crop_n_layers: layer i adds 4^i crops of the picture; 0 adds none.
        crop_nms_thresh: as `box_nms_thresh`, between crops; masks of smaller crops are preferred.
        crop_overlap_ratio: overlap of neighbouring crops, a share of the shorter side.
        crop_n_points_downscale_factor: a side of layer i's grid has this many times fewer points than
            that of layer i - 1.
        point_grids: own grids, one a layer (crop_n_layers + 1), [N, 2] in 0..1, instead of `points_per_side`.
        min_mask_region_area: holes and islands of at most this many low-resolution pixels go.
        output_mode: how a mask is given: "binary_mask" (bool [H, W]), "uncompressed_rle" or "coco_rle"
            (what pycocotools reads).
        use_m2m: refine each mask by one more pass with itself as a prompt.
        multimask_output: three masks a point instead of one.
        **kwargs: `dtype` goes to the predictor; others are ignored, as its own are.

    Raises:
        ValueError: an option that makes no sense.
    """

    def __init__(
        self,
        model: SAM2Base | None = None,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise ValueError(
                "give points_per_side or point_grids, one of them and not both (points_per_side=None)"
            )
        if output_mode not in OUTPUT_MODES:
            raise ValueError(f"output_mode must be one of {', '.join(OUTPUT_MODES)}, got {output_mode!r}")
        for name, value, low, high in (
            ("points_per_batch", points_per_batch, 1, math.inf),
            ("crop_n_layers", crop_n_layers, 0, 8),
            ("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1, math.inf),
            ("crop_overlap_ratio", crop_overlap_ratio, 0, 1),
            ("stability_score_offset", stability_score_offset, 0, math.inf),
            ("min_mask_region_area", min_mask_region_area, 0, math.inf),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in {low}..{high}, got {value}")
        if point_grids is not None:
            self.point_grids = [_checked_grid(grid) for grid in point_grids]
            if len(self.point_grids) != crop_n_layers + 1:
                raise ValueError(
                    f"crop_n_layers={crop_n_layers} needs {crop_n_layers + 1} point_grids, one for the whole "
                    f"picture and one a layer, got {len(self.point_grids)}"
                )
        else:
            assert points_per_side is not None
            smallest = int(points_per_side / crop_n_points_downscale_factor**crop_n_layers)
            if smallest < 1:
                raise ValueError(
                    f"points_per_side={points_per_side} leaves layer {crop_n_layers} without points: "
                    "give more, fewer crop_n_layers or a smaller crop_n_points_downscale_factor"
                )
            self.point_grids = build_all_layer_point_grids(
                points_per_side, crop_n_layers, crop_n_points_downscale_factor
            )
        self.predictor = SAM2ImagePredictor(
            model,
            mask_threshold=mask_threshold,
            max_hole_area=min_mask_region_area,
            max_sprinkle_area=min_mask_region_area,
            dtype=kwargs.get("dtype"),
        )
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.mask_threshold = mask_threshold
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2AutomaticMaskGenerator:
        """The generator over a model of the hub; options that are not the constructor's go to the builder."""
        from sam2.build_sam import build_sam2_hf

        own = {*inspect.signature(cls).parameters, "dtype"}
        options = {key: kwargs.pop(key) for key in list(kwargs) if key in own}
        return cls(build_sam2_hf(model_id, **kwargs), **options)

    @torch.no_grad()
    def generate(self, image: Picture) -> list[dict[str, Any]]:
        """All masks of a picture.

        Args:
            image: uint8 RGB array [H, W, 3], PIL image or path.

        Returns:
            a dictionary a mask, best predicted IoU first (of smaller crops first, where there are crops):
                segmentation: see `output_mode`;
                area: foreground pixels;
                bbox: x, y, width, height, pixels;
                predicted_iou, stability_score: float;
                point_coords: [[x, y]], the point that was asked, pixels;
                crop_box: x, y, width, height of the crop, pixels.

        Raises:
            ValueError: no picture, or a damaged one.
        """
        data = self._generate_masks(read_picture(image))
        segmentations = data["rles"]
        if self.output_mode == "coco_rle":
            segmentations = [coco_encode_rle(rle) for rle in data["rles"]]
        elif self.output_mode == "binary_mask":
            segmentations = [rle_to_mask(rle) for rle in data["rles"]]
        return [
            {
                "segmentation": segmentation,
                "area": area_from_rle(data["rles"][i]),
                "bbox": box_xyxy_to_xywh(data["boxes"][i]).tolist(),
                "predicted_iou": data["iou_preds"][i].item(),
                "point_coords": [data["points"][i].tolist()],
                "stability_score": data["stability_score"][i].item(),
                "crop_box": box_xyxy_to_xywh(data["crop_boxes"][i]).tolist(),
            }
            for i, segmentation in enumerate(segmentations)
        ]

    def _generate_masks(self, image: np.ndarray) -> MaskData:
        orig_size = image.shape[:2]
        crop_boxes, layers = generate_crop_boxes(orig_size, self.crop_n_layers, self.crop_overlap_ratio)
        data = _no_masks(self.predictor.device)
        for crop_box, layer in zip(crop_boxes, layers):
            data.cat(self._process_crop(image, crop_box, layer))
        if len(crop_boxes) > 1:
            crops = data["crop_boxes"].float()
            areas = (crops[:, 2] - crops[:, 0]) * (crops[:, 3] - crops[:, 1])
            _suppress(data, 1 / areas, self.crop_nms_thresh)
        data.to_numpy()
        return data

    def _process_crop(self, image: np.ndarray, crop_box: list[int], layer: int) -> MaskData:
        """The masks of one crop, in the picture's frame."""
        x0, y0, x1, y1 = crop_box
        orig_size = image.shape[:2]
        self.predictor.set_image(image[y0:y1, x0:x1])
        points = self.point_grids[layer] * np.array([x1 - x0, y1 - y0])
        data = _no_masks(self.predictor.device)
        for (batch,) in batch_iterator(self.points_per_batch, points):
            data.cat(self._process_batch(batch, crop_box, orig_size))
        self.predictor.reset_predictor()

        _suppress(data, data["iou_preds"], self.box_nms_thresh)
        data["boxes"] = uncrop_boxes_xyxy(data["boxes"], crop_box)
        data["points"] = uncrop_points(data["points"], crop_box)
        data["crop_boxes"] = torch.tensor(crop_box, device=data["boxes"].device).repeat(len(data["rles"]), 1)
        return data

    def _process_batch(self, points: np.ndarray, crop_box: list[int], orig_size: tuple[int, int]) -> MaskData:
        """The masks at some points [N, 2] (pixels of the crop) that pass the sieve.

        What fails by its predicted IoU is dropped at low resolution; only the rest is resized.
        """
        device = self.predictor.device
        crop_hw = (crop_box[3] - crop_box[1], crop_box[2] - crop_box[0])
        points_px = torch.as_tensor(points, dtype=torch.float32, device=device)
        low_res, ious = self._ask(points_px, crop_hw, None, self.multimask_output)
        candidates = MaskData(
            low_res=low_res.flatten(0, 1),
            iou_preds=ious.flatten(),
            points=points_px.repeat_interleave(low_res.shape[1], dim=0),
        )
        if self.use_m2m:
            refined = [
                self._ask(some_points, crop_hw, some_masks.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None], False)
                for some_points, some_masks in batch_iterator(
                    self.points_per_batch, candidates["points"], candidates["low_res"]
                )
            ]
            candidates["low_res"] = torch.cat([masks[:, 0] for masks, _ in refined])
            candidates["iou_preds"] = torch.cat([ious[:, 0] for _, ious in refined])
        if self.pred_iou_thresh > 0:
            candidates.filter(candidates["iou_preds"] > self.pred_iou_thresh)

        data = _no_masks(device)
        at_a_time = max(1, PIXELS_AT_A_TIME // (crop_hw[0] * crop_hw[1]))
        for chunk in _chunks(candidates, at_a_time):
            data.cat(self._at_full_size(chunk, crop_box, orig_size))
        return data

    def _ask(
        self, points_px: Tensor, crop_hw: tuple[int, int], mask_input: Tensor | None, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits [N, C, h, w] and predicted IoU [N, C] of one foreground point each."""
        coords = self.predictor._transforms.transform_coords(points_px, normalize=True, orig_hw=crop_hw)
        labels = torch.ones(len(coords), 1, dtype=torch.int32, device=coords.device)
        return self.predictor._decode(coords[:, None], labels, None, mask_input, multimask_output, img_idx=0)

    def _at_full_size(self, data: MaskData, crop_box: list[int], orig_size: tuple[int, int]) -> MaskData:
        """Resize, sieve by stability and place, and turn into RLE."""
        orig_h, orig_w = orig_size
        crop_hw = (crop_box[3] - crop_box[1], crop_box[2] - crop_box[0])
        data["masks"] = self.predictor._transforms.postprocess_masks(data["low_res"][:, None], crop_hw)[:, 0]
        del data["low_res"]
        data["stability_score"] = calculate_stability_score(
            data["masks"], self.mask_threshold, self.stability_score_offset
        )
        if self.stability_score_thresh > 0:
            data.filter(data["stability_score"] >= self.stability_score_thresh)
        data["masks"] = data["masks"] > self.mask_threshold
        data["boxes"] = batched_mask_to_box(data["masks"])
        data.filter(~is_box_near_crop_edge(data["boxes"], crop_box, [0, 0, orig_w, orig_h]))
        data["rles"] = mask_to_rle_pytorch(uncrop_masks(data["masks"], crop_box, orig_h, orig_w))
        del data["masks"]
        return data


def _checked_grid(grid: np.ndarray) -> np.ndarray:
    points = np.asarray(grid, dtype=np.float64)
    inside = (points >= 0) & (points <= 1)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not inside.all():
        raise ValueError(f"a point grid must be [N, 2] with values in 0..1, got shape {list(points.shape)}")
    return points


def _no_masks(device: torch.device) -> MaskData:
    """No rows, and the columns of `_process_batch`."""
    return MaskData(
        iou_preds=torch.zeros(0, device=device),
        points=torch.zeros(0, 2, device=device),
        stability_score=torch.zeros(0, device=device),
        boxes=torch.zeros(0, 4, dtype=torch.int64, device=device),
        rles=[],
    )


def _chunks(data: MaskData, rows: int) -> Iterator[MaskData]:
    names = [name for name, _ in data.items()]
    for columns in batch_iterator(rows, *(data[name] for name in names)):
        yield MaskData(**dict(zip(names, columns)))


def _suppress(data: MaskData, scores: Tensor, iou_threshold: float) -> None:
    """Keep the best of masks with nearly the same box, in the order of their scores."""
    boxes: Tensor = data["boxes"].float()
    one_category: Tensor = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    data.filter(batched_nms(boxes, scores, one_category, iou_threshold))
