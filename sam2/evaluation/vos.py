"""Clips: following objects from one prompt, and correcting them in rounds or as the clip plays.

Semi-supervised: a mask, a box or clicks on the first frame that shows an object, then one pass forward.
Interactive (SAM 2, arXiv 2408.00714, section 6.1): offline, each round puts clicks on the frame that is
followed worst and tracks anew; online, one pass stops for clicks where an object is followed badly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam2.data.clip import Clip
from sam2.evaluation.clicks import boxes_of, masks_iou, next_clicks
from sam2.evaluation.jf import object_jf
from sam2.sam2_video_predictor import SAM2VideoPredictor

BoolMasks = NDArray[np.bool_]
PROMPTS = ("mask", "box", "1 click", "3 clicks", "5 clicks")
POOR = 0.75
"""IoU under which the online user stops for clicks."""


@dataclass(frozen=True)
class ClipScore:
    """How well one object of one clip was followed."""

    clip: str
    object_id: int
    prompt: str
    j: float
    """In percent."""
    f: float
    """In percent."""
    presence: float
    """Share of the frames after the first prompt that show the object, or do not, as in truth."""
    frames: int
    """Frames that were prompted."""

    def row(self) -> dict[str, Any]:
        """For a table."""
        return {
            "clip": self.clip,
            "object": self.object_id,
            "prompt": self.prompt,
            "j": self.j,
            "f": self.f,
            "jf": 0.5 * (self.j + self.f),
            "presence": self.presence,
            "frames": self.frames,
        }


def _first_frames(clip: Clip) -> dict[int, int]:
    """The first frame that shows each object (by its place in the clip); those never seen are left out."""
    seen: BoolMasks = np.any(clip.masks, axis=(2, 3))
    return {n: int(seen[:, n].argmax()) for n in range(seen.shape[1]) if seen[:, n].any()}


def _score(clip: Clip, place: int, found: BoolMasks, prompt: str, first: int, frames: int) -> ClipScore:
    truth = clip.masks[:, place]
    measured = object_jf(found, truth)
    after = slice(first + 1, len(clip))
    right = found[after].any(axis=(1, 2)) == truth[after].any(axis=(1, 2))
    presence = float(right.mean()) if len(right) else 1.0
    return ClipScore(clip.name, clip.object_ids[place], prompt, measured.j, measured.f, presence, frames)


def _is_scored(clip: Clip, place: int) -> bool:
    return bool(clip.masks[1:-1, place].any())


def _mask_of(published: tuple[int, list[int], torch.Tensor], object_id: int) -> BoolMasks:
    _, ids, logits = published
    mask: BoolMasks = (logits[ids.index(object_id), 0] > 0).cpu().numpy()
    return mask


def _click(
    predictor: SAM2VideoPredictor,
    session: Any,
    frame: int,
    place: int,
    truth: BoolMasks,
    found: BoolMasks | None,
) -> BoolMasks:
    """One click more on an object; its mask on that frame."""
    coords, labels = next_clicks(truth[None], None if found is None else found[None])
    answer = predictor.add_new_points_or_box(
        session, frame, place, points=coords[0], labels=labels[0], clear_old_points=False
    )
    return _mask_of(answer, place)


def _prompt(
    predictor: SAM2VideoPredictor, session: Any, frame: int, place: int, truth: BoolMasks, kind: str
) -> None:
    if kind == "mask":
        predictor.add_new_mask(session, frame, place, truth)
    elif kind == "box":
        predictor.add_new_points_or_box(session, frame, place, box=boxes_of(truth[None])[0])
    else:
        found = None
        for _ in range(int(kind.split()[0])):
            found = _click(predictor, session, frame, place, truth, found)


def follow(
    predictor: SAM2VideoPredictor, clip: Clip, prompt: str = "mask"
) -> tuple[list[ClipScore], BoolMasks]:
    """Semi-supervised: all objects together, each prompted on the first frame that shows it.

    prompt: one of PROMPTS. Returns scores of the objects that show between the first and the last frame, and
    all masks bool [T, N, H, W].
    """
    if prompt not in PROMPTS:
        raise ValueError(f"unknown prompt {prompt!r}; give one of {', '.join(PROMPTS)}")
    firsts = _first_frames(clip)
    found = np.zeros_like(clip.masks)
    if not firsts:
        return [], found
    session = predictor.init_state(list(clip.frames))
    for place, frame in firsts.items():
        _prompt(predictor, session, frame, place, clip.masks[frame, place], prompt)
    for t, ids, logits in predictor.propagate_in_video(session):
        for place, mask in zip(ids, (logits[:, 0] > 0).cpu().numpy()):
            if t >= firsts[place]:
                found[t, place] = mask
    scores = [_score(clip, n, found[:, n], prompt, firsts[n], 1) for n in firsts if _is_scored(clip, n)]
    return scores, found


def correct_offline(
    predictor: SAM2VideoPredictor, clip: Clip, rounds: int = 8, clicks: int = 3
) -> list[ClipScore]:
    """Each round puts clicks on the frame with the lowest IoU, then tracks the whole clip again.

    Objects are followed one by one. Returns a score an object and round, `frames` counting the rounds.
    """
    scores: list[ClipScore] = []
    for place, first in _first_frames(clip).items():
        if not _is_scored(clip, place):
            continue
        truth = clip.masks[:, place]
        found = np.zeros_like(truth)
        session = predictor.init_state(list(clip.frames))
        frame, done = first, set[int]()
        for number in range(1, rounds + 1):
            mask = found[frame] if done else None
            for _ in range(clicks):
                mask = _click(predictor, session, frame, place, truth[frame], mask)
            done.add(frame)
            for t, _, logits in predictor.propagate_in_video(session, first):
                found[t] = (logits[0, 0] > 0).cpu().numpy()
            scores.append(_score(clip, place, found, f"offline {clicks} clicks", first, number))
            left = [t for t in range(first, len(clip)) if t not in done]
            if not left:
                break
            ious = masks_iou(found[left], truth[left])
            frame = left[int(ious.argmin())]
    return scores


def correct_online(
    predictor: SAM2VideoPredictor, clip: Clip, frames: int = 8, clicks: int = 3
) -> list[ClipScore]:
    """One pass forward that stops for clicks where the IoU falls below 0.75, on up to so many frames.

    Masks count as they stood when the pass left their frame. Objects are followed one by one.
    """
    scores: list[ClipScore] = []
    for place, first in _first_frames(clip).items():
        if not _is_scored(clip, place):
            continue
        truth = clip.masks[:, place]
        found = np.zeros_like(truth)
        session = predictor.init_state(list(clip.frames))
        start: int | None = first
        stops = 0
        while start is not None:
            mask = found[start] if stops else None
            for _ in range(clicks):
                mask = _click(predictor, session, start, place, truth[start], mask)
            assert mask is not None
            found[start] = mask
            stops += 1
            begun, start = start, None
            for t, _, logits in predictor.propagate_in_video(session, begun):
                if t == begun:
                    continue
                found[t] = (logits[0, 0] > 0).cpu().numpy()
                if stops < frames and masks_iou(found[t], truth[t]) < POOR:
                    start = t
                    break
        scores.append(_score(clip, place, found, f"online {clicks} clicks", first, stops))
    return scores
