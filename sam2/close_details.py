"""A second look at a followed object, from nearer than the first, once its place on a frame is known.

From wide windows the model tells an object from its like; from near ones it sees where it ends. So each
object is seen twice a frame: the first look (`sam2.close_object`) follows it and decides whether it is there,
and a second one draws it, by correspondence with the frames before (`sam2.close_labels`) and by what the
model makes of the frame. Where both differ much, the first has the last word.

Shapes: s the side of low-resolution logits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sam2.close_labels import Labels, mask_iou
from sam2.close_windows import ONLY, Following, OwnVideo, Windows, as_seen, middle_of
from sam2.tracking.engine import TrackingEngine
from sam2.tracking.pieces import close_together
from sam2.tracking.prompting import ObjectPrompt
from sam2.tracking.session import VideoSession
from sam2.tracking.track import ObjectMask
from sam2.zoom import View, Window, around, extent, moved, square

SMALLEST = 48
"""Side of the smallest window, pixels."""
DRIFT, CHANGE, PACE = 0.08, 1.2, 1.1
"""As `Following.drift`, `change` and `pace`, for these windows."""
ALIKE = 0.7
"""IoU with the carried mask from which on the one that the model read from memory has a say."""
SUREST = 10.0
"""Logits of a mask, when it is drawn, are no further from 0 than this."""


class Detail(OwnVideo):
    """One object seen from nearer.

    Invariant: a frame has a mask here only where the first look shows the object.
    """

    def __init__(self, session: VideoSession, frames: Windows, labels: Labels, following: Following) -> None:
        super().__init__(session, frames, labels)
        self.following = following
        self._last: int | None = None
        self._length = 0.0

    def prompt(self, engine: TrackingEngine, frame_idx: int, mask: np.ndarray) -> None:
        """Takes the mask bool [H, W] of a prompt, which may be empty."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        height, width = mask.shape
        window = Window(0, 0, width, height)
        if len(rows):
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            window = around(box, self.following.detail, (height, width), SMALLEST)
        self.look_at(frame_idx, window)
        seen = as_seen(mask, window, self.frames.image_size)
        engine.ask(self.session, frame_idx, ObjectPrompt(ONLY, mask=seen))
        self.point_out(frame_idx, seen)

    def follow(
        self, engine: TrackingEngine, frame_idx: int, first: View, own: View, gap: float, reverse: bool
    ) -> None:
        """Draws the object on a frame on which the first look found it, or not.

        Args:
            first: what that saw.
            own: what the model itself, by its memory, made of that.
            gap: how far apart pieces of its mask may lie, as `close_together` takes it.
        """
        engine.commit(self.session)
        track = self.session.tracks[ONLY]
        box = extent(first) if first.presence > 0 else None
        if box is None:
            if frame_idx not in track.bank.conditioning:
                track.forget_frame(frame_idx)
            return
        longer = float((box[2:] - box[:2]).max())
        goes_on = self._last is not None and abs(self._last - frame_idx) == 1
        known = self._length if goes_on else longer
        self._length = float(np.clip(longer, known / PACE, known * PACE))
        if frame_idx not in track.bank.conditioning:
            self.look_at(frame_idx, self._window(frame_idx, (box[:2] + box[2:]) / 2, goes_on))
            self.reverse = reverse
            logits = self._drawn(engine, frame_idx, first, own, gap)
            track.found[frame_idx] = ObjectMask(
                logits[None, None].to(self.session.storage_device),
                torch.full((1,), first.score, device=self.session.storage_device),
                torch.full((1, 1), first.presence, device=self.session.storage_device),
            )
            put_away = track.put_away if self.session.storage.history == "all" else track.drop
            reach = engine.policy(self.session).horizon()
            put_away(lambda t: abs(t - frame_idx) > reach)
        self._last = frame_idx

    def _window(self, frame_idx: int, middle: np.ndarray, goes_on: bool) -> Window:
        """Around the object, or the one of the frame before while that shows it well."""
        side = max(self.following.detail * self._length, SMALLEST)
        if goes_on and self._last is not None:
            before = self.frames.window(self._last)
            had = float(max(before.size))
            off = np.abs(middle - middle_of(before)).max()
            if 1 / CHANGE < side / had < CHANGE and off < DRIFT * had:
                return before
        size = self.frames.reader.height, self.frames.reader.width
        return square(float(middle[0]), float(middle[1]), side, size)

    def _drawn(self, engine: TrackingEngine, frame_idx: int, first: View, own: View, gap: float) -> Tensor:
        """The mask that frames near by make where it is much like the first look's, else that one; and its
        mean with what the model makes of the frame, unless that is empty; logits [s, s].

        What is carried drifts, and ends where cells end. So three are heard: that, what the decoder makes of
        it and its box from near, and what memory made of the first look, if that is much the same thing.
        """
        window = self.frames.window(frame_idx)
        known = moved(first, window)
        carried: Tensor = close_together(self.redrawn(frame_idx, known, first.score)[None, None], gap)[0, 0]
        if mask_iou(carried > 0, known > 0) < self.following.agreement:
            carried = known
        self.keep(frame_idx, carried)
        opinions = [carried, self._outlined(engine, frame_idx, carried)]
        remembered = moved(own, window)
        if mask_iou(remembered > 0, carried > 0) >= ALIKE:
            opinions.append(remembered)
        mean = torch.stack(opinions).clamp(-SUREST, SUREST).mean(0)
        drawn: Tensor = close_together(mean[None, None], gap)[0, 0]
        return drawn if bool((drawn > 0).any()) else carried

    def _outlined(self, engine: TrackingEngine, frame_idx: int, mask: Tensor) -> Tensor:
        """What the decoder, without memory, makes of a mask and its box; logits [s, s]."""
        side = self.frames.image_size
        box = extent(View(Window(0, 0, side, side), mask, 1.0, 1.0))
        if box is None:
            return mask
        points = {
            "point_coords": torch.from_numpy(box).view(1, 2, 2).to(mask.device),
            "point_labels": torch.tensor([[2, 3]], dtype=torch.int32, device=mask.device),
        }
        features = engine.features(self.session, frame_idx)
        asked = engine.steps.prompt(features, None, points, prev_logits=mask[None, None])
        return asked.low_res_masks[0, 0] if float(asked.object_score_logits) > 0 else mask
