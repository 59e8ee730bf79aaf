"""Real clips: objects outlined on some frames, followed from one prompt by SAM 2, or by optical flow.

The outlines (`real_clips.json`) were drawn by hand as those of `sam2.evaluation.real`; they too are only for
judging. The user prompts the first outlined frame; the others are scored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2.close_tracker import CloseTracker
from sam2.evaluation.classical import opencv
from sam2.evaluation.clicks import BoolMasks, Segmenter, boxes_of, masks_iou, next_clicks
from sam2.evaluation.real import MEDIA, BoolMask, Outline
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.video import VideoReader, open_video

PROMPTS = ("box", "click_1")


@dataclass(frozen=True)
class Track:
    """One object of one clip."""

    clip: str
    name: str
    note: str
    """What belongs to it."""
    outlines: Mapping[int, Outline]
    """By frame, in order; no polygon where the object is out of view. The first shows it."""


@dataclass(frozen=True)
class Followed:
    """How well one tool followed one object from one prompt."""

    tool: str
    clip: str
    object: str
    prompt: str
    ious: Mapping[int, float]
    """By frame; that of the prompt is the first."""

    @property
    def j(self) -> float:
        """Mean IoU of the outlined frames after the prompt's."""
        return float(np.mean(list(self.ious.values())[1:]))


def read_tracks(path: Path | None = None) -> list[Track]:
    """The outlined tracks, those that this package brings unless a file is named."""
    file = path or resources.files("sam2.evaluation") / "real_clips.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return [
        Track(
            o["clip"],
            o["name"],
            o["note"],
            {int(n): Outline.read(outline) for n, outline in o["frames"].items()},
        )
        for o in content["objects"]
    ]


def present(tracks: Sequence[Track], media: Path = MEDIA) -> dict[Path, list[Track]]:
    """Tracks by clip, of the clips that are on this machine."""
    found: dict[Path, list[Track]] = {}
    for track in tracks:
        if (media / track.clip).exists():
            found.setdefault(media / track.clip, []).append(track)
    return found


def follow_with_model(
    tool: str, predictor: SAM2VideoPredictor, clip: Path, tracks: Sequence[Track]
) -> Iterator[Followed]:
    """Each track from its box and from one click, all in one pass; from near where the model zooms."""
    asked = [(track, prompt) for prompt in PROMPTS for track in tracks]
    with open_video(clip) as video:
        size = video.height, video.width
        truths = [{t: o.mask(size) for t, o in track.outlines.items()} for track, _ in asked]
        prompts = [(prompt, *next(iter(truth.items()))) for (_, prompt), truth in zip(asked, truths)]
        masks = _followed_closely if predictor.zoom else _followed_whole
        ious: list[dict[int, float]] = [{} for _ in asked]
        for frame, shown in masks(predictor, video, prompts):
            for place, truth in enumerate(truths):
                if frame in truth and frame >= prompts[place][1]:
                    ious[place][frame] = float(masks_iou(shown[place], truth[frame]))
    for (track, prompt), by_frame in zip(asked, ious):
        yield Followed(tool, track.clip, track.name, prompt, by_frame)


Prompts = Sequence[tuple[str, int, BoolMask]]
"""Of each object: the kind of prompt, its frame, and the mask that it points at."""


def _pointed(kind: str, mask: BoolMask) -> dict[str, Any]:
    if kind == "box":
        return {"box": boxes_of(mask[None])[0]}
    coords, labels = next_clicks(mask[None], None)
    return {"points": coords[0], "labels": labels[0]}


def _followed_whole(
    predictor: SAM2VideoPredictor, video: VideoReader, prompts: Prompts
) -> Iterator[tuple[int, BoolMasks]]:
    """(frame, masks [N, H, W]); frames are seen whole."""
    with predictor.init_state(video) as session:
        for place, (kind, first, mask) in enumerate(prompts):
            predictor.add_new_points_or_box(session, first, place, **_pointed(kind, mask))
        for frame, _, logits in predictor.propagate_in_video(session):
            yield frame, (logits[:, 0] > 0).cpu().numpy()


