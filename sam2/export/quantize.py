"""int8 for the image encoder: post-training quantisation by NNCF, calibrated on generated pictures."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import numpy as np

from sam2.data.scenes import generate_still
from sam2.preprocess import SAM2Transforms

PICTURE = 256
"""Side of the generated pictures, pixels; they are enlarged to the model's size."""
SEED = 1_000_000
"""Pictures are numbered from here, far from those of training."""


def model_pictures(first: int, count: int, image_size: int) -> list[np.ndarray]:
    """Generated pictures as the model takes them: float32 [1, 3, S, S]."""
    transforms = SAM2Transforms(image_size, 0.0)
    frames = (generate_still(SEED + i, PICTURE).frames[0] for i in range(first, first + count))
    return [transforms(frame)[None].numpy() for frame in frames]


def quantized(graph: Any, image_size: int, pictures: int) -> Any:
    """The OpenVINO graph of an image encoder with int8 weights and activations in its products.

    Raises:
        ValueError: NNCF is not installed.
    """
    try:
        nncf = importlib.import_module("nncf")
    except ModuleNotFoundError as error:
        raise ValueError("NNCF, which quantises, is not installed: pip install 'sam2[openvino]'") from error
    nncf.set_log_level("ERROR")
    with contextlib.redirect_stdout(sys.stderr):  # its progress: what is exported is told on standard output
        return nncf.quantize(
            graph,
            nncf.Dataset(model_pictures(0, pictures, image_size)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=pictures,
        )
