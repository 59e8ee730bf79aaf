"""A SAM 2 of a few thousand parameters, and pictures it can learn in seconds."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2.config import instantiate, load_config
from sam2.data.clip import Clip
from sam2.modeling.sam2_base import SAM2Base

TINY = (
    "model.image_size=64",
    "model.image_encoder.trunk.embed_dim=16",
    "model.image_encoder.trunk.stages=[1,1,2,1]",
    "model.image_encoder.trunk.global_att_blocks=[3]",
    "model.image_encoder.trunk.window_spec=[4,4,4,2]",
    "model.image_encoder.trunk.window_pos_embed_bkg_spatial_size=[4,4]",
    "model.image_encoder.neck.d_model=32",
    "model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
    "model.image_encoder.neck.position_encoding.num_pos_feats=32",
    "model.memory_attention.d_model=32",
    "model.memory_attention.num_layers=1",
    "model.memory_attention.layer.d_model=32",
    "model.memory_attention.layer.dim_feedforward=64",
    "model.memory_attention.layer.self_attention.embedding_dim=32",
    "model.memory_attention.layer.self_attention.feat_sizes=[4,4]",
    "model.memory_attention.layer.cross_attention.embedding_dim=32",
    "model.memory_attention.layer.cross_attention.kv_in_dim=16",
    "model.memory_attention.layer.cross_attention.feat_sizes=[4,4]",
    "model.memory_encoder.in_dim=32",
    "model.memory_encoder.out_dim=16",
    "model.memory_encoder.position_encoding.num_pos_feats=16",
    "model.memory_encoder.mask_downsampler.embed_dim=32",
    "model.memory_encoder.fuser.num_layers=1",
    "model.memory_encoder.fuser.layer.dim=32",
    "model.memory_encoder.fuser.layer.layer_scale_init_value=0.1",
    "model.sam_mlp_dim=64",
    "model.zoom=false",
)


def tiny_model(seed: int = 0) -> SAM2Base:
    """The mini configuration with its widths cut down, from random weights."""
    torch.manual_seed(seed)
    model: SAM2Base = instantiate(load_config("mini", TINY))
    return model


def disks(
    seed: int, frames: int = 1, pictures: int = 2, objects: int = 2, size: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Coloured disks that drift over noise: images uint8 [T, B, 3, S, S], masks [T, N, S, S], picture [N]."""
    rng = np.random.default_rng(seed)
    images = np.empty((frames, pictures, size, size, 3), np.uint8)
    masks = np.zeros((frames, pictures * objects, size, size), bool)
    yy, xx = np.mgrid[:size, :size]
    for b in range(pictures):
        ground = rng.integers(0, 60, (size, size, 3))
        place = rng.uniform(0.25, 0.75, (objects, 2)) * size
        speed = rng.uniform(-3, 3, (objects, 2))
        radius = rng.uniform(0.1, 0.2, objects) * size
        colour = rng.integers(100, 255, (objects, 3))
        for t in range(frames):
            picture = ground.copy()
            taken = np.zeros((size, size), bool)
            for n in range(objects):
                x, y = place[n] + t * speed[n]
                disk = (xx - x) ** 2 + (yy - y) ** 2 < radius[n] ** 2
                masks[t, b * objects + n] = disk & ~taken
                picture[disk & ~taken] = colour[n]
                taken |= disk
            images[t, b] = picture
    index = torch.arange(pictures).repeat_interleave(objects)
    return torch.from_numpy(images).permute(0, 1, 4, 2, 3).contiguous(), torch.from_numpy(masks), index


def toy_clip(seed: int, frames: int = 1, objects: int = 3, size: int = 64) -> Clip:
    """`disks` as a clip, a source of `sam2.training.batches` once `toy_data` installed it."""
    images, masks, _ = disks(seed, frames, 1, objects, size)
    return Clip(images[:, 0].permute(0, 2, 3, 1).numpy(), masks.numpy(), tuple(range(objects)))


def toy_data() -> None:
    """Makes `toy.toy_clip` a data source."""
    module = types.ModuleType("sam2.data.toy")
    module.toy_clip = toy_clip  # type: ignore[attr-defined]
    sys.modules["sam2.data.toy"] = module


def toy_run(out: Path, **changes: Any) -> dict[str, Any]:
    """A run of few steps on stills and clips, as a YAML file would hold it."""
    run: dict[str, Any] = {
        "out": str(out),
        "steps": 4,
        "accumulate": 2,
        "log_steps": 2,
        "picture_steps": 0,
        "device": "cpu",
        "model": {"overrides": list(TINY)},
        "data": [
            {"source": "toy.toy_clip", "batch": 2, "objects": 3},
            {"source": "toy.toy_clip", "args": {"frames": 4}, "batch": 1, "frames": 3, "weight": 0.5},
        ],
        "pvs": {"clicks": 1},
        "loss": {"mask_loss": "balanced", "mask": 1},
        "optim": {"warmup": 2},
    }
    return run | changes
