"""Runs through a video: in either direction or both, cut short where nothing changes, or fused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sam2.memory.shelf import Shelf
from sam2.tracking.engine import TrackingEngine
from sam2.tracking.results import FrameResult
from sam2.tracking.session import VideoSession
from sam2.tracking.track import ObjectMask, ObjectTrack

Direction = Literal["forward", "backward", "both"]


@dataclass(frozen=True)
class FusedResult:
    """Masks made of a forward and a backward pass."""

    result: FrameResult
    disagreement: Tensor
    """1 - IoU of the two passes' masks, float [N]; 0 where only one pass reached the object."""


def mask_iou(one: Tensor, other: Tensor) -> float:
    """Intersection over union of two masks given as logits; two empty ones are equal."""
    a, b = one > 0, other > 0
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def first_prompted(session: VideoSession) -> int:
    """The earliest frame that conditions any object (0 where that lies before the video)."""
    return max(0, min(min(t.bank.conditioning) for t in session.tracks.values()))


def planned(num_frames: int, start: int, limit: int | None, direction: Direction) -> list[tuple[range, bool]]:
    """(frames, reverse) of each run. `limit` counts the frames after the first, in each direction.

    Backwards from frame 0 there is nothing to do, as published.

    Raises:
        ValueError: no such direction, or a negative limit.
    """
    if direction not in ("forward", "backward", "both"):
        raise ValueError(f"direction is {direction!r}: say 'forward', 'backward' or 'both'")
    reach = num_frames if limit is None else limit
    if reach < 0:
        raise ValueError(f"max_frame_num_to_track is {limit}: it must be 0 or more, or None for all")
    forwards = range(start, min(start + reach, num_frames - 1) + 1)
    backwards = range(start, max(start - reach, 0) - 1, -1) if start else range(0)
    if direction == "forward":
        return [(forwards, False)]
    return [(backwards, True)] if direction == "backward" else [(forwards, False), (backwards[1:], True)]


def track_run(
    engine: TrackingEngine,
    session: VideoSession,
    frames: Sequence[int],
    reverse: bool,
    settled_frames: int = 0,
    settled_iou: float = 1.0,
) -> Iterator[FrameResult]:
    """Tracks through `frames`, and stops where a former pass's masks come back.

    Prompts that come meanwhile hold from the next frame on.

    Args:
        settled_frames: stop after so many frames in a row whose masks are as they were before; 0 to go
            on to the end. The rest of the former pass then stands.
        settled_iou: how equal masks must be to count as unchanged.
    """
    with session.reading_ahead(frames):
        yield from _tracked(engine, session, frames, reverse, settled_frames, settled_iou)


def _tracked(
    engine: TrackingEngine,
    session: VideoSession,
    frames: Sequence[int],
    reverse: bool,
    settled_frames: int,
    settled_iou: float,
) -> Iterator[FrameResult]:
    settled = 0
    for frame_idx in frames:
        engine.commit(session)
        former = [track.found.get(frame_idx) for track in session.tracks.values()] if settled_frames else []
        result = engine.track_frame(session, frame_idx, reverse)
        yield result
        if not settled_frames:
            continue
        prompted = any(frame_idx in track.bank.conditioning for track in session.tracks.values())
        same = len(former) == len(result.obj_ids) and all(
            mask is not None and mask_iou(mask.logits[0], now) >= settled_iou
            for mask, now in zip(former, result.low_res_logits.to(session.storage_device))
        )
        settled = settled + 1 if same and not prompted else 0
        if settled == settled_frames:
            return


