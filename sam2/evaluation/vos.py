"""Clips: following objects from one prompt, and correcting them in rounds or as the clip plays.

Semi-supervised: a mask, a box or clicks on the first frame that shows an object, then one pass forward.
Interactive (SAM 2, arXiv 2408.00714, section 6.1): offline, each round puts clicks on the frame that is
followed worst and tracks anew; online, one pass stops for clicks where an object is followed badly.

Many sets annotate some frames only (SA-V val: 6 of 24 a second). The tracker then sees all of them, as in the
published evaluations; the user sees, clicks and scores those that have a truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam2.close_tracker import CloseTracker
from sam2.data.clip import Clip
from sam2.evaluation.clicks import boxes_of, masks_iou, next_clicks
from sam2.evaluation.jf import object_jf
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.video import open_video

BoolMasks = NDArray[np.bool_]
PROMPTS = ("mask", "box", "1 click", "3 clicks", "5 clicks")
POOR = 0.75
"""IoU under which the online user stops for clicks."""


@dataclass(frozen=True)
class Footage:
    """What the tracker sees of a clip, and where in it the clip's own frames are."""

    frames: Any
    """What `init_state` takes."""
    annotated: Sequence[int]
    """The numbers of the clip's frames among those."""
    places: dict[int, int] = field(init=False)
    """The other way round."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", {number: t for t, number in enumerate(self.annotated)})


def footage_of(clip: Clip) -> Footage:
    """The clip's own frames and no other."""
    return Footage(list(clip.frames), range(len(clip)))


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


def is_scored(clip: Clip, place: int) -> bool:
    """Whether an object shows between the first and the last annotated frame, which do not count."""
    return bool(clip.masks[1:-1, place].any())


def _tracked(
    predictor: SAM2VideoPredictor, session: Any, seen: Footage, first: int
) -> Iterator[tuple[int, list[int], torch.Tensor]]:
    """Tracking from the clip's frame `first` on, at the frames that the clip has."""
    for number, ids, logits in predictor.propagate_in_video(session, seen.annotated[first]):
        if number in seen.places:
            yield seen.places[number], ids, logits


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


def _whole(
    predictor: SAM2VideoPredictor, seen: Footage, first: int, truths: dict[int, BoolMasks], kind: str
) -> Iterator[tuple[int, list[int], torch.Tensor]]:
    """Objects that are first shown on the clip's frame `first`, followed in frames seen whole."""
    session = predictor.init_state(seen.frames)
    for place, truth in truths.items():
        _prompt(predictor, session, seen.annotated[first], place, truth, kind)
    yield from _tracked(predictor, session, seen, first)


def _closely(
    predictor: SAM2VideoPredictor, seen: Footage, first: int, truths: dict[int, BoolMasks], kind: str
) -> Iterator[tuple[int, list[int], torch.Tensor]]:
    """The same, each object seen from near."""
    number = seen.annotated[first]
    with open_video(seen.frames) as video, CloseTracker(predictor, video) as tracker:
        for place, truth in truths.items():
            if kind == "mask":
                tracker.prompt(number, place, mask=truth)
            elif kind == "box":
                tracker.prompt(number, place, box=boxes_of(truth[None])[0])
            else:
                found = None
                for _ in range(int(kind.split()[0])):
                    coords, labels = next_clicks(truth[None], None if found is None else found[None])
                    shown = tracker.prompt(
                        number, place, points=coords[0], labels=labels[0], clear_old_points=False
                    )
                    found = shown.masks[shown.obj_ids.index(place)].cpu().numpy()
        for result in tracker.propagate(number):
            if result.frame_idx in seen.places:
                yield seen.places[result.frame_idx], result.obj_ids, result.logits


