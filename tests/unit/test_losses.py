"""The training objective: committed figures, and what each term must ignore."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sam2.training.losses import (
    LossOptions,
    StepOutput,
    balanced_cross_entropy,
    dice_loss,
    mask_iou,
    sigmoid_focal_loss,
    training_losses,
)

GOLDEN = {"mask": 0.1581, "dice": 0.8576, "iou": 1.1848, "presence": 3.2193, "total": 8.4234}


def wave(*shape: int, phase: float = 0.0) -> Tensor:
    """Values in [-2, 2] that depend on nothing but their place."""
    count = math.prod(shape)
    return (2 * torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + phase)).float().reshape(shape)


def sample(masks: int = 3) -> tuple[list[list[StepOutput]], Tensor]:
    frames = [
        [
            StepOutput(
                wave(2, masks, 6, 5, phase=t + s), wave(2, masks, phase=s).sigmoid(), wave(2, 1, phase=t)
            )
            for s in range(2)
        ]
        for t in range(2)
    ]
    targets = wave(2, 2, 6, 5, phase=0.3) > 0.4
    targets[1, 1] = False
    return frames, targets


def test_committed_golden() -> None:
    # figures of an implementation that equals the conformance kit's golden to 1e-5
    frames, targets = sample()
    terms = {name: round(float(value), 4) for name, value in training_losses(frames, targets).items()}
    assert terms == GOLDEN


def test_matches_a_per_pixel_twin() -> None:
    logits, targets = wave(1, 4, 4)[0], (wave(4, 4, phase=1.0) > 0).float()
    focal = dice_p = dice_t = dice_pt = 0.0
    for x, t in zip(logits.flatten().tolist(), targets.flatten().tolist()):
        p = 1 / (1 + math.exp(-x))
        right = p if t else 1 - p
        focal += (0.25 if t else 0.75) * (1 - right) ** 2 * -math.log(right) / 16
        dice_p, dice_t, dice_pt = dice_p + p, dice_t + t, dice_pt + p * t
    assert float(sigmoid_focal_loss(logits, targets)) == pytest.approx(focal, rel=1e-5)
    assert float(dice_loss(logits, targets)) == pytest.approx(
        1 - (2 * dice_pt + 1) / (dice_p + dice_t + 1), rel=1e-5
    )


def test_an_absent_object_counts_for_presence_alone() -> None:
    frames, targets = sample()
    targets[:] = False
    terms = training_losses(frames, targets)
    assert float(terms["mask"]) == float(terms["dice"]) == float(terms["iou"]) == 0
    assert float(terms["presence"]) > 0
    assert float(terms["total"]) == pytest.approx(float(terms["presence"]))


def test_only_the_best_mask_is_supervised_but_every_iou() -> None:
    logits = torch.stack([torch.full((4, 4), -4.0), torch.full((4, 4), 4.0)])[None].requires_grad_()
    iou = torch.full((1, 2), 0.5, requires_grad=True)
    output = StepOutput(logits, iou, torch.zeros(1, 1))
    training_losses([[output]], torch.ones(1, 1, 4, 4, dtype=torch.bool))["total"].backward()
    assert logits.grad is not None
    assert iou.grad is not None
    assert float(logits.grad[0, 0].abs().sum()) == 0
    assert float(logits.grad[0, 1].abs().sum()) > 0
    assert iou.grad.tolist() == [[0.5, -0.5]]


def test_balanced_loss_does_not_see_the_size_of_an_object() -> None:
    small, large = torch.zeros(20, 20), torch.zeros(20, 20)
    small[:2, :2], large[:, :10] = 1, 1
    losses = [float(balanced_cross_entropy(3 * (2 * t - 1), t)) for t in (small, large)]
    assert losses[0] == pytest.approx(losses[1])
    empty = [float(balanced_cross_entropy(torch.full((20, 20), -3.0), t)) for t in (small, large)]
    assert empty[0] == pytest.approx(empty[1])


def test_divisor_and_weights() -> None:
    frames, targets = sample()
    whole = training_losses(frames, targets)
    halved = training_losses(frames, targets, num_objects=4)
    assert float(halved["total"]) == pytest.approx(float(whole["total"]) / 2)
    masks_only = training_losses(frames, targets, LossOptions(mask=2, dice=0, iou=0, presence=0))
    assert float(masks_only["total"]) == pytest.approx(2 * float(masks_only["mask"]))


def test_mask_iou_thresholds_logits_at_zero() -> None:
    logits = torch.tensor([[1.0, 1.0], [-1.0, 0.0]])
    assert float(mask_iou(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))) == pytest.approx(1 / 3)


@pytest.mark.parametrize("options", [{"mask_loss": "hinge"}, {"dice": -1.0}])
def test_bad_options_name_the_value(options: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        LossOptions(**options)


def test_frames_and_targets_must_agree() -> None:
    frames, targets = sample()
    with pytest.raises(ValueError, match="1 frames of predictions but targets for 2"):
        training_losses(frames[:1], targets)
