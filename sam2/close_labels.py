"""What an object covers, carried from window to window by correspondence (`sam2.tracking.correspondence`).

Shapes: S the model's input size, s the side of low-resolution logits, C channels, n x n the cells of a
window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sam2.modeling.outputs import FrameFeatures
from sam2.tracking.correspondence import Source, carry, describe, leap, principal, reduced
from sam2.zoom import Window, seen_from

REACH = 6
"""How many cells of a window things move at most from frame to frame, but for leaps: a tenth of its side."""
RECENT = 2
"""So many of the last frames are compared with, beside a prompted one."""
AGES = 8
"""Frames after which one is no longer compared with; a prompted one is as long as later ones are known."""
CONTRAST = 10.0
"""Logits are the share of an object in a cell, less a half, times this."""
AGREED, SURE = 0.6, 0.8
"""After a leap the mask that was found otherwise is the sharper one: it is believed from this IoU with the
carried one, and this predicted IoU, on."""


@dataclass(frozen=True)
class _Marked:
    """A window and what of it is the object."""

    window: Window
    labels: Tensor
    """Shares of the object, 0 to 1, float [n, n]."""


@dataclass(frozen=True)
class _Seen(_Marked):
    cells: Tensor
    """Float [C, n, n]."""

    def source(self, window: Window, moved: tuple[int, int] = (0, 0)) -> Source:
        """As another window would show it, had it moved by so many cells to the right and down."""
        n = self.labels.shape[-1]
        if window == self.window and moved == (0, 0):
            return Source(self.cells, self.labels)
        where = seen_from(self.window, window, n, self.labels.device)
        height, width = self.window.size
        wide, high = window.x1 - window.x0, window.y1 - window.y0
        where = where - 2 / n * where.new_tensor([moved[0] * wide / width, moved[1] * high / height])
        cells, labels = (
            F.grid_sample(layer[None], where, align_corners=False)[0]
            for layer in (self.cells, self.labels[None])
        )
        return Source(cells, labels[0])


class Labels:
    """The labels of one object on the frames that the next one is compared with.

    These are the nearest prompted frame and the last ones before (in a backward pass, after) the one asked
    for.

    Args:
        features: those of a frame, as its window shows it.
    """

    def __init__(self, features: Callable[[int], FrameFeatures]) -> None:
        self._features = features
        self._prompted: dict[int, _Marked] = {}
        self._recent: dict[int, _Seen] = {}
        self._cells: tuple[int, Window, Tensor] | None = None
        """Of the frame that was last described."""
        self._directions: Tensor | None = None
        """In which cells are told apart since the last prompt: those of its frame, float [C, K]."""
        self._nearest: tuple[int, _Seen] | None = None
        """The prompted frame that was last compared with."""

    def prompted(self, frame_idx: int, window: Window, mask: Tensor) -> None:
        """Takes the mask of a prompt, bool [S, S] as the window shows it; what was tracked before is
        forgotten."""
        self._directions = self._cells = None
        cells = self._described(frame_idx, window)
        labels = F.adaptive_avg_pool2d(mask[None].float(), cells.shape[-1])[0]
        self._prompted[frame_idx] = _Marked(window, labels)
        self._nearest = frame_idx, _Seen(window, labels, cells)
        self._recent.clear()

    def found(self, frame_idx: int, window: Window, logits: Tensor) -> None:
        """Takes the mask of a tracked frame, logits [s, s]."""
        cells = self._described(frame_idx, window)
        labels = F.adaptive_avg_pool2d((logits[None] / CONTRAST + 0.5).clamp(0, 1), cells.shape[-1])[0]
        self._recent[frame_idx] = _Seen(window, labels, cells)
        for far in sorted(self._recent, key=lambda t: abs(t - frame_idx))[RECENT:]:
            del self._recent[far]

    def redrawn(self, frame_idx: int, window: Window, own: Tensor, score: float, reverse: bool) -> Tensor:
        """The mask that frames near by make on a frame, logits [s, s]; `own` where none is known.

        Args:
            own: the mask that was found otherwise, logits [s, s], and its predicted IoU, `score`.
            reverse: the pass goes backwards.
        """
        ages = {t: t - frame_idx if reverse else frame_idx - t for t in (*self._prompted, *self._recent)}
        since = min((ages[t] for t in self._prompted if ages[t] > 0), default=AGES)
        recent = [t for t in self._recent if 0 < ages[t] <= min(since, AGES)]
        nearest = min(self._prompted, key=lambda t: (abs(ages[t]), -ages[t]), default=None)
        if not recent and (nearest is None or abs(nearest - frame_idx) > AGES):
            return own
        cells = self._described(frame_idx, window)
        seen = {t: self._recent[t] for t in recent}
        if nearest is not None:
            seen[nearest] = self._prompted_seen(nearest)
        shown = {t: one.source(window) for t, one in seen.items()}
        last = min(seen, key=lambda t: abs(t - frame_idx))
        moved = leap(cells, shown[last])
        sources = list(shown.values())
        if moved != (0, 0):
            sources.append(seen[last].source(window, moved))
        logits = (carry(cells, sources, REACH) - 0.5)[None, None] * CONTRAST
        carried = F.interpolate(logits, own.shape, mode="bilinear", align_corners=False)[0, 0].to(own)
        agreed = score >= SURE and mask_iou(own > 0, carried > 0) >= AGREED
        return own if moved != (0, 0) and agreed else carried

    def _prompted_seen(self, frame_idx: int) -> _Seen:
        if self._nearest is None or self._nearest[0] != frame_idx:
            marked = self._prompted[frame_idx]
            cells = self._cells_of(frame_idx)
            self._nearest = frame_idx, _Seen(marked.window, marked.labels, cells)
        return self._nearest[1]

    def _described(self, frame_idx: int, window: Window) -> Tensor:
        if self._cells is None or self._cells[:2] != (frame_idx, window):
            self._cells = frame_idx, window, self._cells_of(frame_idx)
        return self._cells[2]

    def _cells_of(self, frame_idx: int) -> Tensor:
        cells = describe(self._features(frame_idx))
        if self._directions is None:
            self._directions = principal(cells)
        return reduced(cells, self._directions)


def mask_iou(a: Tensor, b: Tensor) -> float:
    """Of two masks, bool of equal shape; 0 where both are empty."""
    return float((a & b).sum() / (a | b).sum().clamp(min=1))