def follow(
    predictor: SAM2VideoPredictor,
    clip: Clip,
    prompt: str = "mask",
    footage: Footage | None = None,
    exclusive: bool = False,
) -> tuple[list[ClipScore], BoolMasks]:
    """Semi-supervised: each object is prompted on the first frame that shows it and followed from there on.

    prompt: one of PROMPTS; footage: `footage_of(clip)` where it is not given; exclusive: a pixel goes to the
    one object that claims it most. Objects that appear together are tracked together; where the model zooms,
    each in a window of its own. Returns scores of the objects that show between the first and the last frame,
    and all masks bool [T, N, H, W].
    """
    if prompt not in PROMPTS:
        raise ValueError(f"unknown prompt {prompt!r}; give one of {', '.join(PROMPTS)}")
    firsts = _first_frames(clip)
    found = np.zeros_like(clip.masks)
    seen = footage or footage_of(clip)
    streams = {}
    for first in sorted(set(firsts.values())):
        truths = {n: clip.masks[first, n] for n, frame in firsts.items() if frame == first}
        followed = _closely if predictor.zoom else _whole
        streams[first] = followed(predictor, seen, first, truths, prompt)
    for t in range(len(clip)):
        answers = [next(stream) for first, stream in streams.items() if first <= t]
        if answers:
            places = [place for _, ids, _ in answers for place in ids]
            logits = torch.cat([logits[:, 0] for _, _, logits in answers])
            masks = logits > 0
            if exclusive:
                masks &= logits == logits.amax(dim=0)
            found[t, places] = masks.cpu().numpy()
    scores = [_score(clip, n, found[:, n], prompt, firsts[n], 1) for n in firsts if is_scored(clip, n)]
    return scores, found


class _Corrected:
    """One object of a clip, followed by itself and corrected by clicks."""

    def __init__(
        self, predictor: SAM2VideoPredictor, clip: Clip, seen: Footage, place: int, first: int
    ) -> None:
        """place: of the object in the clip; first: the first frame that shows it."""
        self.predictor, self.clip, self.seen = predictor, clip, seen
        self.place, self.first = place, first
        self.truth: BoolMasks = clip.masks[:, place]
        self.found: BoolMasks = np.zeros_like(self.truth)
        self.session = predictor.init_state(seen.frames)
        self.clicked: list[int] = []

    def click(self, frame: int, clicks: int) -> None:
        """The user's clicks on a frame, on what was found there so far."""
        mask = self.found[frame] if self.clicked else None
        for _ in range(clicks):
            number = self.seen.annotated[frame]
            mask = _click(self.predictor, self.session, number, self.place, self.truth[frame], mask)
        assert mask is not None
        self.found[frame] = mask
        self.clicked.append(frame)

    def follow(self, start: int) -> Iterator[int]:
        """Tracks from a frame on; yields each later one when its mask is found."""
        for t, _, logits in _tracked(self.predictor, self.session, self.seen, start):
            if t != start:
                self.found[t] = (logits[0, 0] > 0).cpu().numpy()
                yield t

    def ious(self, frames: list[int]) -> NDArray[np.float64]:
        return masks_iou(self.found[frames], self.truth[frames])

    def score(self, prompt: str) -> ClipScore:
        return _score(self.clip, self.place, self.found, prompt, self.first, len(self.clicked))


def _one_by_one(predictor: SAM2VideoPredictor, clip: Clip, footage: Footage | None) -> Iterator[_Corrected]:
    """The clip's objects that are scored, each in a session of its own."""
    seen = footage or footage_of(clip)
    for place, first in _first_frames(clip).items():
        if is_scored(clip, place):
            yield _Corrected(predictor, clip, seen, place, first)


def correct_offline(
    predictor: SAM2VideoPredictor,
    clip: Clip,
    rounds: int = 8,
    clicks: int = 3,
    footage: Footage | None = None,
) -> list[ClipScore]:
    """Each round puts clicks on the frame with the lowest IoU, then tracks the whole clip again.

    Objects are followed one by one. Returns a score an object and round, `frames` counting the rounds.
    """
    scores: list[ClipScore] = []
    for one in _one_by_one(predictor, clip, footage):
        frame = one.first
        for _ in range(rounds):
            one.click(frame, clicks)
            for _ in one.follow(one.first):
                pass
            scores.append(one.score(f"offline {clicks} clicks"))
            left = [t for t in range(one.first, len(clip)) if t not in one.clicked]
            if not left:
                break
            frame = left[int(one.ious(left).argmin())]
    return scores


def correct_online(
    predictor: SAM2VideoPredictor,
    clip: Clip,
    frames: int = 8,
    clicks: int = 3,
    footage: Footage | None = None,
) -> list[ClipScore]:
    """One pass forward that stops for clicks where the IoU falls below 0.75, on up to so many frames.

    Masks count as they stood when the pass left their frame. Objects are followed one by one.
    """
    scores: list[ClipScore] = []
    for one in _one_by_one(predictor, clip, footage):
        poor: int | None = one.first
        while poor is not None:
            one.click(poor, clicks)
            more = len(one.clicked) < frames
            poor = next((t for t in one.follow(poor) if more and one.ious([t])[0] < POOR), None)
        scores.append(one.score(f"online {clicks} clicks"))
    return scores
