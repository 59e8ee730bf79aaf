"""Pieces of a tracked mask that lie far from the rest are let go, in results and in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tracking_helpers import clip, disk, mini_predictor

from sam2.close_tracker import CloseTracker, Following
from sam2.ops import connected_components
from sam2.tracking.pieces import DROPPED, close_together, gap_within
from sam2.video import open_video


def boxes(*corners: tuple[int, int, int, int]) -> torch.Tensor:
    """A mask bool [40, 40] of boxes (rows and columns, the last ones exclusive)."""
    mask = torch.zeros(40, 40, dtype=torch.bool)
    for y0, x0, y1, x1 in corners:
        mask[y0:y1, x0:x1] = True
    return mask


BIG, NEAR, FAR, CRUMB = (5, 5, 15, 15), (5, 18, 10, 22), (5, 30, 10, 36), (38, 38, 39, 39)


@pytest.mark.parametrize(
    ("mask", "gap"),
    [
        (boxes(), 0.0),
        (boxes(BIG), 0.0),
        (boxes(BIG, NEAR), 0.3),
        (boxes(BIG, NEAR, FAR), 1.5),
        (boxes(BIG, CRUMB), 0.0),
        (boxes(BIG, FAR).T, 1.5),
    ],
)
def test_the_gap_is_measured_from_the_largest_piece(mask: torch.Tensor, gap: float) -> None:
    assert gap_within(mask) == pytest.approx(gap)


def test_far_pieces_go_and_near_ones_stay() -> None:
    mask = boxes(BIG, NEAR, FAR, CRUMB)
    logits = torch.where(mask, 3.0, -2.0)[None, None]
    found = close_together(logits, 0.35)
    assert torch.equal(found[0, 0] > 0, boxes(BIG, NEAR))
    assert torch.equal(logits[0, 0] > 0, mask)
    assert set(found[0, 0][mask & ~boxes(BIG, NEAR)].tolist()) == {DROPPED}
    assert torch.equal(close_together(logits, 1.6)[0, 0] > 0, boxes(BIG, NEAR, FAR))


@given(arrays(np.bool_, (12, 12)), st.floats(0, 2))
def test_nothing_is_added_and_the_largest_stays(mask: np.ndarray, max_gap: float) -> None:
    logits = torch.where(torch.from_numpy(mask), 1.0, -1.0)[None, None]
    found = close_together(logits, max_gap)
    kept = found > 0
    assert not (kept & (logits <= 0)).any()
    assert torch.equal(close_together(found, max_gap), found)
    areas = connected_components(logits > 0)[1]
    if mask.any():
        assert connected_components(kept)[1].max() == areas.max()


@pytest.mark.usefixtures("one_thread")
def test_tracked_masks_are_in_one_place_unless_they_were_prompted_apart() -> None:
    together = disk(14, 24, 6)
    apart = together | disk(42, 6, 4)

    def scattered(prompt: np.ndarray, max_gap: float) -> bool:
        """Whether any tracked mask has pieces beside the box of its largest."""
        following = Following(max_gap=max_gap)
        with (
            open_video(clip(6)) as video,
            CloseTracker(mini_predictor(presence=8), video, following=following) as tracker,
        ):
            tracker.prompt(0, 1, mask=prompt)
            masks = [result.views[0].logits[None, None] for result in list(tracker.propagate())[1:]]
        return any(not torch.equal(close_together(mask, 0.0), mask) for mask in masks)

    assert scattered(together, 1e9)
    assert not scattered(together, 0.0)
    assert scattered(apart, 0.0)
