"""Masks of everything in a picture: a grid of points, each asked for its masks, then a sieve."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

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
    is_box_near_crop_edge,
    mask_to_rle_pytorch,
    rle_to_mask,
    uncrop_boxes_xyxy,
    uncrop_masks,
    uncrop_points,
)
from sam2.utils.crops import Crop, crops_of, joined, suppress
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
        points_per_batch: points that go through the model together; more take more memory, and are faster
            on a GPU, where 1,024 are a whole grid.
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

    Attributes:
        stage: called with a stage's name ("encode", "ask", "sieve", "nms", "rle"), gives a context in which
            it runs, to time it; on a CPU "sieve" has "ask" in it.

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
            zoom=False,
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
        self.stage: Callable[[str], AbstractContextManager[Any]] = _untimed

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
        return self._records(self._generate_masks([read_picture(image)], 1)[0])

    @torch.no_grad()
    def begin(self, image: Picture) -> Callable[[np.ndarray], list[dict[str, Any]]]:
        """Encodes a picture for `generate` by instalments, whose first masks are there at once.

        Returns:
            a function that gives the masks at some points of the picture, [N, 2] in 0..1, as `generate` does,
            without crops; to be called any number of times, until the generator is given another picture.

        Raises:
            ValueError: no picture, or a damaged one.
        """
        picture = read_picture(image)
        height, width = picture.shape[:2]
        crop = Crop(0, picture, [0, 0, width, height], (height, width), 0)
        self._encode([crop])

        @torch.no_grad()
        def ask(points: np.ndarray) -> list[dict[str, Any]]:
            found = self._process_crop(crop, 0, _checked_grid(points))
            return self._records(self._joined_crops([found]))

        return ask

    @torch.no_grad()
    def generate_batch(
        self, images: Sequence[Picture], pictures_per_batch: int = 8
    ) -> list[list[dict[str, Any]]]:
        """`generate` for several pictures, of any sizes; the encoder takes several at once.

        Args:
            pictures_per_batch: pictures, or crops of them, that are encoded together.

        Returns:
            a list a picture, as `generate` gives it.

        Raises:
            ValueError: as `generate`, with the picture's index; or `pictures_per_batch` below 1.
        """
        if pictures_per_batch < 1:
            raise ValueError(f"pictures_per_batch must be at least 1, got {pictures_per_batch}")
        pictures = []
        for i, image in enumerate(images):
            try:
                pictures.append(read_picture(image))
            except ValueError as error:
                raise ValueError(f"picture {i} of the batch: {error}") from error
        return [self._records(data) for data in self._generate_masks(pictures, pictures_per_batch)]

    def _records(self, data: MaskData) -> list[dict[str, Any]]:
        """What `generate` gives."""
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

    def _generate_masks(self, pictures: Sequence[np.ndarray], at_a_time: int) -> list[MaskData]:
        """The masks of each picture, as arrays; `at_a_time` crops are encoded together."""
        crops = [
            crop
            for i, picture in enumerate(pictures)
            for crop in crops_of(i, picture, self.crop_n_layers, self.crop_overlap_ratio)
        ]
        found: list[list[MaskData]] = [[] for _ in pictures]
        for (some,) in batch_iterator(at_a_time, crops):
            with self.stage("encode"):
                self._encode(some)
            for i, crop in enumerate(some):
                found[crop.picture_idx].append(self._process_crop(crop, i, self.point_grids[crop.layer]))
            self.predictor.reset_predictor()
        return [self._joined_crops(of_picture) for of_picture in found]

    def _encode(self, crops: Sequence[Crop]) -> None:
        if len(crops) == 1:
            self.predictor.set_image(crops[0].pixels)
        else:
            self.predictor.set_image_batch([crop.pixels for crop in crops])

    def _joined_crops(self, by_crop: list[MaskData]) -> MaskData:
        data = joined(by_crop)
        if len(by_crop) > 1:
            crops = data["crop_boxes"].float()
            areas = (crops[:, 2] - crops[:, 0]) * (crops[:, 3] - crops[:, 1])
            suppress(data, 1 / areas, self.crop_nms_thresh)
        data.to_numpy()
        return data

    def _process_crop(self, crop: Crop, img_idx: int, grid: np.ndarray) -> MaskData:
        """The masks of an encoded crop at points [N, 2] in 0..1, in the picture's frame.

        Every mask is looked at in the picture's size, a few at a time, and only those that are kept are
        made again to be written as runs: keeping all would take a hundred times the memory.
        """
        device = self.predictor.device
        grid_px = grid * np.array(crop.hw[::-1])
        points = torch.as_tensor(grid_px, dtype=torch.float32, device=device)
        coords = self.predictor._transforms.transform_coords(points, normalize=True, orig_hw=crop.hw)
        asked: Iterator[MaskData] = (
            self._ask_batch(some_points, some_coords, img_idx)
            for some_points, some_coords in batch_iterator(self.points_per_batch, points, coords)
        )
        if _runs_ahead(device):
            # a sieve waits for the device: once for all points, where a CPU sieves each batch to save memory
            with self.stage("ask"):
                asked = iter([joined(asked)])
        with self.stage("sieve"):
            data = joined([self._sieve(some, crop) for some in asked])
        with self.stage("nms"):
            suppress(data, data["iou_preds"], self.box_nms_thresh)
        with self.stage("rle"):
            data["rles"] = self._runs(data["low_res"], crop)
        del data["low_res"]
        data["boxes"] = uncrop_boxes_xyxy(data["boxes"], crop.box)
        data["points"] = uncrop_points(data["points"], crop.box)
        data["crop_boxes"] = torch.tensor(crop.box, device=device).repeat(len(data["rles"]), 1)
        return data

    def _ask_batch(self, points_px: Tensor, coords: Tensor, img_idx: int) -> MaskData:
        """Low-resolution masks at some points, without waiting for the device.

        Args:
            points_px: [N, 2], pixels of the crop.
            coords: the same in the model's frame.
        """
        low_res, ious = self._ask(coords, None, self.multimask_output, img_idx)
        per_point = low_res.shape[1]
        data = MaskData(
            low_res=low_res.flatten(0, 1),
            iou_preds=ious.flatten(),
            points=points_px.repeat_interleave(per_point, dim=0),
        )
        if self.use_m2m:
            repeated = coords.repeat_interleave(per_point, dim=0)
            refined = [
                self._ask(some_coords, some_masks.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None], False, img_idx)
                for some_coords, some_masks in batch_iterator(
                    self.points_per_batch, repeated, data["low_res"]
                )
            ]
            data["low_res"] = torch.cat([masks[:, 0] for masks, _ in refined])
            data["iou_preds"] = torch.cat([ious[:, 0] for _, ious in refined])
        return data

    def _ask(
        self, coords: Tensor, mask_input: Tensor | None, multimask_output: bool, img_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits [N, C, h, w] and predicted IoU [N, C] of one foreground point each [N, 2]."""
        labels = torch.ones(len(coords), 1, dtype=torch.int32, device=coords.device)
        return self.predictor._decode(
            coords[:, None], labels, None, mask_input, multimask_output, img_idx=img_idx
        )

    def _sieve(self, data: MaskData, crop: Crop) -> MaskData:
        """What passes by predicted IoU, by stability and by place; with `stability_score` and `boxes`.

        What fails by its predicted IoU is never resized.
        """
        if self.pred_iou_thresh > 0:
            data.filter(data["iou_preds"] > self.pred_iou_thresh)
        low_res = data["low_res"]
        stability = torch.zeros(len(low_res), device=low_res.device)
        boxes = torch.zeros(len(low_res), 4, dtype=torch.int64, device=low_res.device)
        for rows, logits in self._at_full_size(low_res, crop):
            stability[rows] = calculate_stability_score(
                logits, self.mask_threshold, self.stability_score_offset
            )
            boxes[rows] = batched_mask_to_box(logits > self.mask_threshold)
        data["stability_score"], data["boxes"] = stability, boxes
        height, width = crop.picture_hw
        passes = ~is_box_near_crop_edge(boxes, crop.box, [0, 0, width, height])
        if self.stability_score_thresh > 0:
            passes &= stability >= self.stability_score_thresh
        data.filter(passes)
        return data

    def _runs(self, low_res: Tensor, crop: Crop) -> list[dict[str, Any]]:
        """Masks of the whole picture as uncompressed RLE, of low-resolution logits [N, h, w]."""
        rles: list[dict[str, Any]] = []
        for _, logits in self._at_full_size(low_res, crop):
            masks = uncrop_masks(logits > self.mask_threshold, crop.box, *crop.picture_hw)
            rles.extend(mask_to_rle_pytorch(masks))
        return rles

    def _at_full_size(self, low_res: Tensor, crop: Crop) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and their logits [K, H, W] at the crop's size, as many as may be held at a time."""
        at_a_time = max(1, PIXELS_AT_A_TIME // (crop.hw[0] * crop.hw[1]))
        for start in range(0, len(low_res), at_a_time):
            rows = slice(start, start + at_a_time)
            yield rows, self.predictor._transforms.postprocess_masks(low_res[rows, None], crop.hw)[:, 0]


def _checked_grid(grid: np.ndarray) -> np.ndarray:
    points = np.asarray(grid, dtype=np.float64)
    inside = (points >= 0) & (points <= 1)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not inside.all():
        raise ValueError(f"a point grid must be [N, 2] with values in 0..1, got shape {list(points.shape)}")
    return points


def _runs_ahead(device: torch.device) -> bool:
    """Whether calls return before their work is done, so that asking for a number waits."""
    return device.type != "cpu"


def _untimed(stage: str) -> AbstractContextManager[Any]:
    return contextlib.nullcontext()
