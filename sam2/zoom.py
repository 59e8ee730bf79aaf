"""Looking again: a crop of the picture in which the object fills the model's input.

Of an object that covers a hundredth of a picture a small model sees a few cells. So a predictor that zooms
asks the model about crops: around a box, or around the mask so far, with a margin. For a first click, which
does not say how large the object is, it asks about ever smaller crops around the click and takes the mask
that the others agree with most; then it looks twice more around that one.

Shapes: N points of an object, C masks an answer offers, s the side of low-resolution logits (a quarter of the
model's input).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OUTSIDE = -10.0
"""Logit of what lies outside a crop."""
GRID = 256
"""Side of the grid on which masks of different crops are compared."""
ALIKE = 0.8
"""Of masks whose IoU is above this only the better is offered."""
EDGE_COST = 0.5
"""What a candidate that is cut off along whole sides of its crop loses of its weight, a side."""
CUT = 0.1
"""A mask that covers more than this of a side on which the picture goes on is cut off by its crop."""


class Window(NamedTuple):
    """Part of a picture: pixels x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Which points [N, 2] lie in it, bool [N]."""
        return np.asarray(((points >= (self.x0, self.y0)) & (points <= (self.x1, self.y1))).all(axis=-1))


@dataclass(frozen=True)
class Zoom:
    """How a predictor zooms in."""

    crops: int = 4
    """At most so many crops around a first click: one of the whole, each further one of half the side."""
    least: int = 96
    """Side of the smallest of them, pixels of the picture."""
    margin: float = 1.6
    """Side of a crop around an object, over the object's longer side."""
    smallest: int = 48
    """Side of the smallest crop, pixels of the picture."""
    slack: float = 0.05
    """How far a mask may reach beyond its box, as a share of the box's sides."""


@dataclass(frozen=True)
class Prompt:
    """What is asked about one object, in pixels of the picture.

    points float32 [N, 2], labels int32 [N] (1 on it, 0 off it, -1 none); box float32 [4] or None.
    """

    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray | None = None

    @property
    def inside(self) -> np.ndarray:
        """The points on the object."""
        on: np.ndarray = self.points[self.labels == 1]
        return on


@dataclass(frozen=True)
class View:
    """A mask as seen in a window."""

    window: Window
    logits: Tensor
    """float32 [s, s]."""
    score: float
    """Predicted IoU."""
    presence: float
    """Logit of the object's presence."""


