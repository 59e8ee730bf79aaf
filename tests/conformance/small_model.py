"""A small SAM 2.1 with weights that are a function of their names, and what it gives.

`python tests/conformance/small_model.py` records `small_goldens.npz`. Record anew only from code that
passes the conformance kit, and say in the commit why the numbers changed.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

GOLDENS = Path(__file__).with_name("small_goldens.npz")
SIZE = 128
GAIN = 0.7  # below 1, so that rounding does not grow from frame to frame
OVERRIDES = [
    f"++model.image_size={SIZE}",
    "++model.image_encoder.trunk.embed_dim=16",
    "++model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
]


def weights_of(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Normal noise from a seed in the name, scaled so that activations keep their size."""
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    table = any(
        part in name for part in ("_embeddings", "_tokens", "_token.", "no_mask_embed", "not_a_point")
    )
    if name.endswith("gamma"):
        noise *= 0.3
    elif name.endswith("bias"):
        noise *= 0.05
    elif len(shape) == 1:
        noise = 1 + 0.1 * noise
    elif name.endswith("weight") and not table:
        noise *= GAIN / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.ascontiguousarray(noise))


def small_predictor() -> SAM2VideoPredictor:
    model = build_sam2_video_predictor("sam2.1_hiera_t", None, device="cpu", hydra_overrides_extra=OVERRIDES)
    model.load_state_dict({k: weights_of(k, tuple(v.shape)) for k, v in model.state_dict().items()})
    return model


def frames(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """Smooth colour waves that drift."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [
        np.stack([np.sin(x / (9 + c) + y / (13 - c) + 0.4 * t) for c in range(3)], axis=-1)
        for t in range(count)
    ]
    return [(127.5 + 127.5 * wave).astype(np.uint8) for wave in waves]


def outputs() -> dict[str, np.ndarray]:
    """Arrays from the encoder to tracking, each thinned out."""
    model = small_predictor()
    found: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        features = model.encode_image(torch.linspace(-2, 2, 3 * SIZE * SIZE).reshape(1, 3, SIZE, SIZE).sin())
        for i, level in enumerate(features.maps):
            found[f"level{i}"] = level[0, ::4, :: 2 ** (2 - i), :: 2 ** (2 - i)].numpy()

    predictor = SAM2ImagePredictor(model)
    predictor.set_image(frames(1)[0])
    masks, ious, _ = predictor.predict(np.array([[40.0, 50.0]]), np.array([1]), return_logits=True)
    found["click"], found["click_iou"] = masks[:, ::4, ::4], ious
    found["box"] = predictor.predict(
        box=np.array([20.0, 10, 90, 70]), multimask_output=False, return_logits=True
    )[0][:, ::4, ::4]

    state = model.init_state(frames(5))
    model.add_new_points_or_box(state, 0, 1, points=[[40, 50]], labels=[1])
    model.add_new_mask(state, 1, 2, frames(1)[0][..., 0] > 160)
    for frame_idx, _, logits in model.propagate_in_video(state):
        found[f"track{frame_idx}"] = logits[:, 0, ::6, ::6].numpy()
    return found


if __name__ == "__main__":
    recorded = outputs()
    np.savez_compressed(GOLDENS, **recorded)
    print(f"{len(recorded)} arrays, {GOLDENS.stat().st_size / 1e3:.0f} kB")
