"""Mistakes put into remembered masks, so that memory learns to mend what tracking gets wrong.

In a few frames of training a mask hardly drifts; in hundreds of frames of use it does: the head of a figure
is lost, a look-alike joins in, and what is remembered then is taken for the truth. Here some remembered masks
lack a side of their object or have a disc too many, while the loss of the frames after asks for the whole.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SURE = 10.0
"""Logit of what is put in, and negated of what is taken away."""
LOST = (0.1, 0.7)
"""Bounds of the share of the object's pixels that is taken away."""
ADDED = (0.2, 0.7)
"""Bounds of the disc's radius, as a share of the square root of the object's area."""


def with_mistakes(masks: Tensor, share: float) -> Tensor:
    """Masks of which some are spoilt; randomness comes from torch's global generator.

    Args:
        masks: logits [N, 1, S, S]; stays as it is.
        share: of the masks that show something, how many are spoilt.

    Returns:
        Logits [N, 1, S, S].
    """
    spoilt = masks.clone()
    for row in range(len(masks)):
        if float(torch.rand(())) < share:
            shown = (masks[row, 0].detach() > 0).nonzero()
            if len(shown):
                change = _lost if float(torch.rand(())) < 0.5 else _added
                change(spoilt[row, 0], shown)
    return spoilt


def _between(bounds: tuple[float, float]) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(torch.rand(()))


def _lost(logits: Tensor, shown: Tensor) -> None:
    """Takes away what lies beyond a line through the object; shown: [P, 2] rows and columns of its pixels."""
    angle = 2 * math.pi * float(torch.rand(()))
    steps = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    along = steps[:, None] * math.sin(angle) + steps[None, :] * math.cos(angle)
    line = along[shown[:, 0], shown[:, 1]].quantile(1 - _between(LOST))
    logits.masked_fill_(along > line, -SURE)


def _added(logits: Tensor, shown: Tensor) -> None:
    """Puts in a disc, near the object or anywhere."""
    side = logits.shape[-1]
    middle = torch.rand(2) * side
    if float(torch.rand(())) < 0.5:
        spread = math.sqrt(len(shown))
        middle = shown[int(torch.randint(len(shown), ()))].cpu() + torch.randn(2) * spread
    radius = _between(ADDED) * math.sqrt(len(shown))
    steps = torch.arange(side, device=logits.device)
    rows, columns = steps - float(middle[0]), steps - float(middle[1])
    logits.masked_fill_(rows[:, None] ** 2 + columns[None, :] ** 2 <= radius**2, SURE)
