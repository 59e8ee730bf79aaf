"""SAM 2: promptable segmentation of images and videos.

Importing the package loads nothing else: the public names below are resolved when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "build_sam2": "sam2.build_sam",
    "build_sam2_hf": "sam2.build_sam",
    "build_sam2_camera_predictor": "sam2.build_sam",
    "build_sam2_video_predictor": "sam2.build_sam",
    "build_sam2_video_predictor_hf": "sam2.build_sam",
    "SAM2ImagePredictor": "sam2.sam2_image_predictor",
    "SAM2VideoPredictor": "sam2.sam2_video_predictor",
    "SAM2AutomaticMaskGenerator": "sam2.automatic_mask_generator",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'sam2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
