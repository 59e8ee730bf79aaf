"""How alike the masks are that two image encoders lead to, on generated pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sam2.data.scenes import generate_still
from sam2.export.quantize import PICTURE, SEED, model_pictures
from sam2.modeling.sam2_base import SAM2Base
from sam2.prompts.simulate import sample_one_point_from_error_center

FIRST = 10_000
"""Number of the first picture compared; none calibrates."""


def mask_agreement(
    model: SAM2Base, encode: Callable[[Sequence[np.ndarray]], list[np.ndarray]], pictures: int = 12
) -> dict[str, Any]:
    """Mask IoU between the model's own encoder and another, for a click inside each object.

    Args:
        encode: a picture [1, 3, S, S] to the levels of `SAM2Base.encode_image`, finest first.

    Returns:
        `mask_iou` (mean), `mask_iou_median` and `masks_compared`. Of the three masks of a click the one that
        the model itself thinks best is compared.
    """
    ious = []
    for number in range(FIRST, FIRST + pictures):
        (picture,) = model_pictures(number, 1, model.image_size)
        masks = generate_still(SEED + number, PICTURE).masks[0]
        if not len(masks):
            continue
        points, labels = sample_one_point_from_error_center(torch.from_numpy(masks)[:, None], None)
        scale = model.image_size / PICTURE
        prompt = {
            "point_coords": (points.float() * scale).to(model.device),
            "point_labels": labels.to(model.device),
        }
        features = model.encode_image(torch.from_numpy(picture).to(model.device))
        exact = model.decode(model.condition(features, None), features.high_res, prompt, None, True)
        maps = [torch.from_numpy(level).to(model.device) for level in encode([picture])]
        other = type(features)(maps, features.encodings)
        found = model.decode(model.condition(other, None), other.high_res, prompt, None, True)
        row = torch.arange(len(masks))
        best = exact.ious.argmax(dim=1)
        for a, b in zip(exact.low_res_multimasks[row, best] > 0, found.low_res_multimasks[row, best] > 0):
            union = int((a | b).sum())
            ious.append(int((a & b).sum()) / union if union else 1.0)
    return {
        "mask_iou": round(float(np.mean(ious)), 4),
        "mask_iou_median": round(float(np.median(ious)), 4),
        "masks_compared": len(ious),
    }