def fuse(engine: TrackingEngine, session: VideoSession) -> Iterator[FusedResult]:
    """Tracks forwards and backwards, and blends the two passes between prompted frames.

    A mask between two prompted frames is the mean of both passes' logits, each weighted by its nearness to
    the prompt that it comes from. Before an object's first prompt and after its last, one pass stands. The
    blended masks stay in the session. Results come in order, once both passes are done.
    """
    prompted = {i: sorted(t.bank.conditioning) for i, t in session.tracks.items()}
    start = first_prompted(session)
    last = max(frames[-1] for frames in prompted.values())
    for _ in track_run(engine, session, range(start, session.num_frames), reverse=False):
        pass
    forwards = {i: _copied(session, track.found) for i, track in session.tracks.items()}
    for _ in track_run(engine, session, range(last, -1, -1), reverse=True):
        pass
    apart: dict[int, dict[int, float]] = defaultdict(dict)
    for obj_id, track in session.tracks.items():
        for frame_idx in range(last + 1):
            merged = _merged(track, prompted[obj_id], frame_idx, forwards[obj_id].get(frame_idx))
            if merged is not None:
                track.found[frame_idx], apart[frame_idx][obj_id] = merged
                track.found.put_away(lambda _: True)
        forwards[obj_id].clear()
    for frame_idx in range(session.num_frames):
        result = engine.result(session, frame_idx)
        scores = [apart.get(frame_idx, {}).get(obj_id, 0.0) for obj_id in result.obj_ids]
        yield FusedResult(result, torch.tensor(scores))


def _copied(session: VideoSession, found: Shelf[ObjectMask]) -> Shelf[ObjectMask]:
    """Masks by frame as they are now: a pass may revise its earlier frames until it ends."""
    kept = Shelf(ObjectMask)
    kept.attach(session.archive, session.storage_device)
    for frame_idx in found:
        kept[frame_idx] = found[frame_idx]
        kept.put_away(lambda _: True)
    return kept


def _merged(
    track: ObjectTrack, prompted: Sequence[int], frame_idx: int, forwards: ObjectMask | None
) -> tuple[ObjectMask, float] | None:
    """The blended mask and the disagreement of two passes; None where the frame was prompted."""
    backwards = track.found.get(frame_idx)
    if frame_idx in prompted or forwards is None or backwards is None:
        return None
    before = [t for t in prompted if t < frame_idx]
    after = [t for t in prompted if t > frame_idx]
    if not before or not after:
        return (forwards, 0.0) if before else (backwards, 0.0)
    share = (frame_idx - before[-1]) / (after[0] - before[-1])
    bound = 32.0  # absent objects have logits of -1024, which would outweigh any mask

    def blend(one: Tensor, other: Tensor) -> Tensor:
        return torch.lerp(one.clamp(-bound, bound), other.clamp(-bound, bound), share)

    mask = ObjectMask(
        blend(forwards.logits, backwards.logits),
        blend(forwards.predicted_iou, backwards.predicted_iou),
        blend(forwards.object_score_logits, backwards.object_score_logits),
    )
    return mask, 1 - mask_iou(forwards.logits, backwards.logits)


@dataclass(frozen=True)
class Suggestion:
    """A frame that a person should look at."""

    frame_idx: int
    obj_id: int
    score: float
    """How doubtful, 0 to 3: the sum of the three below."""
    low_iou: float
    """1 - predicted IoU."""
    unsure_presence: float
    """1 where the model cannot say whether the object is there, 0 where it is certain."""
    mask_change: float
    """1 - IoU with the mask of the frame before."""


def look_next(session: VideoSession, count: int = 5, spacing: int = 5) -> list[Suggestion]:
    """The most doubtful tracked frames, worst first.

    Args:
        count: at most so many.
        spacing: frames between suggestions for one object, and from its prompted frames.
    """
    doubts: list[Suggestion] = []
    with session.lock:
        near = {i: sorted(t.prompted_frames | t.bank.conditioning.keys()) for i, t in session.tracks.items()}
        for obj_id, track in session.tracks.items():
            before: Tensor | None = None
            for frame_idx in track.found:
                mask = track.found[frame_idx]
                presence = float(mask.object_score_logits.sigmoid())
                low_iou = 1 - float(mask.predicted_iou.clamp(0, 1))
                unsure = 1 - abs(2 * presence - 1)
                change = 0.0 if before is None else 1 - mask_iou(before, mask.logits)
                before = mask.logits
                score = low_iou + unsure + change
                doubts.append(Suggestion(frame_idx, obj_id, score, low_iou, unsure, change))
    chosen: list[Suggestion] = []
    for doubt in sorted(doubts, key=lambda d: -d.score):
        taken = near[doubt.obj_id]
        if len(chosen) < count and all(abs(doubt.frame_idx - t) >= spacing for t in taken):
            chosen.append(doubt)
            taken.append(doubt.frame_idx)
    return chosen
