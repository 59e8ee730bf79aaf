"""Non-maximum suppression against the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2.ops import batched_nms, boxes, nms


def naive_nms(box: np.ndarray, scores: np.ndarray, kinds: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(box)), key=lambda i: -scores[i]):  # stable: ties keep their order
        for j in kept:
            low, high = np.maximum(box[i, :2], box[j, :2]), np.minimum(box[i, 2:], box[j, 2:])
            shared = np.prod(np.clip(high - low, 0, None))
            union = np.prod(box[i, 2:] - box[i, :2]) + np.prod(box[j, 2:] - box[j, :2]) - shared
            if kinds[i] == kinds[j] and union > 0 and shared / union > threshold:
                break
        else:
            kept.append(i)
    return kept


@st.composite
def candidates(draw):
    count = draw(st.integers(0, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    corner = rng.integers(0, 12, (count, 2))
    size = rng.integers(0, 12, (count, 2))  # boxes without area too
    scores = rng.integers(0, 6, count) / 4  # many ties
    return np.concatenate([corner, corner + size], 1).astype(np.float32), scores, rng.integers(0, 3, count)


@settings(max_examples=200, deadline=None)
@given(drawn=candidates(), threshold=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_equals_the_definition(drawn, threshold):
    box, scores, kinds = drawn
    given_ = torch.from_numpy(box), torch.from_numpy(scores), torch.from_numpy(kinds)
    assert batched_nms(*given_, threshold).tolist() == naive_nms(box, scores, kinds, threshold)
    assert nms(*given_[:2], threshold).tolist() == naive_nms(box, scores, np.zeros(len(box)), threshold)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
def test_blocks_do_not_show(monkeypatch, threshold):
    rng = np.random.default_rng(3)
    corner = rng.random((300, 2)) * 100
    box = np.concatenate([corner, corner + rng.random((300, 2)) * 60], 1).astype(np.float32)
    scores = rng.random(300).astype(np.float32)
    kinds = np.zeros(300, np.int64)
    monkeypatch.setattr(boxes, "BLOCK", 32)
    kept = batched_nms(*(torch.from_numpy(a) for a in (box, scores, kinds)), threshold)
    assert kept.tolist() == naive_nms(box, scores, kinds, threshold)


def test_a_chain_keeps_every_other_box():
    x = torch.arange(40.0)
    chain = torch.stack([x, 0 * x, x + 2, 0 * x + 1], 1)  # neighbours overlap by a third
    assert nms(chain, -x, 0.3).tolist() == list(range(0, 40, 2))


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\[3, 4\], \[2\]"):
        nms(torch.zeros(3, 4), torch.zeros(2), 0.5)
