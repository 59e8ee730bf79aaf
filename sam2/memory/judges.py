"""What a policy makes of a tracked frame: which candidate is the object, and whether to trust the frame.

Shapes: M candidate masks of h x w low-resolution pixels.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam2.memory.entry import ObjectMask
from sam2.ops import connected_components

Box = NDArray[np.float64]
"""x0, y0, x1, y1 in low-resolution pixels, the last ones exclusive."""


@dataclass(frozen=True)
class Verdict:
    """What to do with a frame."""

    choice: int
    """Index of the candidate that is the object."""
    trusted: bool = True
    """The frame may serve as a recent memory."""
    anchor: bool = False
    """The frame tells the object from a distractor, and serves for ever."""


State = tuple[dict[str, Any], list[Tensor | None]]
"""What `sam2.memory.records.pack` takes: plain JSON values, and tensors."""


class Follower(Protocol):
    """What a policy knows of one object that it follows in one direction, frame by frame, without a gap."""

    def state(self) -> State:
        """All that it knows; later frames leave what was handed out as it is."""

    def restore(self, values: dict[str, Any], tensors: list[Tensor | None]) -> None:
        """Goes on exactly where the one whose `state` this is stood."""


class Judge(Follower, Protocol):
    """Follows an object by the masks that are offered on each frame."""

    def begin(self, frame_idx: int, shown: ObjectMask | None) -> None:
        """Takes the frame before the first that is to be judged, and what was shown there."""

    def judge(self, frame_idx: int, masks: Tensor, ious: list[float], presence: float) -> Verdict:
        """Masks bool [M, h, w], predicted IoUs [M] and the presence logit of the next frame."""


def box_of(mask: Tensor) -> Box | None:
    """The box around a mask bool [h, w], None where it is empty."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    if not len(rows):
        return None
    return np.array(
        [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1], dtype=np.float64
    )


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return float(width * height / (area - width * height))


class BoxFilter:
    """A Kalman filter of a box's centre and size that move at constant velocity (SAMURAI, section 4.1).

    The paper gives the state and the equations; the noises are ours, as shares of the box's size.
    """

    def __init__(self, box: Box) -> None:
        size = box[2:] - box[:2]
        self._mean = np.concatenate(((box[:2] + box[2:]) / 2, size, np.zeros(4)))
        self._covariance = np.diag(np.square(np.repeat([0.1, 0.6], 4) * np.tile(size, 4) + 1e-3))
        self._move = np.eye(8) + np.eye(8, k=4)

    def predict(self) -> Box:
        """The box expected on the next frame, to which the filter moves on."""
        size = np.maximum(self._mean[2:4], 1.0)
        noise = np.diag(np.square(np.repeat([0.05, 0.00625], 4) * np.tile(size, 4)))
        self._mean = self._move @ self._mean
        self._covariance = self._move @ self._covariance @ self._move.T + noise
        centre, half = self._mean[:2], np.maximum(self._mean[2:4], 1.0) / 2
        return np.concatenate((centre - half, centre + half))

    def update(self, box: Box) -> None:
        """Takes the box that was seen."""
        seen = np.concatenate(((box[:2] + box[2:]) / 2, box[2:] - box[:2]))
        size = np.maximum(self._mean[2:4], 1.0)
        spread = self._covariance[:4, :4] + np.diag(np.square(0.05 * np.tile(size, 2)))
        gain = np.linalg.solve(spread, self._covariance[:4]).T
        self._mean = self._mean + gain @ (seen - self._mean[:4])
        self._covariance = self._covariance - gain @ spread @ gain.T

    def to_lists(self) -> list[list[float]]:
        """Mean and covariance, exactly."""
        return [self._mean.tolist(), *self._covariance.tolist()]

    @staticmethod
    def from_lists(values: list[list[float]]) -> BoxFilter:
        """What `to_lists` gave."""
        made = BoxFilter(np.zeros(4))
        made._mean, made._covariance = np.array(values[0]), np.array(values[1:])
        return made