class Look(Protocol):
    """Asks the model about crops of a picture."""

    def __call__(
        self,
        windows: Sequence[Window],
        prompts: Sequence[Prompt],
        logits: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One answer a window: logits float32 [B, C, s, s], predicted IoU [B, C], presence logits [B].

        logits: of the masks before, float32 [B, 1, s, s], each in its window.
        """


def answer(
    look: Look,
    size: tuple[int, int],
    prompts: Sequence[Prompt],
    before: Sequence[View | None],
    multimask: bool,
    zoom: Zoom,
) -> list[list[View]]:
    """Masks of each object, three where `multimask` asks for them, else one.

    Args:
        size: the picture's (height, width).
        before: each object's mask so far, where there is one.
    """
    seen = list(before)
    unknown = [i for i, prompt in enumerate(prompts) if seen[i] is None and prompt.box is None]
    offered: dict[int, list[View]] = {}
    for i in unknown:
        offered[i] = _candidates(look, size, prompts[i], 3 if multimask else 1, zoom)
        seen[i] = offered[i][0]
    windows = [_window(prompt, view, size, zoom) for prompt, view in zip(prompts, seen)]
    if multimask and not unknown:
        return _looked(look, windows, prompts, seen, True)
    refined = [views[0] for views in _looked(look, windows, prompts, seen, False)]
    for i, prompt in enumerate(prompts):
        # A box: the same crop, where its own mask helps as one to correct does. A first click, or a mask that
        # its crop cut off: the crop around what was found.
        if i in offered or seen[i] is None or _cut_off(refined[i], size, prompt):
            window = _window(prompt, refined[i], size, zoom)
            refined[i] = _looked(look, [window], [prompt], [refined[i]], False)[0][0]
    answers = []
    for i, view in enumerate(refined):
        if i in offered:
            view = replace(view, score=max(view.score, offered[i][0].score))
        answers.append([view, *offered.get(i, [view])[1:]])
    return answers


def paste(view: View, size: tuple[int, int], box: np.ndarray | None, zoom: Zoom) -> Tensor:
    """The mask in the whole picture: float32 logits [H, W], cut to the box where there is one."""
    whole = view.logits.new_full(size, OUTSIDE)
    x0, y0, x1, y1 = view.window
    whole[y0:y1, x0:x1] = F.interpolate(
        view.logits[None, None], view.window.size, mode="bilinear", align_corners=False
    )[0, 0]
    if box is not None:
        slack = zoom.slack * (box[2:] - box[:2])
        left, top = np.floor(box[:2] - slack).astype(int).clip(0)
        right, bottom = np.ceil(box[2:] + slack).astype(int)
        whole[:top], whole[bottom:] = OUTSIDE, OUTSIDE
        whole[:, :left], whole[:, right:] = OUTSIDE, OUTSIDE
    return whole


def square(x: float, y: float, side: float, size: tuple[int, int]) -> Window:
    """A square of `side` pixels around (x, y), moved and cut to fit a picture of (height, width)."""
    edges = []
    for middle, limit in ((x, size[1]), (y, size[0])):
        span = min(math.ceil(side), limit)
        start = min(max(math.floor(middle - span / 2), 0), limit - span)
        edges.append((start, start + span))
    return Window(edges[0][0], edges[1][0], edges[0][1], edges[1][1])


def around(box: Sequence[float] | np.ndarray, factor: float, size: tuple[int, int], smallest: int) -> Window:
    """A square around the middle of a box, of `factor` times its longer side or `smallest`, in a picture."""
    x0, y0, x1, y1 = map(float, box)
    return square((x0 + x1) / 2, (y0 + y1) / 2, max(factor * max(x1 - x0, y1 - y0), smallest), size)


def extent(view: View) -> np.ndarray | None:
    """Box float32 [4] of a mask in pixels of the picture, but for its outermost hundredth; None if empty."""
    mask = (view.logits > 0).float().cpu().numpy()
    total = mask.sum()
    if not total:
        return None
    height, width = view.window.size
    ends = []
    for axis, start, span in ((0, view.window.x0, width), (1, view.window.y0, height)):
        share = np.cumsum(mask.sum(axis=axis)) / total
        first, last = np.searchsorted(share, 0.005), np.searchsorted(share, 0.995)
        cell = span / len(share)
        ends.append((start + first * cell, start + (last + 1) * cell))
    return np.array([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], np.float32)


def near(mask: np.ndarray, zoom: Zoom, side: int) -> View | None:
    """A mask bool [H, W] as the window around it shows it, None if it is empty.

    Its logits [side, side] run from -10 to 10; where an edge crosses a cell, by its share.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    height, width = mask.shape
    window = around(box, zoom.margin, (height, width), zoom.smallest)
    crop = mask[window.y0 : window.y1, window.x0 : window.x1].astype(np.float32)
    share = F.interpolate(
        torch.from_numpy(crop)[None, None], (side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return View(window, share[0, 0] * 20 - 10, 1.0, 10.0)


def moved(view: View, window: Window) -> Tensor:
    """The logits float32 [s, s] of a view as another window shows them."""
    if window == view.window:
        return view.logits
    where = seen_from(view.window, window, view.logits.shape[-1], view.logits.device)
    # what lies outside is OUTSIDE, which grid_sample knows only as zero
    raised = (view.logits - OUTSIDE)[None, None]
    shown: Tensor = F.grid_sample(raised, where, align_corners=False)[0, 0]
    return shown + OUTSIDE


def seen_from(shown: Window, window: Window, cells: int, device: torch.device) -> Tensor:
    """Where the middles of the cells of one window lie in another, [1, cells, cells, 2] as `grid_sample`
    takes it without aligned corners.

    Args:
        shown: the window in which they are sought.
        window: the window whose cells they are.
        cells: how many a side.
    """
    steps = (torch.arange(cells, device=device) + 0.5) / cells
    x = (window.x0 + steps * (window.x1 - window.x0) - shown.x0) / (shown.x1 - shown.x0) * 2 - 1
    y = (window.y0 + steps * (window.y1 - window.y0) - shown.y0) / (shown.y1 - shown.y0) * 2 - 1
    return torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)[None]


def _looked(
    look: Look,
    windows: Sequence[Window],
    prompts: Sequence[Prompt],
    seen: Sequence[View | None],
    multimask: bool,
) -> list[list[View]]:
    """Views of each object in its window, best first; objects with a mask so far are asked with it."""
    found: list[list[View]] = [[] for _ in windows]
    for known in (False, True):
        chosen = [i for i, view in enumerate(seen) if (view is not None) == known]
        if not chosen:
            continue
        logits = None
        if known:
            logits = torch.stack([moved(view, windows[i])[None] for i in chosen if (view := seen[i])])
        masks, ious, presence = look(
            [windows[i] for i in chosen], [prompts[i] for i in chosen], logits, multimask
        )
        for row, i in enumerate(chosen):
            order = ious[row].argsort(descending=True).tolist()
            found[i] = [
                View(windows[i], masks[row, k], float(ious[row, k]), float(presence[row])) for k in order
            ]
    return found


def _window(prompt: Prompt, view: View | None, size: tuple[int, int], zoom: Zoom) -> Window:
    """Where to look for an object whose box or mask is known; the whole picture where the mask is empty."""
    if prompt.box is not None:
        return around(prompt.box, zoom.margin, size, zoom.smallest)
    assert view is not None
    box = extent(view)
    if box is None:
        return Window(0, 0, size[1], size[0])
    corners = np.concatenate([box.reshape(2, 2), prompt.inside])
    return around([*corners.min(0), *corners.max(0)], zoom.margin, size, zoom.smallest)


def _candidates(look: Look, size: tuple[int, int], prompt: Prompt, count: int, zoom: Zoom) -> list[View]:
    """Up to `count` different masks for points alone, the one most agreed upon first.

    Each mask of each crop stands for what may be meant, the likelier the higher its predicted IoU; a mask's
    score is the IoU to be expected of it.
    """
    points = prompt.inside if len(prompt.inside) else prompt.points
    low, high = points.min(0), points.max(0)
    windows: list[Window] = []
    for halvings in range(zoom.crops):
        side = max(size) / 2**halvings
        if halvings and side < zoom.least:
            break
        reach = max(side, 1.5 * float((high - low).max()))
        middle = (low + high) / 2
        window = around([*(middle - reach / 2), *(middle + reach / 2)], 1.0, size, 1)
        if window not in windows:
            windows.append(window)
    masks, ious, presence = look(windows, [prompt] * len(windows), None, True)
    views = [
        View(window, mask, float(iou), float(there))
        for window, offered, scores, there in zip(windows, masks, ious, presence)
        for mask, iou in zip(offered, scores)
    ]
    whole = Window(0, 0, size[1], size[0])
    grid = torch.stack([moved(_enlarged(view), whole) > 0 for view in views]).flatten(1).float()
    overlap = grid @ grid.T
    area = grid.sum(1)
    agreement = overlap / (area[:, None] + area - overlap).clamp(min=1)
    weight = torch.tensor([max(v.score, 0.0) - EDGE_COST * sum(_edges(v, size)) for v in views]).to(grid)
    weight = weight.clamp(min=0) + 1e-6
    expected = (agreement @ weight) / weight.sum()
    kept: list[int] = []
    for i in expected.argsort(descending=True).tolist():
        if all(agreement[i, k] <= ALIKE for k in kept):
            kept.append(i)
    rest = [i for i in expected.argsort(descending=True).tolist() if i not in kept]
    return [replace(views[i], score=float(expected[i])) for i in (kept + rest)[:count]]


def _enlarged(view: View) -> View:
    """The same on the grid on which masks are compared."""
    logits = F.interpolate(view.logits[None, None], (GRID, GRID), mode="bilinear", align_corners=False)
    return replace(view, logits=logits[0, 0])


def _edges(view: View, size: tuple[int, int]) -> list[float]:
    """Shares of the window's sides that the mask covers where the picture goes on beyond them."""
    mask = (view.logits > 0).float()
    x0, y0, x1, y1 = view.window
    sides = ((x0 > 0, mask[:, 0]), (y0 > 0, mask[0]), (x1 < size[1], mask[:, -1]), (y1 < size[0], mask[-1]))
    return [float(side.mean()) if inner else 0.0 for inner, side in sides]


def _cut_off(view: View, size: tuple[int, int], prompt: Prompt) -> bool:
    return prompt.box is None and max(_edges(view, size)) > CUT
