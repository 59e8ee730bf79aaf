"""The whole method on two clips: what training saves, the video predictor follows from one click."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import TINY, toy_clip, toy_data, toy_run

from sam2.checkpoint import load_checkpoint
from sam2.config import instantiate, load_config
from sam2.data.clip import Clip
from sam2.evaluation.jf import object_jf
from sam2.prompts.simulate import sample_one_point_from_error_center
from sam2.training.options import RunOptions, read_options
from sam2.training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

WIDER = tuple(option.replace("=32", "=64").replace("image_size=32", "image_size=64") for option in TINY)


class TwoClips:
    """Clips 1 and 2 of four frames."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Clip:
        return toy_clip(1 + index, frames=4, objects=2)


def followed(predictor: Any, clip: Clip) -> list[float]:
    """J&F of each object from one click on the first frame."""
    session = predictor.init_state(list(clip.frames))
    clicks, labels = sample_one_point_from_error_center(torch.from_numpy(clip.masks[0][:, None]), None)
    for n in range(2):
        predictor.add_new_points_or_box(session, 0, n, points=clicks[n].numpy(), labels=labels[n].numpy())
    found = np.zeros_like(clip.masks)
    for t, _, logits in predictor.propagate_in_video(session):
        found[t] = (logits[:, 0] > 0).numpy()
    return [object_jf(found[:, n], clip.masks[:, n]).jf for n in range(2)]


@pytest.mark.slow
def test_two_clips_are_learnt_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_data()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    sys.modules["sam2.data.toy"].TwoClips = TwoClips  # type: ignore[attr-defined]
    run = toy_run(
        tmp_path,
        steps=250,
        accumulate=1,
        log_steps=50,
        model={"overrides": list(WIDER)},
        data=[{"source": "toy.TwoClips", "batch": 2, "frames": 4, "reverse": 0, "flip": 0}],
        pvs={"mask": 0, "click": 1, "box": 0, "init_frames": 1, "correct_frames": 1, "clicks": 1}
        | {"loss_stride": 1},
        optim={"lr": 1e-3, "warmup": 20, "weight_decay": 0.0, "clip": 1.0},
        ema=0.98,
    )
    start = time.process_time()
    train(read_options(RunOptions, run))
    assert time.process_time() - start < 180
    target = "++model._target_=sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = instantiate(load_config("mini", [*WIDER, target])).eval()
    load_checkpoint(predictor, tmp_path / "model.safetensors")
    scores = [score for index in range(2) for score in followed(predictor, TwoClips()[index])]
    assert min(scores) >= 95, scores