@dataclass
class MotionJudge:
    """SAMURAI (arXiv 2411.11922): predicted IoU and agreement with a motion model choose the mask (equation
    7); only frames whose mask, presence and motion scores pass their thresholds serve as recent memories
    (section 4.2).

    Of the numbers the paper gives the weight alone (table 4); the thresholds are ours.
    """

    motion_weight: float = 0.15
    """Share of the motion score in the choice (alpha_kf)."""
    stable_frames: int = 15
    """Frames in a row on which the object was found before motion has a say (the paper's second tau_kf)."""
    min_iou: float = 0.5
    """Predicted IoU of a trusted frame (tau_mask)."""
    min_presence: float = 0.0
    """Presence logit of a trusted frame (tau_obj)."""
    min_motion: float = 0.0
    """Motion score of a trusted frame (tau_kf)."""

    def __post_init__(self) -> None:
        self._filter: BoxFilter | None = None
        self._seen = 0

    def begin(self, frame_idx: int, shown: ObjectMask | None) -> None:
        if shown is not None:
            self._see(box_of(as_masks(shown.logits[0])[0]))

    def judge(self, frame_idx: int, masks: Tensor, ious: list[float], presence: float) -> Verdict:
        boxes = [box_of(mask) for mask in masks]
        motion = [1.0] * len(boxes)
        scores = list(ious)
        if self._filter is not None:
            expected = self._filter.predict()
            if self._seen >= self.stable_frames:
                motion = [0.0 if box is None else box_iou(expected, box) for box in boxes]
                weight = self.motion_weight
                scores = [weight * m + (1 - weight) * iou for m, iou in zip(motion, ious, strict=True)]
        choice = max(range(len(scores)), key=scores.__getitem__)
        found = presence > self.min_presence and ious[choice] > self.min_iou
        self._see(boxes[choice] if found else None)
        return Verdict(choice, trusted=found and motion[choice] > self.min_motion)

    def _see(self, box: Box | None) -> None:
        if box is None:
            self._seen = 0
            return
        self._seen += 1
        if self._filter is None:
            self._filter = BoxFilter(box)
        else:
            self._filter.update(box)

    def state(self) -> State:
        return {"seen": self._seen, "filter": self._filter and self._filter.to_lists()}, []

    def restore(self, values: dict[str, Any], tensors: list[Tensor | None]) -> None:
        self._seen = values["seen"]
        self._filter = values["filter"] and BoxFilter.from_lists(values["filter"])


@dataclass
class DistractorJudge:
    """DAM4SAM (arXiv 2411.17576, section 3.2): a reliable frame whose other candidates reach beyond the
    chosen mask shows a distractor, and becomes an anchor. The numbers are the paper's.
    """

    min_iou: float = 0.8
    """Predicted IoU of a reliable frame (theta_IoU)."""
    area_change: float = 0.2
    """A reliable frame's area differs from the median by less than this share (theta_area)."""
    median_frames: int = 10
    """Frames with the object over which the median is taken (N_M)."""
    max_box_iou: float = 0.7
    """Below this overlap of the boxes with and without another candidate it is a distractor (theta_anc)."""
    interval: int = 5
    """Frames between anchors (Delta)."""

    def __post_init__(self) -> None:
        self._areas: deque[float] = deque(maxlen=self.median_frames)
        self._last_anchor: int | None = None

    def begin(self, frame_idx: int, shown: ObjectMask | None) -> None:
        self._last_anchor = frame_idx
        if shown is not None:
            self._areas.append(float((shown.logits > 0).sum()))

    def judge(self, frame_idx: int, masks: Tensor, ious: list[float], presence: float) -> Verdict:
        choice = max(range(len(ious)), key=ious.__getitem__)
        area = float(masks[choice].sum())
        if presence <= 0 or area == 0:
            return Verdict(choice, trusted=False)
        median = float(np.median(self._areas)) if self._areas else area
        self._areas.append(area)
        anchor = (
            ious[choice] > self.min_iou
            and abs(area - median) < self.area_change * median
            and (self._last_anchor is None or abs(frame_idx - self._last_anchor) >= self.interval)
            and self._shows_distractor(masks, choice)
        )
        if anchor:
            self._last_anchor = frame_idx
        return Verdict(choice, trusted=True, anchor=anchor)

    def state(self) -> State:
        return {"areas": list(self._areas), "last_anchor": self._last_anchor}, []

    def restore(self, values: dict[str, Any], tensors: list[Tensor | None]) -> None:
        self._areas = deque(values["areas"], maxlen=self.median_frames)
        self._last_anchor = values["last_anchor"]

    def _shows_distractor(self, masks: Tensor, choice: int) -> bool:
        chosen = masks[choice]
        box = box_of(chosen)
        assert box is not None
        for i, mask in enumerate(masks):
            beyond = mask & ~chosen
            if i == choice or not bool(beyond.any()):
                continue
            _, areas = connected_components(beyond[None, None])
            largest = areas[0, 0] == areas.max()
            wider = box_of(chosen | largest)
            if wider is not None and box_iou(box, wider) < self.max_box_iou:
                return True
        return False


def decide(judge: Judge | None, frame_idx: int, logits: Tensor, ious: Tensor, presence: Tensor) -> Verdict:
    """A judge's verdict on candidates [M, h, w], their predicted IoUs [M] and a presence logit [1]; without a
    judge, every frame is taken as it comes."""
    if judge is None:
        return Verdict(0)
    return judge.judge(frame_idx, as_masks(logits), ious.tolist(), float(presence))


def as_masks(logits: Tensor) -> Tensor:
    """Logits [M, h, w] of one object as masks bool on the CPU."""
    return (logits > 0).to(torch.device("cpu"))
