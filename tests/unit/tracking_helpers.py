"""A miniature video predictor with random weights, and a clip for it."""

from __future__ import annotations

import errno
import io
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2.config import instantiate, load_config
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import VideoSession

SIZE = 64
WIDTH, HEIGHT = 48, 36
_OVERRIDES = [
    f"image_size={SIZE}",
    "image_encoder.trunk.embed_dim=8",
    "image_encoder.trunk.stages=[1,1,1,1]",
    "image_encoder.trunk.global_att_blocks=[2]",
    "image_encoder.neck.d_model=32",
    "image_encoder.neck.backbone_channel_list=[64,32,16,8]",
    "image_encoder.neck.position_encoding.num_pos_feats=32",
    "memory_attention.d_model=32",
    "memory_attention.layer.d_model=32",
    "memory_attention.layer.dim_feedforward=32",
    "memory_attention.layer.self_attention.embedding_dim=32",
    "memory_attention.layer.cross_attention.embedding_dim=32",
    "memory_attention.layer.cross_attention.kv_in_dim=16",
    "memory_encoder.in_dim=32",
    "memory_encoder.out_dim=16",
    "memory_encoder.position_encoding.num_pos_feats=16",
    "memory_encoder.mask_downsampler.embed_dim=32",
    "memory_encoder.fuser.layer.dim=32",
    "sam_mlp_dim=32",
    "zoom=false",
]


def weights_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal noise from a seed in the name, small enough that tracking forgets rounding errors."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("bias"):
        noise *= 0.05
    elif len(shape) == 1:
        noise = 1 + 0.1 * noise
    elif name.endswith("weight") and "embed" not in name and "token" not in name:
        noise *= 0.54 / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.ascontiguousarray(noise))


def mini_predictor(presence: float | None = None, **options: Any) -> SAM2VideoPredictor:
    """A predictor of a few thousand weights for 64 px; `options` of the model as keywords.

    Args:
        presence: bias of the presence head: high finds objects everywhere, low nowhere.
    """
    overrides = [
        "++model._target_=sam2.sam2_video_predictor.SAM2VideoPredictor",
        *(f"++model.{item}" for item in _OVERRIDES),
        *(f"++model.{key}={str(value).lower()}" for key, value in options.items()),
    ]
    model = instantiate(load_config("mini", overrides))
    assert isinstance(model, SAM2VideoPredictor)
    state = {k: weights_of(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    if presence is not None:
        state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"].fill_(presence)
    model.load_state_dict(state)
    return model.eval()


def clip(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """Frames of drifting colour waves, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return [
        np.stack(
            [127.5 + 127.5 * np.sin(x / (5 + c) + y / (7 - c) + 0.5 * t) for c in range(3)], axis=-1
        ).astype(np.uint8)
        for t in range(count)
    ]


def disk(x: float, y: float, radius: float = 8, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A round mask, bool [H, W]."""
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def run(predictor: SAM2VideoPredictor, state: VideoSession, **options: Any) -> dict[int, dict[int, Tensor]]:
    """Masks of a propagation by frame and object id."""
    found: dict[int, dict[int, Tensor]] = {}
    for frame_idx, ids, logits in predictor.propagate_in_video(state, **options):
        found[frame_idx] = {obj_id: logits[i].clone() for i, obj_id in enumerate(ids)}
    return found


def farthest(
    one: dict[int, dict[int, Tensor]],
    other: dict[int, dict[int, Tensor]],
    frames: Iterable[int] | None = None,
    ids: Sequence[int] | None = None,
) -> float:
    """The greatest difference of logits, as a share of the greatest (or of 1, where all are below)."""
    frames = list(one if frames is None else frames)
    assert frames
    pairs = [(one[f][i], other[f][i]) for f in frames for i in (one[f] if ids is None else ids)]
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in pairs)


class Disk:
    """A disk that can be full: files made by `tempfile.TemporaryFile` lie on it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, full: bool = True) -> None:
        self.full = full
        disk = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                if disk.full:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(data)

        self.path = folder / "disk"
        patch.setattr(tempfile, "TemporaryFile", lambda **_: File(self.path, "w+"))
