"""One object followed from near: where it is looked for, and what is still taken for it.

Where the next window lies follows from the last mask; what a mask lets go and when the object is gone is
decided here as well, since a window that went after the wrong thing would not come back.

Shapes: H x W the video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sam2.close_details import Detail
from sam2.close_windows import ONLY, Following, OwnVideo, middle_of
from sam2.modeling.outputs import NO_OBJ_SCORE, FrameOutput
from sam2.tracking.pieces import close_together, gap_within
from sam2.tracking.results import FrameResult
from sam2.tracking.track import ObjectMask, ObjectTrack
from sam2.zoom import View, Window, Zoom, around, extent, paste, square

SHRUNK = 0.1
"""A mask below this share of the object's usual area is no longer the object."""
CARRIED = 0.3
"""Share of the object's usual area below which a carried mask has lost it, and the model's own is taken."""
BACK = (0.2, 3.0)
"""Bounds of the area with which an object comes back, as shares of its usual one."""
CALMING = 0.9
"""Share of an object's speed that is left a frame later, if it stands still then."""


@dataclass
class CloseObject(OwnVideo):
    """One object and its own video."""

    following: Following
    detail: Detail | None = None
    """The second look at it."""
    points: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Points [P, 2] in pixels of the video and labels [P] by prompted frame, for corrections."""
    lost: int = 0
    """Frames since the object was last seen."""
    area: float = 0.0
    """Pixels of the video that it usually covers; 0 where that is not known."""
    length: float = 0.0
    """The longer side of its box, pixels, as far as that is believed; 0 where it is not known."""
    last: tuple[int, np.ndarray] | None = None
    """The frame on which it was last seen, and its middle there, pixels."""
    speed: float = 0.0
    """Pixels a frame: the fastest of late."""
    looking_at: int = 0
    """The frame that is being tracked."""
    gone: bool = False
    """It was not seen on the frame before that."""
    own: View | None = None
    """What the model itself, by its memory, made of the frame that was tracked last."""
    glancing: bool = False
    """What is found now is looked at again from near before it is believed or remembered."""
    gaps: dict[ObjectMask, float] = field(default_factory=dict)
    """How far apart the pieces of each prompted mask lie; a corrected mask is another key."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return self.frames.reader.height, self.frames.reader.width

    def review(self, tracks: Sequence[ObjectTrack], out: FrameOutput) -> tuple[FrameOutput, list[bool]]:
        """The mask without what lies apart from the object, or none where that can hardly be the object; then
        the frame is not remembered."""
        how = self.following
        window = self.frames.window(self.looking_at)
        pixels = window.size[0] * window.size[1]
        score, presence = float(out.ious.max()), float(out.object_score_logits)
        self.own = View(window, out.low_res_masks[0, 0], score, presence)
        if how.carries and not self.gone and presence > 0:
            carried = self.redrawn(self.looking_at, out.low_res_masks[0, 0], score)
            if float((carried > 0).float().mean()) * pixels >= CARRIED * self.area:
                out = replace(out, low_res_masks=carried[None, None])
        out = replace(out, low_res_masks=close_together(out.low_res_masks, self.gap()))
        area = float((out.low_res_masks > 0).float().mean()) * pixels
        if self.gone:
            low, high = BACK
            like = not self.area or low < area / self.area < high
            seen = presence > 0 and score > how.sure and like
        else:
            seen = presence > 0 and area >= SHRUNK * self.area
        if seen and self.glancing:
            return out, [False]
        if seen:
            self.area += 0.05 * (area - self.area)
            self.keep(self.looking_at, out.low_res_masks[0, 0])
            return out, [True]
        absent = torch.full_like(out.low_res_masks, NO_OBJ_SCORE)
        below = -out.object_score_logits.abs() - 0.1  # 0 is not yet absent
        return replace(out, low_res_masks=absent, object_score_logits=below), [False]

    def gap(self) -> float:
        """How far apart pieces of the object may lie: at least as far as those of its prompts, which are
        labelled once a mask, since every frame asks."""
        track = self.session.tracks[ONLY]
        prompted = [track.found[t] for t in track.bank.conditioning if t in track.found]
        known = self.gaps
        self.gaps = {
            mask: known[mask] if mask in known else gap_within(mask.logits[0, 0] > 0) for mask in prompted
        }
        return max(self.following.max_gap, *self.gaps.values())

    def prompted(self, frame_idx: int, mask: np.ndarray) -> None:
        """Learns from the mask of a prompt, bool [H, W], where the object is and how large."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        self.area = float(mask.sum())
        if len(rows):
            self.length = float(max(np.ptp(rows), np.ptp(columns)) + 1)
            self.last = frame_idx, np.array([columns[0] + columns[-1] + 1, rows[0] + rows[-1] + 1]) / 2

    def seen_at(self, frame_idx: int, middle: np.ndarray) -> None:
        """Learns the speed from frames next to each other."""
        if self.last is not None and abs(self.last[0] - frame_idx) == 1:
            way = float(np.hypot(*(middle - self.last[1])))
            self.speed = max(way, CALMING * self.speed)
        self.last = frame_idx, middle

    def next_window(self, before: FrameResult) -> Window:
        """Where to look on the next frame."""
        view, how = self.view(before), self.following
        window, box = view.window, extent(view)
        side = float(max(window.size))
        if box is None or view.presence <= 0:
            self.lost += 1
            return window if self.lost <= how.patience else self._search(self.lost - how.patience - 1)
        self.lost = 0
        middle, longer = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        known = self.length or longer
        self.length = float(np.clip(longer, known / how.pace, known * how.pace))
        self.seen_at(before.frame_idx, middle)
        widest = max(how.widest, how.margin) * longer
        wanted = max(min(how.margin * longer + how.lead * self.speed, widest), how.smallest)
        off = np.abs(middle - middle_of(window)).max()
        if 1 / how.change < wanted / side < how.change and off < how.drift * side:
            return window
        side = float(np.clip(wanted, side / how.pace, side * how.pace))
        return square(float(middle[0]), float(middle[1]), side, self.size)

    def _search(self, turn: int) -> Window:
        """Where to look for the lost object: where it was last seen, and in between everywhere in turn.

        The windows are hardly wider than usual, since memory knows the object by the size at which it was
        seen: in a whole frame it takes larger things for it.
        """
        how = self.following
        if self.last is None:  # prompted as an empty mask
            return Window(0, 0, self.size[1], self.size[0])
        x, y = map(float, self.last[1])
        side = max(how.wider * how.margin * self.length, how.smallest, max(self.size) / how.most)
        if turn % 2 == 0:
            return square(x, y, side, self.size)
        places = tiles(side, self.size)
        places.sort(key=lambda w: math.dist(middle_of(w), (x, y)))
        return places[turn // 2 % len(places)]

    def nearer_window(self, found: FrameResult) -> Window:
        """Where to look again at an object that seems to be back: as near as it usually is seen."""
        view, how = self.view(found), self.following
        box = extent(view)
        side = max(how.margin * self.length, how.smallest)
        if box is None or not self.length or max(view.window.size) < how.change * side:
            return view.window
        x, y = (box[:2] + box[2:]) / 2
        return square(float(x), float(y), side, self.size)

    def window_for_prompt(self, frame_idx: int, mask: np.ndarray, box: Any) -> Window:
        """Where to look on a prompted frame: as before, where that holds all of what is due.

        That is around its mask bool [H, W], around the box where the mask is empty, and the whole frame
        without one.
        """
        due = self._around(mask, box)
        if frame_idx in self.frames.windows and self.session.tracks:
            before = self.frames.window(frame_idx)
            return before if _holds(before, due) else due
        return due

    def _around(self, mask: np.ndarray, box: Any) -> Window:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        elif box is None:
            return Window(0, 0, self.size[1], self.size[0])
        flat = np.asarray(box, np.float32).reshape(-1)
        return around(flat, self.following.margin, self.size, self.following.smallest)

    def mask_on(self, frame_idx: int) -> np.ndarray | None:
        """The object's latest mask on a frame, bool [H, W]; None where it has none."""
        view = self.drawn(frame_idx) or self.latest(frame_idx)
        return None if view is None else (paste(view, self.size, None, Zoom()) > 0).cpu().numpy()

    def shown(self, result: FrameResult) -> View:
        """The object's mask on a frame of its own video, as it is drawn."""
        return self.drawn(result.frame_idx) or self.view(result)

    def drawn(self, frame_idx: int) -> View | None:
        """What the second look saw on a frame, None where there was none."""
        return None if self.detail is None else self.detail.latest(frame_idx)

    def view(self, result: FrameResult) -> View:
        """The object's mask on a frame of its own video."""
        return View(
            self.frames.window(result.frame_idx),
            result.low_res_logits[0, 0].float(),
            float(result.predicted_iou[0]),
            float(result.object_score_logits[0]),
        )


def tiles(side: float, size: tuple[int, int]) -> list[Window]:
    """Squares of `side` pixels that cover a picture of (height, width), each a third over its neighbours."""
    middles = []
    for limit in size:
        span = min(side, limit)
        count = 1 + math.ceil((limit - span) / (span * 2 / 3))
        middles.append(np.linspace(span / 2, limit - span / 2, count).tolist())
    return [square(x, y, side, size) for y in middles[0] for x in middles[1]]


def _holds(window: Window, other: Window) -> bool:
    return window.x0 <= other.x0 and window.y0 <= other.y0 and window.x1 >= other.x1 and window.y1 >= other.y1
