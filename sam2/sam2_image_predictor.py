"""Masks of one picture, or of several, from points, boxes and rough masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam2.closeups import CloseUps, Features
from sam2.modeling.outputs import LOGIT_LIMIT
from sam2.ops.precision import checked_dtype, precision
from sam2.preprocess import SAM2Transforms, mask_to_logits
from sam2.video import read_picture
from sam2.zoom import Zoom

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

OPTIONS = ("mask_threshold", "max_hole_area", "max_sprinkle_area", "dtype", "zoom")
LABELS = (-1, 0, 1, 2, 3)

Picture = np.ndarray | Image.Image | str | os.PathLike[str]


class SAM2ImagePredictor:
    """Encodes a picture once, then answers any number of prompts on it.

    Args:
        sam_model: the model; the packaged default model where None.
        mask_threshold: logits above it are foreground.
        max_hole_area: holes of at most this many pixels of the low-resolution mask (a quarter of the
            model's input size) are filled; 0 fills none.
        max_sprinkle_area: likewise for islands, which are dropped.
        dtype: precision in which the model runs: torch.float32 (also inside a caller's autocast),
            torch.bfloat16 or torch.float16. None leaves a caller's autocast in force.
        zoom: `predict` looks again at a crop in which the object fills the model's input (`sam2.zoom`):
            better masks of a model of small input, for a few more encodings. None: as the model's
            configuration says, which is no for the published models and yes for the packaged one.
        **kwargs: ignored, so that options meant for a builder may stand in one dictionary with these.
    """

    def __init__(
        self,
        sam_model: SAM2Base | None = None,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        *,
        dtype: torch.dtype | None = None,
        zoom: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if sam_model is None:
            from sam2.build_sam import build_sam2

            sam_model = build_sam2()
        self.model = sam_model
        self.dtype = checked_dtype(dtype)
        self.mask_threshold = mask_threshold
        self.zoom = Zoom() if (sam_model.zoom if zoom is None else zoom) else None
        size = sam_model.image_size
        self._transforms = SAM2Transforms(size, mask_threshold, max_hole_area, max_sprinkle_area)
        self._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]
        self._features: dict[str, Any] | None = None
        self._orig_hw: list[tuple[int, int]] = []
        self._is_image_set = False
        self._is_batch = False
        self._object_scores: Tensor | None = None
        # what the decoder made of the picture asked last: its features, its index, position encoding, Picture
        self._prepared: tuple[dict[str, Any], int, Tensor, Any] | None = None
        # of each picture, where predictions zoom in
        self._closeups: list[CloseUps] = []

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2ImagePredictor:
        """The predictor over a model of the hub, such as "facebook/sam2.1-hiera-large".

        Options of the constructor go to it, all others to the builder (`device`, ...).
        """
        from sam2.build_sam import build_sam2_hf

        options = {key: kwargs.pop(key) for key in OPTIONS if key in kwargs}
        return cls(build_sam2_hf(model_id, **kwargs), **options)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def reset_predictor(self) -> None:
        """Forget the picture or pictures."""
        self._features = None
        self._orig_hw = []
        self._is_image_set = False
        self._is_batch = False
        self._object_scores = None
        self._prepared = None
        self._closeups = []

    # ------------------------------------------------------------------ pictures

    def set_image(self, image: Picture) -> None:
        """Encode one picture; the prompts that follow are about it.

        Args:
            image: uint8 RGB array [H, W, 3], PIL image of any mode, or path. Turned upright where its
                EXIF data says so.

        Raises:
            ValueError: no picture, or a damaged one.
        """
        self._set_images([image], is_batch=False)

    def set_image_batch(self, image_list: Sequence[Picture]) -> None:
        """Encode several pictures, of any sizes, at once; prompts then go to `predict_batch`.

        Raises:
            ValueError: an empty list, or a picture that is none.
        """
        if isinstance(image_list, np.ndarray | Image.Image | str | os.PathLike) or not len(image_list):
            raise ValueError("set_image_batch takes a list of at least one picture; for one, use set_image")
        self._set_images(image_list, is_batch=True)

    @torch.no_grad()
    def _set_images(self, images: Sequence[Picture], is_batch: bool) -> None:
        pictures = [read_picture(image) for image in images]
        self.reset_predictor()
        self._features = self._encode(pictures)
        self._orig_hw = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        if self.zoom is not None:
            embedding, high_res = self._features["image_embed"], self._features["high_res_feats"]
            rows = [Features(embedding, high_res).row(i) for i in range(len(pictures))]
            self._closeups = [
                CloseUps(self.model, self.zoom, picture, row, self._encode_crops, self._precision)
                for picture, row in zip(pictures, rows)
            ]
        self._is_image_set = True
        self._is_batch = is_batch

    def _encode(self, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
        inputs = torch.stack([self._to_input(picture) for picture in pictures])
        with self._precision():
            backbone_out = self.model.forward_image(inputs)
            _, levels, _, sizes = self.model._prepare_backbone_features(backbone_out)
        if self.model.directly_add_no_mem_embed:
            levels[-1] = levels[-1] + self.model.no_mem_embed
        maps = [
            level.permute(1, 2, 0).reshape(len(pictures), -1, *size) for level, size in zip(levels, sizes)
        ]
        return {"image_embed": maps[-1], "high_res_feats": maps[:-1]}

    def _encode_crops(self, crops: Sequence[np.ndarray]) -> Features:
        encoded = self._encode(crops)
        return Features(encoded["image_embed"], encoded["high_res_feats"])

    def _to_input(self, picture: np.ndarray) -> Tensor:
        if self.device.type == "cpu":
            return self._transforms(picture)
        pixels = torch.from_numpy(np.require(picture, requirements="W"))
        return self._transforms(pixels.to(self.device).permute(2, 0, 1))

    def get_image_embedding(self) -> Tensor:
        """The encoded picture: float [1, C, S / 16, S / 16] for an input of S x S pixels.

        Raises:
            ValueError: before `set_image`.
        """
        return self._encoded()["image_embed"]

    # ------------------------------------------------------------------ prompts

    @property
    def presence(self) -> np.ndarray:
        """Of the objects of the last prompt: the model's probability that they are there, float32 [B].

        Raises:
            ValueError: before the first prompt on a picture.
        """
        if self._object_scores is None:
            raise ValueError("nothing has been asked yet: call predict first")
        return self._object_scores.sigmoid().cpu().numpy()

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks for prompts on the picture given to `set_image`.

        N points describe one object; a leading axis B asks for B objects at once. So do B boxes.

        Args:
            point_coords: [N, 2] or [B, N, 2], (x, y) in pixels of the picture.
            point_labels: [N] or [B, N]: 1 on the object, 0 off it (-1 pads, 2 and 3 are a box's corners).
            box: [4] or [B, 4], x0 y0 x1 y1 in pixels of the picture.
            mask_input: [1, S / 4, S / 4] or [B, 1, S / 4, S / 4], low-resolution logits of an earlier call.
            multimask_output: three masks an object, for a prompt that may mean several things; else one.
            return_logits: masks as logits rather than 0 and 1.
            normalize_coords: coordinates are pixels; false for shares (0..1) of width and height.

        Returns:
            masks: float32 [C, H, W], 0 and 1 (logits with `return_logits`);
            predicted IoU of each: float32 [C];
            low-resolution logits: float32 [C, S / 4, S / 4].
            With B > 1 objects each has a leading axis B.

        Raises:
            ValueError: before `set_image`, without any prompt, or for a prompt that makes no sense.
        """
        if self._is_batch:
            raise ValueError("a batch of pictures is set: use predict_batch, or set_image for one picture")
        self._encoded()
        return self._predict_numpy(
            point_coords, point_labels, box, mask_input, multimask_output, return_logits, normalize_coords, 0
        )

    def mask_to_input(self, mask: np.ndarray, img_idx: int = 0) -> np.ndarray:
        """A mask of the picture as `mask_input`, to be corrected: float32 logits [1, S / 4, S / 4].

        Where predictions zoom, it is known again when it comes back, as fine as a crop around it shows it.

        Args:
            mask: bool or 0 and 1, [H, W] of the picture.
            img_idx: which picture of a batch.

        Raises:
            ValueError: before `set_image`, or a mask of another size.
        """
        self._encoded()
        given = np.asarray(mask) > 0
        if given.shape != self._orig_hw[img_idx]:
            raise ValueError(
                f"the mask is {given.shape}, but the picture is {self._orig_hw[img_idx]} (height, width)"
            )
        logits = mask_to_logits(given, self.model.sam_prompt_encoder.mask_input_size)
        if self.zoom is not None:
            self._closeups[img_idx].remember_mask(given, logits[0])
        return logits

    def predict_batch(
        self,
        point_coords_batch: Sequence[np.ndarray | None] | None = None,
        point_labels_batch: Sequence[np.ndarray | None] | None = None,
        box_batch: Sequence[np.ndarray | None] | None = None,
        mask_input_batch: Sequence[np.ndarray | None] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """`predict` for each picture given to `set_image_batch`.

        Each argument is None or holds an item (itself None, or what `predict` takes) for each picture.

        Returns:
            lists of masks, of predicted IoUs and of low-resolution logits, an item a picture.

        Raises:
            ValueError: before `set_image_batch`, for another number of items than pictures, and as
                `predict` does, with the picture's index.
        """
        self._encoded()
        if not self._is_batch:
            raise ValueError("one picture is set: use predict, or set_image_batch for several")
        count = len(self._orig_hw)
        columns: list[Sequence[np.ndarray | None]] = []
        for name, column in (
            ("point_coords_batch", point_coords_batch),
            ("point_labels_batch", point_labels_batch),
            ("box_batch", box_batch),
            ("mask_input_batch", mask_input_batch),
        ):
            columns.append([None] * count if column is None else column)
            if len(columns[-1]) != count:
                raise ValueError(f"{name} has {len(columns[-1])} items for {count} pictures")
        results = []
        for i, (coords, labels, box, logits) in enumerate(zip(*columns)):
            try:
                results.append(
                    self._predict_numpy(
                        coords, labels, box, logits, multimask_output, return_logits, normalize_coords, i
                    )
                )
            except ValueError as error:
                raise ValueError(f"picture {i} of the batch: {error}") from error
        masks, ious, low_res = zip(*results)
        return list(masks), list(ious), list(low_res)

    def _predict_numpy(
        self,
        point_coords: np.ndarray | None,
        point_labels: np.ndarray | None,
        box: np.ndarray | None,
        mask_input: np.ndarray | None,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
        img_idx: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits, coords, labels, boxes = self._prep_prompts(
            point_coords, point_labels, box, mask_input, normalize_coords, img_idx
        )
        if self.zoom is None:
            outputs = self._predict(coords, labels, boxes, logits, multimask_output, return_logits, img_idx)
        else:
            outputs = self._predict_zoomed(
                coords, labels, boxes, logits, multimask_output, return_logits, img_idx
            )
        masks, ious, low_res = (output.squeeze(0).float().cpu().numpy() for output in outputs)
        return masks, ious, low_res

    def _prep_prompts(
        self,
        point_coords: np.ndarray | None,
        point_labels: np.ndarray | None,
        box: np.ndarray | None,
        mask_logits: np.ndarray | None,
        normalize_coords: bool,
        img_idx: int = -1,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Check a picture's prompts and bring them to the model's frame and device.

        Returns:
            mask logits [B, 1, h, w], points [B, N, 2], labels [B, N], box corners [B, 2, 2]; None each
            where not given.
        """
        orig_hw = self._orig_hw[img_idx]
        height, width = orig_hw if normalize_coords else (1.0, 1.0)
        points = labels = boxes = logits = None
        if point_coords is not None or point_labels is not None:
            points, labels = _checked_points(point_coords, point_labels, height, width)
        if box is not None:
            boxes = _checked_boxes(box, height, width)
        if mask_logits is not None:
            logits = _checked_logits(mask_logits, self.model.sam_prompt_encoder.mask_input_size)
        counts = [len(prompt) for prompt in (points, boxes) if prompt is not None]
        if not counts and logits is None:
            raise ValueError("no prompt: give point_coords with point_labels, box or mask_input")
        if len(set(counts)) > 1:
            raise ValueError(f"points for {counts[0]} objects but boxes for {counts[1]}: give as many")
        if logits is not None and counts and len(logits) not in (1, counts[0]):
            raise ValueError(f"mask_input for {len(logits)} objects but points or boxes for {counts[0]}")

        def to_model(array: np.ndarray | None, convert: Callable[..., Tensor] | None = None) -> Tensor | None:
            if array is None:
                return None
            tensor = torch.from_numpy(array).to(self.device)
            return tensor if convert is None else convert(tensor, normalize_coords, orig_hw)

        return (
            to_model(logits),
            to_model(points, self._transforms.transform_coords),
            to_model(labels),
            to_model(boxes, self._transforms.transform_boxes),
        )

    @torch.no_grad()
    def _predict(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        img_idx: int = -1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks for prompts already in the model's frame, as tensors on its device.

        Args:
            point_coords: float [B, N, 2], pixels of the model's S x S input.
            point_labels: int [B, N].
            boxes: float [B, 4] or [B, 2, 2], likewise.
            mask_input: float [B, 1, S / 4, S / 4].

        Returns:
            masks [B, C, H, W] (bool, or logits), predicted IoU [B, C], logits [B, C, S / 4, S / 4].
        """
        low_res, ious = self._decode(point_coords, point_labels, boxes, mask_input, multimask_output, img_idx)
        masks = self._transforms.postprocess_masks(low_res, self._orig_hw[img_idx])
        if not return_logits:
            masks = masks > self.mask_threshold
        return masks, ious, low_res.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)

    def _decode(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
        multimask_output: bool,
        img_idx: int,
    ) -> tuple[Tensor, Tensor]:
        """`_predict` before the resize: float32 logits [B, C, S / 4, S / 4] and predicted IoU [B, C]."""
        features = self._encoded()
        with self._precision():
            sparse, dense = self._embed_prompts(point_coords, point_labels, boxes, mask_input)
            image_embed = features["image_embed"][img_idx][None]
            high_res = [level[img_idx][None] for level in features["high_res_feats"]]
            picture = None
            if mask_input is None:
                if (
                    self._prepared is None
                    or self._prepared[0] is not features
                    or self._prepared[1] != img_idx
                ):
                    encoding = self.model.sam_prompt_encoder.get_dense_pe()
                    picture = self.model.sam_mask_decoder.prepare(image_embed, encoding, dense[:1], high_res)
                    self._prepared = (features, img_idx, encoding, picture)
                assert self._prepared is not None
                encoding, picture = self._prepared[2:]
            else:
                encoding = self.model.sam_prompt_encoder.get_dense_pe()
            low_res, ious, _, object_scores = self.model.sam_mask_decoder(
                image_embeddings=image_embed,
                image_pe=encoding,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense.expand(len(sparse), -1, -1, -1),
                multimask_output=multimask_output,
                repeat_image=len(sparse) > 1,
                high_res_features=high_res,
                picture=picture,
            )
        self._object_scores = object_scores.float().flatten()
        return low_res.float(), ious.float()

    def _embed_prompts(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Sparse and dense embeddings; a box is its corners, as points of kinds 2 and 3 before all others."""
        points = None
        if point_coords is not None and point_labels is not None:
            points = (point_coords, point_labels)
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            kinds = torch.tensor([[2, 3]], dtype=torch.int32, device=boxes.device).repeat(len(corners), 1)
            if points is None:
                points = (corners, kinds)
            else:
                points = (torch.cat([corners, points[0]], dim=1), torch.cat([kinds, points[1]], dim=1))
        embedded: tuple[Tensor, Tensor] = self.model.sam_prompt_encoder(
            points=points, boxes=None, masks=mask_input
        )
        return embedded

    # ------------------------------------------------------------------ zooming

    @torch.no_grad()
    def _predict_zoomed(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
        multimask_output: bool,
        return_logits: bool,
        img_idx: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `_predict`, from crops around the objects."""
        closeups = self._closeups[img_idx]
        masks, ious, low_res, self._object_scores = closeups.predict(
            point_coords, point_labels, boxes, mask_input, multimask_output
        )
        return masks if return_logits else masks > self.mask_threshold, ious, low_res

    def _encoded(self) -> dict[str, Any]:
        if self._features is None:
            raise ValueError("no picture is set: call set_image (or set_image_batch) first")
        return self._features

    def _precision(self) -> AbstractContextManager:
        return precision(self.device, self.dtype)


# ---------------------------------------------------------------------- what users give


def _numbers(values: Any, what: str) -> np.ndarray:
    """Anything array-like as a new, finite float32 array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().float().numpy()
    try:
        array = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be an array of numbers, got {values!r}") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, got {array.tolist()}")
    return array


def _checked_points(coords: Any, labels: Any, height: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [B, N, 2] and labels int32 [B, N]; every point but padding lies in the picture."""
    if coords is None or labels is None:
        raise ValueError("point_coords and point_labels go together: a label (1 on, 0 off) for each point")
    points = _numbers(coords, "point_coords")
    kinds = _numbers(labels, "point_labels")
    if points.ndim not in (2, 3) or points.shape[-1] != 2 or points.size == 0:
        raise ValueError(f"point_coords must be [N, 2] or [B, N, 2], got {list(points.shape)}")
    if kinds.shape != points.shape[:-1]:
        raise ValueError(
            f"point_labels must be {list(points.shape[:-1])}, one for each point, got {list(kinds.shape)}"
        )
    if not np.isin(kinds, LABELS).all():
        raise ValueError(f"point_labels must be 1 (on the object) or 0 (off it), got {kinds.tolist()}")
    outside = ((points < 0) | (points > (width, height))).any(-1) & (kinds != -1)
    if outside.any():
        x, y = points[outside][0]
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the picture of {width:g} x {height:g}")
    if points.ndim == 2:
        points, kinds = points[None], kinds[None]
    return points, kinds.astype(np.int32)


def _checked_boxes(box: Any, height: float, width: float) -> np.ndarray:
    """Boxes float32 [B, 4]; they may reach beyond the picture, but not lie outside it."""
    boxes = _numbers(box, "box")
    if boxes.ndim == 0 or boxes.shape[-1] != 4 or boxes.size == 0:
        raise ValueError(f"box must be [4] or [B, 4], x0 y0 x1 y1, got {list(boxes.shape)}")
    boxes = boxes.reshape(-1, 4)
    for x0, y0, x1, y1 in boxes.tolist():
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty: x0 < x1 and y0 < y1 are needed")
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise ValueError(
                f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside the picture of {width:g} x {height:g}"
            )
    return boxes


def _checked_logits(mask_input: Any, size: tuple[int, int]) -> np.ndarray:
    """Low-resolution logits float32 [B, 1, h, w]."""
    dtype = mask_input.dtype if isinstance(mask_input, np.ndarray | Tensor) else np.asarray(mask_input).dtype
    is_float = dtype.is_floating_point if isinstance(dtype, torch.dtype) else dtype.kind == "f"
    if not is_float:
        raise ValueError(
            f"mask_input must be float logits (a call's third result), got {dtype}; "
            "for a binary mask, give 10.0 inside and -10.0 outside"
        )
    logits = _numbers(mask_input, "mask_input")
    logits = logits[:, None] if logits.ndim == 3 and len(logits) == 1 else logits
    if logits.ndim != 4 or logits.shape[1:] != (1, *size) or not len(logits):
        h, w = size
        raise ValueError(
            f"mask_input must be [1, {h}, {w}] or [B, 1, {h}, {w}], one low-resolution mask an object, "
            f"got {list(logits.shape)}"
        )
    return logits
