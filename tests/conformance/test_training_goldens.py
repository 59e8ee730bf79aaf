"""Training losses and J&F against the conformance kit, where it lies beside the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam2.evaluation.jf import clip_jf
from sam2.training.losses import StepOutput, training_losses

GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "goldens"
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the conformance kit is not beside the project")


def test_training_losses_equal_the_reference() -> None:
    golden = np.load(GOLDENS / "training_losses.npz")

    def step(frame: int, number: int) -> StepOutput:
        names = (f"f{frame}.s{number}.{kind}" for kind in ("logits", "iou", "object"))
        return StepOutput(*(torch.from_numpy(golden[name]) for name in names))

    frames = [[step(t, s) for s in range(3)] for t in range(3)]
    terms = training_losses(frames, torch.from_numpy(golden["targets"]))
    names = {"mask": "loss_mask", "dice": "loss_dice", "iou": "loss_iou", "presence": "loss_class"}
    for ours, theirs in {**names, "total": "core_loss"}.items():
        assert float(terms[ours]) == pytest.approx(float(golden[f"expected.{theirs}"]), rel=1e-5, abs=1e-4)


def test_j_and_f_equal_the_evaluator() -> None:
    golden = np.load(GOLDENS / "jf_metric.npz")
    # the golden scores every frame from an object's first appearance on
    scores = clip_jf(golden["pred"], golden["gt"], skip=0)
    assert list(scores) == golden["ids"].tolist()
    np.testing.assert_allclose([s.j for s in scores.values()], golden["J"], atol=1e-4)
    np.testing.assert_allclose([s.f for s in scores.values()], golden["F"], atol=1e-4)