def _followed_closely(
    predictor: SAM2VideoPredictor, video: VideoReader, prompts: Prompts
) -> Iterator[tuple[int, BoolMasks]]:
    """(frame, masks [N, H, W]); each object is seen in a window of its own."""
    with CloseTracker(predictor, video) as tracker:
        for place, (kind, first, mask) in enumerate(prompts):
            tracker.prompt(first, place, **_pointed(kind, mask))
        for result in tracker.propagate():
            yield result.frame_idx, result.masks.cpu().numpy()


def follow_with_flow(
    tools: Mapping[str, Segmenter], clip: Path, tracks: Sequence[Track], longest: int = 640
) -> Iterator[Followed]:
    """The mask that each tool makes of the first frame, carried by dense optical flow (OpenCV's DIS, medium).

    longest: side in pixels to which frames are reduced for the flow.
    """
    carried: list[_Carried] = []
    flow: _Flow | None = None
    with open_video(clip) as video:
        for number, frame in enumerate(video):
            flow = flow or _Flow(frame.shape[:2], longest)
            back = flow.back(frame)
            for one in carried:
                one.mask = back(one.mask)
            for tool, segmenter in tools.items():
                carried += _started(tool, segmenter, frame, number, tracks, flow)
            for one in carried:
                if number in one.track.outlines:
                    truth = one.track.outlines[number].mask(frame.shape[:2])
                    one.ious[number] = float(masks_iou(flow.full(one.mask), truth))
    for one in carried:
        yield Followed(f"{one.tool} + flow", one.track.clip, one.track.name, one.prompt, one.ious)


@dataclass
class _Carried:
    """A mask on its way."""

    tool: str
    track: Track
    prompt: str
    mask: NDArray[np.float32]
    """[h, w] of the reduced frame, 0 to 1."""
    ious: dict[int, float] = field(default_factory=dict)


def _started(
    tool: str,
    segmenter: Segmenter,
    frame: NDArray[np.uint8],
    number: int,
    tracks: Sequence[Track],
    flow: _Flow,
) -> Iterator[_Carried]:
    """First masks of the tracks that begin on this frame."""
    starting = [track for track in tracks if next(iter(track.outlines)) == number]
    if starting:
        segmenter.set_image(frame)
    for track in starting:
        truth = track.outlines[number].mask(frame.shape[:2])[None]
        boxed, clicked = segmenter.boxes(boxes_of(truth)), segmenter.clicks(*next_clicks(truth, None), None)
        for prompt, guess in zip(PROMPTS, (boxed, clicked)):
            yield _Carried(tool, track, prompt, flow.reduced(guess.chosen[0]))


class _Flow:
    """Optical flow from each frame to the one before, at a reduced size."""

    def __init__(self, size: tuple[int, ...], longest: int) -> None:
        """size: (height, width) of the frames."""
        self.cv2 = opencv()
        scale = min(1.0, longest / max(size))
        self.size = size
        self.small = round(size[1] * scale), round(size[0] * scale)
        self.grid = np.stack(np.meshgrid(*map(np.arange, self.small)), axis=-1).astype(np.float32)
        self.method = self.cv2.DISOpticalFlow_create(self.cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.before: NDArray[np.uint8] | None = None

    def back(self, frame: NDArray[np.uint8]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """What moves a reduced mask from the frame before to this one."""
        grey = self.cv2.resize(self.cv2.cvtColor(frame, self.cv2.COLOR_RGB2GRAY), self.small)
        before, self.before = self.before, grey
        if before is None:
            return lambda mask: mask
        source = self.grid + self.method.calc(grey, before, None)
        return lambda mask: self.cv2.remap(mask, source, None, self.cv2.INTER_LINEAR)

    def reduced(self, mask: BoolMask) -> NDArray[np.float32]:
        """float [h, w] of a mask of full size."""
        small: NDArray[np.float32] = self.cv2.resize(mask.astype(np.float32), self.small)
        return small

    def full(self, mask: NDArray[np.float32]) -> BoolMask:
        """bool [H, W] of a reduced mask."""
        large: BoolMask = self.cv2.resize(mask, self.size[1::-1]) > 0.5
        return large
