"""The SAM 2 of the `transformers` package, an independent implementation, gives the same masks.

Both hold the same random weights: the transformers model is filled and saved, and ours loads that folder.
The weights are scaled so that neither saturates: logits spread over about one unit, and rounding errors are
not blown up from frame to frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.checkpoint import save_checkpoint
from sam2.sam2_image_predictor import SAM2ImagePredictor

transformers = pytest.importorskip("transformers")
sessions = pytest.importorskip("transformers.models.sam2_video.modeling_sam2_video")

SIZE = 256
FRAMES = 6
TOLERANCE = 1e-3
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# SAM 2.1 with a small trunk, in the words of both packages.
OVERRIDES = [
    f"model.image_size={SIZE}",
    "model.image_encoder.trunk.embed_dim=32",
    "model.image_encoder.trunk.stages=[1, 1, 2, 1]",
    "model.image_encoder.trunk.global_att_blocks=[3]",
    "model.image_encoder.neck.backbone_channel_list=[256, 128, 64, 32]",
]
VISION = {
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 32,
        "num_attention_heads": 1,
        "image_size": [SIZE, SIZE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [32, 64, 128, 256],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "global_attention_blocks": [3],
    },
    "backbone_channel_list": [256, 128, 64, 32],
    "backbone_feature_sizes": [[SIZE // 4] * 2, [SIZE // 8] * 2, [SIZE // 16] * 2],
}


def fill(model: torch.nn.Module, seed: int = 0) -> None:
    """Random weights under which activations keep their scale and attention stays soft."""
    generator = torch.Generator().manual_seed(seed)
    tensors = model.state_dict()
    for name, value in sorted(tensors.items()):
        x = torch.randn(value.shape, generator=generator)
        if "embed" in name or "token" in name:
            x = x if "shared" in name else 0.5 * x
        elif value.ndim > 1:
            x = x * 1.1 / value[0].numel() ** 0.5
        elif name.endswith(".scale"):
            x = 0.3 * x
        else:
            x = 0.1 * x + name.endswith("weight")
        if "q_proj" in name:
            x = 0.2 * x
        elif "hypernetworks" in name and "proj_out" in name:
            x = 0.05 * x
        value.copy_(x)
    shared = "shared_embedding.positional_embedding"
    tensors[f"prompt_encoder.{shared}"].copy_(tensors["shared_image_embedding.positional_embedding"])
    tensors["mask_decoder.pred_obj_score_head.proj_out.weight"].mul_(0.2)
    tensors["mask_decoder.pred_obj_score_head.proj_out.bias"].fill_(1.0)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """A soft pattern that moves: [FRAMES, SIZE, SIZE, 3] uint8."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    noise = np.random.default_rng(1).normal(size=(FRAMES, SIZE, SIZE, 3))
    phase = 0.3 * np.arange(FRAMES)[:, None, None]
    waves = [np.sin(9 * x + phase), np.cos(7 * y - phase), np.sin(5 * (x + y) + 2 * phase)]
    return (127 + 60 * np.stack(waves, axis=-1) + 12 * noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pixel_values(pictures: np.ndarray) -> torch.Tensor:
    """`pictures`, normalised: [FRAMES, 3, SIZE, SIZE]."""
    return torch.from_numpy((pictures / 255.0 - MEAN) / STD).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = transformers.Sam2Config(vision_config=VISION, prompt_encoder_config={"image_size": SIZE})
    model = transformers.Sam2Model(config)
    fill(model)
    folder = tmp_path_factory.mktemp("image")
    model.save_pretrained(folder)
    return folder


def video_model() -> Any:
    config = transformers.Sam2VideoConfig(
        vision_config=VISION,
        prompt_encoder_config={"image_size": SIZE},
        image_size=SIZE,
        memory_attention_rope_feat_sizes=[SIZE // 16] * 2,
    )
    model = transformers.Sam2VideoModel(config)
    fill(model)
    return model


@pytest.fixture(scope="module")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    video_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def one_token_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose four mask tokens are one.

    Where a mask is given, the published model takes the object pointer from the first mask token, and
    transformers from the best of the other three; with equal tokens that difference is gone.
    """
    model = video_model()
    tokens = model.state_dict()["mask_decoder.mask_tokens.weight"]
    tokens.copy_(tokens[:1].clone().expand_as(tokens))
    folder = tmp_path_factory.mktemp("one_token")
    model.save_pretrained(folder)
    return folder


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize(
    "prompt",
    [
        {"points": [[60.0, 80.0]], "labels": [1]},
        {"points": [[60.0, 80.0], [200.5, 130.0], [10.0, 250.0]], "labels": [1, 0, 1]},
        {"box": [20.0, 30.0, 150.0, 200.0]},
        {"points": [[60.0, 80.0]], "labels": [0], "box": [20.0, 30.0, 150.0, 200.0]},
    ],
    ids=["point", "points", "box", "point and box"],
)
def test_image_masks(
    image_folder: Path, pictures: np.ndarray, pixel_values: torch.Tensor, prompt: dict, multimask: bool
) -> None:
    theirs = transformers.Sam2Model.from_pretrained(image_folder).eval()
    points, labels, box = prompt.get("points"), prompt.get("labels"), prompt.get("box")
    with torch.inference_mode():
        expected = theirs(
            pixel_values=pixel_values[:1],
            input_points=None if points is None else torch.tensor([[points]]),
            input_labels=None if labels is None else torch.tensor([[labels]]),
            input_boxes=None if box is None else torch.tensor([[box]]),
            multimask_output=multimask,
        )
    predictor = SAM2ImagePredictor(
        build_sam2("sam2.1-tiny", image_folder, device="cpu", hydra_overrides_extra=OVERRIDES)
    )
    predictor.set_image(pictures[0])
    _, ious, logits = predictor.predict(
        None if points is None else np.array(points),
        None if labels is None else np.array(labels),
        None if box is None else np.array(box),
        multimask_output=multimask,
    )
    assert 0.1 < logits.std() < 10
    assert np.abs(ious - expected.iou_scores[0, 0].numpy()).max() < TOLERANCE
    assert np.abs(logits - expected.pred_masks[0, 0].numpy()).max() < TOLERANCE


# ---------------------------------------------------------------- videos

POINT = {"points": np.array([[60.0, 80.0]]), "labels": np.array([1])}
POINTS = {"points": np.array([[60.0, 80.0], [200.0, 130.0]]), "labels": np.array([1, 0])}
MASK = {"mask": np.pad(np.ones((90, 120), dtype=bool), ((60, 106), (80, 56)))}


def their_track(
    folder: Path, frames: torch.Tensor, prompt: dict, prompt_frame: int, reverse: bool
) -> dict[int, torch.Tensor]:
    model = transformers.Sam2VideoModel.from_pretrained(folder).eval()
    session = sessions.Sam2VideoInferenceSession(
        video=frames, video_height=SIZE, video_width=SIZE, dtype=torch.float32
    )
    index = session.obj_id_to_idx(1)
    if "mask" in prompt:
        session.add_mask_inputs(index, prompt_frame, torch.from_numpy(prompt["mask"]).float()[None, None])
    else:
        points = torch.from_numpy(prompt["points"]).float()[None, None]
        labels = torch.from_numpy(prompt["labels"]).int()[None, None]
        session.add_point_inputs(index, prompt_frame, {"point_coords": points, "point_labels": labels})
    session.obj_with_new_inputs = [1]
    with torch.inference_mode():
        model(session, frame_idx=prompt_frame)
        outputs = list(
            model.propagate_in_video_iterator(session, start_frame_idx=prompt_frame, reverse=reverse)
        )
    return {out.frame_idx: out.pred_masks for out in outputs}


def our_track(
    folder: Path, clip: Path, prompt: dict, prompt_frame: int, reverse: bool
) -> dict[int, torch.Tensor]:
    predictor = build_sam2_video_predictor(
        "sam2.1-tiny", folder, device="cpu", hydra_overrides_extra=[*OVERRIDES, "++model.fill_hole_area=0"]
    )
    state = predictor.init_state(str(clip))
    if "mask" in prompt:
        predictor.add_new_mask(state, prompt_frame, 1, prompt["mask"])
    else:
        predictor.add_new_points_or_box(state, prompt_frame, 1, **prompt)
    outputs = predictor.propagate_in_video(state, start_frame_idx=prompt_frame, reverse=reverse)
    return {frame: logits.clone() for frame, _, logits in outputs}


@pytest.fixture(scope="module")
def clip(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:05d}.png")
    return folder


def compare(
    folder: Path, clip: Path, frames: torch.Tensor, prompt: dict, prompt_frame: int = 0, reverse: bool = False
) -> dict[int, torch.Tensor]:
    """Tracks with both; asserts the same frames and logits, and hands back ours."""
    expected = their_track(folder, frames, prompt, prompt_frame, reverse)
    ours = our_track(folder, clip, prompt, prompt_frame, reverse)
    assert (
        set(ours) == set(expected) == set(range(prompt_frame + 1) if reverse else range(prompt_frame, FRAMES))
    )
    for frame, logits in ours.items():
        full = F.interpolate(expected[frame].float(), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        assert 0.1 < logits.std() < 10
        assert (logits - full).abs().max() < TOLERANCE, f"frame {frame}"
    return ours


@pytest.mark.parametrize(
    ("prompt", "prompt_frame", "reverse"),
    [(POINT, 0, False), (POINTS, 1, False), (POINTS, FRAMES - 1, True)],
    ids=["point", "points", "in reverse"],
)
def test_video_masks_from_points(
    video_folder: Path,
    clip: Path,
    pixel_values: torch.Tensor,
    prompt: dict,
    prompt_frame: int,
    reverse: bool,
) -> None:
    compare(video_folder, clip, pixel_values, prompt, prompt_frame, reverse)


def test_video_masks_from_a_mask(one_token_folder: Path, clip: Path, pixel_values: torch.Tensor) -> None:
    from_mask = compare(one_token_folder, clip, pixel_values, MASK)
    from_point = our_track(one_token_folder, clip, POINT, 0, False)
    for frame in range(1, FRAMES):  # what was prompted is remembered, so agreement means something
        assert (from_mask[frame] - from_point[frame]).abs().max() > 10 * TOLERANCE


# ---------------------------------------------------------------- layouts


def test_the_three_layouts_hold_the_same_model(video_folder: Path, tmp_path: Path, clip: Path) -> None:
    model = build_sam2("sam2.1-tiny", video_folder, device="cpu", hydra_overrides_extra=OVERRIDES)
    tracks = {"transformers": our_track(video_folder, clip, POINT, 0, False)}
    for name in ("model.pt", "model.safetensors"):
        save_checkpoint(model, tmp_path / name)
        tracks[name] = our_track(tmp_path / name, clip, POINT, 0, False)
    for track in tracks.values():
        assert len(track) == FRAMES
        assert all(torch.equal(logits, tracks["transformers"][frame]) for frame, logits in track.items())
