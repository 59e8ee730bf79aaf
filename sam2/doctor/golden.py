"""A small model with fixed weights, what it is asked, and how two sets of answers compare.

The weights are a function of the parameters' names, so that they are the same everywhere and nothing need be
carried. The reference is made on the spot: float32, on the CPU, by the plain layers.
"""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam2.config import instantiate, load_config
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

SIZE = 128
FRAMES = 4
GAIN = 0.9
"""Of a layer. Below 1, so that rounding does not grow from layer to layer and from frame to frame."""
SOFTNESS = 0.5
"""Of attention, further: a sharp one over random tokens makes rounding grow a hundredfold."""
TABLES = (
    *(
        "_token.",
        "_tokens.",
        "pos_embed",
        "no_mask_embed",
        "point_embeddings",
        "not_a_point",
        "no_mem",
        "no_obj",
    ),
    *("tpos_enc", "gaussian"),
)
"""In the names of parameters that are not multiplied with activations."""
OVERRIDES = [
    "++model._target_=sam2.sam2_video_predictor.SAM2VideoPredictor",
    f"++model.image_size={SIZE}",
    "++model.image_encoder.trunk.embed_dim=16",
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[2]",
    "++model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
    "++model.binarize_mask_from_pts_for_mem_enc=true",
    # no choice between masks that rounding could turn
    "++model.multimask_output_in_sam=false",
    "++model.multimask_output_for_tracking=false",
]

Answers = dict[str, Tensor]


def golden_model(device: str | torch.device = "cpu") -> SAM2VideoPredictor:
    """The model on a device, in float32 and evaluation mode."""
    model = instantiate(load_config("mini", OVERRIDES))
    assert isinstance(model, SAM2VideoPredictor)
    model.load_state_dict({name: _weights(name, value.shape) for name, value in model.state_dict().items()})
    return model.to(device).eval()


def _weights(name: str, shape: torch.Size) -> Tensor:
    """Noise from a seed in the name, scaled so that activations keep their size."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    is_table = any(part in name for part in TABLES)
    if name.endswith("bias"):
        noise *= 0.1
    elif name.endswith("gamma"):
        noise *= 0.3
    elif len(shape) == 1:
        noise = 1 + 0.1 * noise
    elif not is_table:
        noise *= GAIN / np.sqrt(noise[0].size)
    if "q_proj" in name or "qkv" in name:
        noise *= SOFTNESS
    return torch.from_numpy(noise.astype(np.float32))


def golden_frames() -> list[np.ndarray]:
    """A bright disk that drifts over soft waves: uint8 [96, 128, 3] each."""
    y, x = np.mgrid[:96, :128].astype(np.float32)
    frames = []
    for t in range(FRAMES):
        waves = np.stack([np.sin(x / (9 + c) + y / (13 - c) + 0.3 * t) for c in range(3)], axis=-1)
        frame = 100 + 60 * waves
        frame[(x - 50 - 4 * t) ** 2 + (y - 45) ** 2 < 20**2] = (250, 240, 60)
        frames.append(frame.astype(np.uint8))
    return frames


@torch.no_grad()
def golden_answers(model: SAM2VideoPredictor, dtype: torch.dtype) -> Answers:
    """What the model says: float32 on the CPU.

    Returns:
        `embedding` [1, C, H, W]; `click`: logits of three masks [3, h, w]; `tracked`: logits of two objects
        on every frame [T, 2, H, W].
    """
    frames = golden_frames()
    image = SAM2ImagePredictor(model, dtype=dtype, zoom=False)
    image.set_image(frames[0])
    _, _, click = image.predict(np.array([[50.0, 45.0]]), np.array([1]))
    model.dtype = dtype
    state = model.init_state(frames)
    model.add_new_points_or_box(state, 0, 1, points=[[50, 45]], labels=[1])
    model.add_new_mask(state, 0, 2, frames[0][..., 0] > 130)
    tracked = [logits[:, 0].float().cpu() for _, _, logits in model.propagate_in_video(state)]
    return {
        "embedding": image.get_image_embedding().float().cpu(),
        "click": torch.from_numpy(click),
        "tracked": torch.stack(tracked),
    }


def reference() -> Answers:
    """The answers in float32 on the CPU, by the plain layers alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oneDNN's flags, where it was built for the CPU alone
        with torch.backends.mkldnn.flags(enabled=False):
            return golden_answers(golden_model(), torch.float32)


@dataclass(frozen=True)
class Deviation:
    """How far one answer is from the reference."""

    max: float
    """Largest difference, as a share of the reference's largest value."""
    mean: float
    """Mean difference, as a share of the reference's mean absolute value."""
    mask_iou: float | None
    """Least IoU of the masks (logits above 0) with the reference's; None for an embedding."""


def deviations(found: Answers, expected: Answers) -> dict[str, Deviation]:
    """Of each answer.

    An answer that holds a value that is not finite has infinite deviations and masks of IoU 0.
    """
    result = {}
    for name, exact in expected.items():
        answer, masks = found[name], name != "embedding"
        if not answer.isfinite().all():
            result[name] = Deviation(float("inf"), float("inf"), 0.0 if masks else None)
            continue
        difference = (answer - exact).abs()
        result[name] = Deviation(
            float(difference.max() / exact.abs().max()),
            float(difference.mean() / exact.abs().mean()),
            _least_iou(answer > 0, exact > 0) if masks else None,
        )
    return result


def _least_iou(a: Tensor, b: Tensor) -> float:
    """Of masks bool [..., H, W]; two empty ones have IoU 1."""
    union = (a | b).sum((-2, -1))
    ious = torch.where(union > 0, (a & b).sum((-2, -1)) / union.clamp(min=1), 1.0)
    return float(ious.min())
