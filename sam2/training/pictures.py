"""Predictions of a micro-batch as one picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam2.training.pvs import Batch, Outcome

ROWS = 8
GAP = 4


def _painted(picture: NDArray[np.uint8], weight: Tensor, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    size = picture.shape[0]
    large = F.interpolate(weight[None, None].float().cpu(), size=(size, size), mode="bilinear")[0, 0]
    alpha = (0.6 * (large > 0.5).float()).numpy()[..., None]
    mixed: NDArray[np.uint8] = (picture * (1 - alpha) + np.array(colour) * alpha).astype(np.uint8)
    return mixed


@torch.no_grad()
def prediction_sheet(batch: Batch, outcomes: list[Outcome]) -> Image.Image | None:
    """Up to eight objects, a row each: truth, the chosen mask after the first prompt, and the last one.

    Frames are the first with a step that the user prompted, and the last of the clip. None without a step.
    """
    rows = []
    for outcome in outcomes:
        stepped = [t for t, steps in enumerate(outcome.frames) if steps]
        if not stepped:
            continue
        first, last = stepped[0], stepped[-1]
        for n in range(outcome.targets.shape[1]):
            b = int(batch.picture[outcome.objects[n]])

            def cell(t: int, weight: Tensor, colour: tuple[int, int, int], b: int = b) -> NDArray[np.uint8]:
                return _painted(batch.images[t, b].permute(1, 2, 0).cpu().numpy(), weight, colour)

            def chosen(t: int, number: int, n: int = n, outcome: Outcome = outcome) -> Tensor:
                step = outcome.frames[t][number]
                return step.logits[n, int(step.iou[n].argmax())].sigmoid()

            rows.append(
                [
                    cell(first, outcome.targets[first, n], (0, 200, 0)),
                    cell(first, chosen(first, 0), (255, 60, 0)),
                    cell(last, outcome.targets[last, n], (0, 200, 0)),
                    cell(last, chosen(last, -1), (255, 60, 0)),
                ]
            )
    if not rows:
        return None
    spread = np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().astype(int)
    size = rows[0][0].shape[0]
    sheet = Image.new("RGB", (4 * (size + GAP), len(spread) * (size + GAP)), "white")
    for y, i in enumerate(spread):
        for x, picture in enumerate(rows[i]):
            sheet.paste(Image.fromarray(picture), (x * (size + GAP), y * (size + GAP)))
    return sheet
