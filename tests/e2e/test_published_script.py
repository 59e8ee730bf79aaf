"""Scripts written for the published package, with nothing but its calls, run unchanged.

The model comes from a hub cache on this machine, with random weights in half precision.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e2e_helpers import picture_of
from PIL import Image

from sam2.build_sam import build_sam2_video_predictor
from sam2.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow

IMAGE_SCRIPT = """
import numpy as np
import torch
from PIL import Image
from sam2.build_sam import build_sam2_hf
from sam2.sam2_image_predictor import SAM2ImagePredictor

model = build_sam2_hf("facebook/sam2-hiera-tiny")
predictor = SAM2ImagePredictor(model)
image = np.array(Image.open("photo.png").convert("RGB"))

with torch.inference_mode():
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(
        point_coords=np.array([[120, 80]]),
        point_labels=np.array([1]),
        multimask_output=True,
    )
    order = np.argsort(scores)[::-1]
    print("points", masks.shape, scores.shape, logits.shape, masks.dtype)

    masks, scores, _ = predictor.predict(
        point_coords=np.array([[120, 80], [10, 10]]),
        point_labels=np.array([1, 0]),
        mask_input=logits[order[0], :, :][None, :, :],
        multimask_output=False,
    )
    print("mask", masks.shape, scores.shape)

    masks, scores, _ = predictor.predict(
        point_coords=None,
        point_labels=None,
        box=np.array([20, 30, 200, 150])[None, :],
        multimask_output=False,
    )
    print("box", masks.shape, scores.shape)

    boxes = np.array([[20, 30, 200, 150], [5, 5, 60, 60]])
    masks, scores, _ = predictor.predict(
        point_coords=None, point_labels=None, box=boxes, multimask_output=False
    )
    print("boxes", masks.shape, scores.shape)
"""

VIDEO_SCRIPT = """
import numpy as np
import torch
from sam2.build_sam import build_sam2_video_predictor_hf

predictor = build_sam2_video_predictor_hf("facebook/sam2-hiera-tiny")

with torch.inference_mode():
    inference_state = predictor.init_state(video_path="frames")
    predictor.reset_state(inference_state)
    _, out_obj_ids, out_mask_logits = predictor.add_new_points_or_box(
        inference_state=inference_state,
        frame_idx=0,
        obj_id=4,
        points=np.array([[40, 30]], dtype=np.float32),
        labels=np.array([1], np.int32),
    )
    print("prompt", out_obj_ids, tuple(out_mask_logits.shape))
    video_segments = {}
    for out_frame_idx, out_obj_ids, out_mask_logits in predictor.propagate_in_video(inference_state):
        video_segments[out_frame_idx] = {
            out_obj_id: (out_mask_logits[i] > 0.0).cpu().numpy()
            for i, out_obj_id in enumerate(out_obj_ids)
        }
    for frame, objects in video_segments.items():
        print("frame", frame, {key: (mask.shape, str(mask.dtype)) for key, mask in objects.items()})
"""


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """A hub cache that holds facebook/sam2-hiera-tiny."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / "models--facebook--sam2-hiera-tiny"
    snapshot = repository / "snapshots/0123456789abcdef"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(snapshot.name)
    torch.manual_seed(0)
    model = build_sam2_video_predictor("sam2-tiny", None, device="cpu")
    save_checkpoint(model, snapshot / "sam2_hiera_tiny.pt", dtype=torch.float16)
    return cache


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, hub_cache):
    """Runs a script in a folder of its own, offline; its lines of output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def run(script):
        exec(compile(script, "script.py", "exec"), {})
        return capsys.readouterr().out.splitlines()

    return run


def test_images(tmp_path, run):
    Image.fromarray(picture_of(240, 160)).save(tmp_path / "photo.png")
    assert run(IMAGE_SCRIPT) == [
        f"points (3, 160, 240) (3,) (3, 256, 256) {np.dtype(np.float32)}",
        "mask (1, 160, 240) (1,)",
        "box (1, 160, 240) (1,)",
        "boxes (2, 1, 160, 240) (2, 1)",
    ]


def test_video(tmp_path, run):
    (tmp_path / "frames").mkdir()
    for index in range(2):
        Image.fromarray(picture_of(shift=3 * index)).save(tmp_path / f"frames/{index:05d}.jpg")
    assert run(VIDEO_SCRIPT) == [
        "prompt [4] (1, 1, 64, 96)",
        "frame 0 {4: ((1, 64, 96), 'bool')}",
        "frame 1 {4: ((1, 64, 96), 'bool')}",
    ]
