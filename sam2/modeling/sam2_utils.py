"""The published helper names of the model, gathered from where they live."""

from sam2.memory.policies import select_closest_cond_frames
from sam2.modeling.layers import MLP, DropPath, LayerNorm2d, get_activation_fn, get_clones
from sam2.modeling.position_encoding import get_1d_sine_pe
from sam2.prompts.simulate import (
    get_next_point,
    sample_box_points,
    sample_one_point_from_error_center,
    sample_random_points_from_errors,
)

__all__ = [
    "MLP",
    "DropPath",
    "LayerNorm2d",
    "get_1d_sine_pe",
    "get_activation_fn",
    "get_clones",
    "get_next_point",
    "sample_box_points",
    "sample_one_point_from_error_center",
    "sample_random_points_from_errors",
    "select_closest_cond_frames",
]
