"""Stills: masks from a simulated user's clicks and boxes, scored by IoU.

The user clicks the pixel deepest inside the largest error, as the click benchmarks do. Any tool can be judged
by these clicks: it takes the few methods of `Segmenter`.

Shapes: N objects of a picture, H and W its sides, K clicks, M masks offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sam2.data.clip import Clip
from sam2.prompts.simulate import mask_boxes, sample_one_point_from_error_center
from sam2.sam2_image_predictor import SAM2ImagePredictor

BoolMasks = NDArray[np.bool_]


class Guess(NamedTuple):
    """Masks for N objects: the tool's choice [N, H, W], all that it offered [N, M, H, W], and what it wants
    back with the next click."""

    chosen: BoolMasks
    offered: BoolMasks
    state: Any


class Segmenter(Protocol):
    """A tool that makes masks of clicks and boxes."""

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Takes the picture [H, W, 3] that the prompts are about."""

    def clicks(self, coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any) -> Guess:
        """coords [N, K, 2] in pixels, labels [N, K]; state: of the guess before, None at the first click."""

    def boxes(self, boxes: NDArray[np.float32]) -> Guess:
        """boxes [N, 4] in pixels."""


class BoxSegmenter(Segmenter, Protocol):
    """A tool whose boxes can be corrected with clicks."""

    def box_clicks(
        self, boxes: NDArray[np.float32], coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any
    ) -> Guess:
        """boxes [N, 4] and clicks in them as for `clicks`; state: of the guess before."""


class Sam2Segmenter:
    """SAM 2: three masks for the first click, then one, the logits fed back."""

    def __init__(self, predictor: SAM2ImagePredictor) -> None:
        self.predictor = predictor

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self.predictor.set_image(image)

    def _guess(self, **prompts: Any) -> Guess:
        masks, ious, logits = self.predictor.predict(**prompts)
        if masks.ndim == 3:
            masks, ious, logits = masks[None], ious[None], logits[None]
        rows, best = np.arange(len(masks)), ious.argmax(axis=1)
        offered = masks > 0
        return Guess(offered[rows, best], offered, logits[rows, best][:, None])

    def clicks(self, coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any) -> Guess:
        first = state is None
        return self._guess(point_coords=coords, point_labels=labels, mask_input=state, multimask_output=first)

    def boxes(self, boxes: NDArray[np.float32]) -> Guess:
        return self._guess(box=boxes, multimask_output=False)

    def box_clicks(
        self, boxes: NDArray[np.float32], coords: NDArray[np.float32], labels: NDArray[np.int32], state: Any
    ) -> Guess:
        prompts = {"point_coords": coords, "point_labels": labels, "mask_input": state}
        return self._guess(box=boxes, multimask_output=False, **prompts)


@dataclass(frozen=True)
class StillScore:
    """How well one object of one picture was found."""

    picture: str
    object_id: int
    area: int
    """Pixels of the object."""
    clicks: tuple[float, ...]
    """IoU after each click."""
    box: float
    """IoU from its box."""
    best_of_offered: float
    """IoU of the best mask offered for the first click."""

    def clicks_to(self, iou: float) -> int:
        """Clicks until an IoU is reached (NoC); all that were made where it never is."""
        reached = (k for k, value in enumerate(self.clicks, 1) if value >= iou)
        return next(reached, len(self.clicks))

    def row(self) -> dict[str, Any]:
        """For a table; click counts are there where enough clicks were made."""
        count = len(self.clicks)
        return {
            "picture": self.picture,
            "object": self.object_id,
            "area": self.area,
            **{f"iou_{k}_clicks": self.clicks[k - 1] for k in (1, 3, 5) if k <= count},
            "iou_box": self.box,
            "iou_best_of_3": self.best_of_offered,
            **({"noc_85": self.clicks_to(0.85), "noc_90": self.clicks_to(0.9)} if count >= 20 else {}),
        }


def masks_iou(a: BoolMasks, b: BoolMasks) -> NDArray[np.float64]:
    """IoU over the last two axes; 1 where both are empty."""
    overlap, union = (a & b).sum(axis=(-2, -1)), (a | b).sum(axis=(-2, -1))
    return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)


def boxes_of(masks: BoolMasks) -> NDArray[np.float32]:
    """Boxes [N, 4] whose far sides lie on the far edge of the last pixel."""
    boxes: NDArray[np.float32] = mask_boxes(torch.from_numpy(masks)[:, None]).numpy()
    return boxes + np.array([0, 0, 1, 1], dtype=np.float32)


def next_clicks(truth: BoolMasks, found: BoolMasks | None) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The click on the middle of each object's largest error: coords [N, 1, 2], labels [N, 1]."""
    seen = None if found is None else torch.from_numpy(found)[:, None]
    coords, labels = sample_one_point_from_error_center(torch.from_numpy(truth)[:, None], seen)
    return coords.numpy(), labels.numpy()


def score_still(
    segmenter: Segmenter, clip: Clip, max_clicks: int = 5, together: int = 16
) -> tuple[list[StillScore], BoolMasks]:
    """Scores every object of a picture (a clip of one frame), and their masks after the first click.

    together: objects prompted at once.
    """
    if len(clip) != 1:
        raise ValueError(f"{clip.name or 'the clip'} has {len(clip)} frames; stills have one")
    segmenter.set_image(clip.frames[0])
    scores: list[StillScore] = []
    firsts: list[BoolMasks] = []
    visible = [n for n in range(len(clip.object_ids)) if clip.masks[0, n].any()]
    for start in range(0, len(visible), together):
        chosen = visible[start : start + together]
        truth = clip.masks[0, chosen]
        ious, oracle, first = _score_clicks(segmenter, truth, max_clicks)
        box = masks_iou(segmenter.boxes(boxes_of(truth)).chosen, truth)
        firsts.append(first)
        scores += [
            StillScore(
                clip.name,
                clip.object_ids[n],
                int(truth[i].sum()),
                tuple(float(v) for v in ious[:, i]),
                float(box[i]),
                float(oracle[i]),
            )
            for i, n in enumerate(chosen)
        ]
    return scores, np.concatenate(firsts) if firsts else clip.masks[0, :0]


def _score_clicks(
    segmenter: Segmenter, truth: BoolMasks, max_clicks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], BoolMasks]:
    """IoUs after each click [K, N], of the best mask first offered [N], and the masks first chosen."""
    coords, labels = next_clicks(truth, None)
    guess = segmenter.clicks(coords, labels, None)
    first = guess.chosen
    oracle = masks_iou(guess.offered, truth[:, None]).max(axis=1)
    ious = [masks_iou(first, truth)]
    for _ in range(max_clicks - 1):
        more, kinds = next_clicks(truth, guess.chosen)
        coords, labels = np.concatenate([coords, more], 1), np.concatenate([labels, kinds], 1)
        guess = segmenter.clicks(coords, labels, guess.state)
        ious.append(masks_iou(guess.chosen, truth))
    return np.stack(ious), oracle, first


def summary(scores: Sequence[StillScore]) -> dict[str, float]:
    """Means over objects of what `StillScore.row` holds."""
    rows = [score.row() for score in scores]
    names = [name for name in rows[0] if name not in ("picture", "object", "area")] if rows else []
    return {name: float(np.mean([row[name] for row in rows])) for name in names}
