"""The training objective of SAM 2 over frames and interaction steps (arXiv 2408.00714, appendix D.2).

Shapes: N objects, M masks a prompt, T frames, H and W of the mask logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MASK_LOSSES = ("focal", "balanced")


@dataclass(frozen=True)
class LossOptions:
    """Weights and variants of the objective; the defaults are the paper's."""

    mask_loss: str = "focal"
    """`focal` (the paper's) or `balanced`: cross-entropy in which an object's inside and outside weigh the
    same. From random weights focal loss at weight 20 first collapses to empty masks; balanced does not."""
    mask: float = 20.0
    """Weight of the per-pixel mask loss."""
    dice: float = 1.0
    """Weight of the dice loss."""
    iou: float = 1.0
    """Weight of the L1 loss on predicted IoU."""
    presence: float = 1.0
    """Weight of the cross-entropy on the object score."""
    focal_alpha: float = 0.25
    """Weight of foreground pixels in the focal loss; negative: none."""
    focal_gamma: float = 2.0
    """Exponent of the focal loss."""

    def __post_init__(self) -> None:
        if self.mask_loss not in MASK_LOSSES:
            raise ValueError(f"mask_loss is {self.mask_loss!r}; it must be one of {', '.join(MASK_LOSSES)}")
        for name in ("mask", "dice", "iou", "presence", "focal_gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"loss option {name} is {getattr(self, name)}; it must be 0 or more")


@dataclass
class StepOutput:
    """What the mask decoder gave for one prompt of one frame.

    logits: [N, M, H, W]; iou: predicted IoU [N, M]; object_score: presence logits [N, 1].
    """

    logits: Tensor
    iou: Tensor
    object_score: Tensor


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (arXiv 1708.02002), mean over the last two dimensions: [..., H, W] -> [...].

    targets: same shape, in [0, 1].
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = torch.sigmoid(logits)
    wrong = p + targets - 2 * p * targets
    loss = cross_entropy * wrong**gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return loss.mean(dim=(-2, -1))


def balanced_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in which foreground and background pixels of a mask weigh half each.

    logits, targets: [..., H, W] -> [...]. A target without one of the two classes weighs the other alone.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    inside = targets.sum(dim=(-2, -1)).clamp(min=1)
    outside = (1 - targets).sum(dim=(-2, -1)).clamp(min=1)
    foreground = (loss * targets).sum(dim=(-2, -1)) / inside
    background = (loss * (1 - targets)).sum(dim=(-2, -1)) / outside
    return 0.5 * (foreground + background)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - dice of soft masks, smoothed by one pixel: [..., H, W] -> [...]."""
    p = torch.sigmoid(logits)
    overlap = 2 * (p * targets).sum(dim=(-2, -1))
    total = p.sum(dim=(-2, -1)) + targets.sum(dim=(-2, -1))
    return 1 - (overlap + 1) / (total + 1)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of thresholded masks, without gradient: logits [..., H, W] at 0, targets at 0.5 -> [...]."""
    with torch.no_grad():
        pred, true = logits > 0, targets > 0.5
        overlap = (pred & true).sum(dim=(-2, -1))
        union = (pred | true).sum(dim=(-2, -1))
        return overlap / union.clamp(min=1)


def step_losses(output: StepOutput, targets: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """Losses of one frame and step, summed over objects (not yet divided by their number).

    targets: [N, H, W] in [0, 1]. Only the mask with the lowest weighted mask loss is supervised, the
    predicted IoU of every mask is; an object without pixels counts for presence alone. Returns `mask`,
    `dice`, `iou`, `presence`, each a scalar.
    """
    logits = output.logits.float()
    truth = targets.to(logits.dtype)[:, None].expand_as(logits)
    if options.mask_loss == "focal":
        mask = sigmoid_focal_loss(logits, truth, options.focal_alpha, options.focal_gamma)
    else:
        mask = balanced_cross_entropy(logits, truth)
    dice = dice_loss(logits, truth)
    present = (targets > 0.5).flatten(1).any(dim=1).to(logits.dtype)
    best = (options.mask * mask + options.dice * dice).argmin(dim=1, keepdim=True)
    iou_error = (output.iou.float() - mask_iou(logits, truth)).abs().mean(dim=1)
    presence = F.binary_cross_entropy_with_logits(
        output.object_score.float()[:, 0], present, reduction="none"
    )
    return {
        "mask": (mask.gather(1, best)[:, 0] * present).sum(),
        "dice": (dice.gather(1, best)[:, 0] * present).sum(),
        "iou": (iou_error * present).sum(),
        "presence": presence.sum(),
    }


def weighted_sum(terms: dict[str, Tensor], options: LossOptions) -> Tensor:
    """The scalar that training minimises, from the terms of `training_losses`."""
    return (
        options.mask * terms["mask"]
        + options.dice * terms["dice"]
        + options.iou * terms["iou"]
        + options.presence * terms["presence"]
    )


def training_losses(
    frames: Sequence[Sequence[StepOutput]],
    targets: Tensor,
    options: LossOptions | None = None,
    num_objects: float | None = None,
) -> dict[str, Tensor]:
    """Losses of a clip: sums over its frames and their steps, divided by the number of objects.

    frames: for each frame its steps in order. targets: [T, N, H, W], bool or float in [0, 1], at the logits'
    resolution. num_objects: the divisor where it is not N (a part of a batch, another process's share).
    Returns the terms `mask`, `dice`, `iou`, `presence` (unweighted) and their weighted sum `total`.
    """
    options = options or LossOptions()
    if len(frames) != targets.shape[0]:
        raise ValueError(f"{len(frames)} frames of predictions but targets for {targets.shape[0]}")
    divisor = float(targets.shape[1] if num_objects is None else num_objects)
    terms = {name: targets.new_zeros((), dtype=torch.float32) for name in ("mask", "dice", "iou", "presence")}
    for steps, truth in zip(frames, targets, strict=True):
        for output in steps:
            for name, value in step_losses(output, truth, options).items():
                terms[name] = terms[name] + value / divisor
    terms["total"] = weighted_sum(terms, options)
    return terms
