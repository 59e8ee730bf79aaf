"""`transformers`' SAM 2 and ours with the same random weights, and pictures to give to both.

Shared by the benchmarks. `transformers` is imported when a pair is made: see `missing`.
"""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

PEER = "transformers"


def missing() -> str | None:
    """Why the peer cannot run here, or None."""
    if importlib.util.find_spec(PEER) is None:
        return f"{PEER} is not installed: pip install '{PEER}>=4.57'"
    return None


def fill(model: torch.nn.Module) -> None:
    """Random weights under which activations keep their scale and attention is neither flat nor saturated.

    Names are those of `transformers`.
    """
    generator = torch.Generator().manual_seed(0)
    for name, value in sorted(model.state_dict().items()):
        x = torch.randn(value.shape, generator=generator)
        if "embed" in name or "token" in name:
            x = 0.5 * x
        elif value.ndim > 1:
            x = x * 1.1 / value[0].numel() ** 0.5
        else:
            x = 0.1 * x + (name.endswith("weight") or "scale" in name)
        if "q_proj" in name:
            x = 0.5 * x
        elif "hypernetworks" in name and "proj_out" in name:
            x = 0.05 * x
        value.copy_(x)
    tensors = model.state_dict()
    shared = tensors["shared_image_embedding.positional_embedding"]
    tensors["prompt_encoder.shared_embedding.positional_embedding"].copy_(shared)
    tensors["mask_decoder.pred_obj_score_head.proj_out.bias"].fill_(5.0)


def vision_config(trunk: Any, size: int) -> dict[str, Any]:
    """`transformers`' configuration of our trunk, for pictures of `size` pixels."""
    ends = [-1, *trunk.stage_ends]
    widths = trunk.channel_list[::-1]
    return {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": trunk.blocks[0].attn.num_heads,
            "image_size": [size, size],
            "blocks_per_stage": [b - a for a, b in itertools.pairwise(ends)],
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [trunk.blocks[i].attn.num_heads for i in trunk.stage_ends],
            "window_size_per_stage": list(trunk.window_spec),
            "window_positional_embedding_background_size": list(trunk.window_pos_embed_bkg_spatial_size),
            "global_attention_blocks": list(trunk.global_att_blocks),
        },
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[size // stride] * 2 for stride in (4, 8, 16)],
    }


def pair(name: str, size: int, overrides: Sequence[str], device: str) -> tuple[SAM2VideoPredictor, Any, Any]:
    """Our video predictor, their video model and their image model (None each where they are missing).

    Args:
        name: of our configuration, such as "sam2.1-tiny".
        size: side of the input, pixels.
        overrides: further ones for our configuration, which theirs follows.
    """
    options = [f"++model.image_size={size}", "++model.fill_hole_area=0", *overrides]
    torch.manual_seed(0)
    ours = build_sam2_video_predictor(name, None, device="cpu", hydra_overrides_extra=options)
    if missing() is not None:
        return ours.to(device), None, None
    import transformers

    vision = vision_config(ours.image_encoder.trunk, size)
    prompts = {"image_size": size}
    video = transformers.Sam2VideoModel(
        transformers.Sam2VideoConfig(
            vision_config=vision,
            prompt_encoder_config=prompts,
            image_size=size,
            memory_attention_rope_feat_sizes=[size // 16] * 2,
        )
    ).eval()
    fill(video)
    image = transformers.Sam2Model(
        transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompts)
    ).eval()
    weights = video.state_dict()
    image.load_state_dict({key: weights[key] for key in image.state_dict()})
    with tempfile.TemporaryDirectory() as folder:
        video.save_pretrained(folder)
        ours = build_sam2_video_predictor(name, folder, device="cpu", hydra_overrides_extra=options)
    return ours.to(device), video.to(device), image.to(device)


def test_picture(size: int) -> np.ndarray:
    """Waves and noise, uint8 [size, size, 3]."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = np.stack([np.sin(9 * x + y), np.cos(7 * y - x), np.sin(5 * (x + y))], axis=-1)
    noise = generator.normal(size=(size, size, 3))
    return (127 + 60 * waves + 20 * noise).clip(0, 255).astype(np.uint8)
