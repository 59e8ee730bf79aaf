"""Each frame is encoded once while there is room."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tracking_helpers import Disk, clip, disk, farthest, mini_predictor, run

from sam2.modeling.outputs import FrameFeatures
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import FeatureBudget, FeatureCache

FRAME_BYTES = 4 * 8


def features(frame: int) -> FrameFeatures:
    return FrameFeatures([torch.full((4,), float(frame)), torch.arange(4.0) / 3 + frame], [torch.zeros(1)])


@given(
    frames=st.lists(st.integers(0, 12), max_size=40),
    device=st.integers(1, 3),
    host=st.integers(0, 4),
    disk_frames=st.integers(0, 4),
)
def test_the_cache_keeps_what_was_used_last(
    frames: list[int], device: int, host: int, disk_frames: int
) -> None:
    cache = FeatureCache(FeatureBudget(device, host * FRAME_BYTES, disk_frames * FRAME_BYTES))
    twin: list[int] = []
    encoded = 0
    for frame in frames:
        calls: list[int] = []
        found = cache.get(frame, lambda f=frame, c=calls: c.append(f) or features(f))  # type: ignore[misc, func-returns-value]
        expected = features(frame)
        assert all(torch.equal(a, b) for a, b in zip(found.maps, expected.maps, strict=True))
        assert bool(calls) == (frame not in twin)
        encoded += len(calls)
        if frame in twin:
            twin.remove(frame)
        twin.append(frame)
        twin = twin[-(device + host + disk_frames) :]
        assert len(cache) == len(twin)
        assert all(f in cache for f in twin)
    assert cache.misses == encoded
    assert cache.hit_rate == pytest.approx(1 - encoded / len(frames) if frames else 0)
    cache.clear()
    assert len(cache) == 0


def test_half_the_bytes_on_request() -> None:
    cache = FeatureCache(FeatureBudget(1, host_bytes=FRAME_BYTES, precision="bfloat16"))
    for frame in range(3):
        cache.get(frame, lambda f=frame: features(f))  # type: ignore[misc]
    assert len(cache) == 3
    found = cache.get(0, lambda: features(99))
    assert found.maps[1].dtype == torch.float32
    assert torch.equal(found.maps[1], features(0).maps[1].bfloat16().float())


def test_a_failing_disk_costs_an_encoding_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(tmp_path, monkeypatch)
    cache = FeatureCache(FeatureBudget(1, 0, 10 * FRAME_BYTES))
    for frame in (0, 1, 0, 1):
        found = cache.get(frame, lambda f=frame: features(f))  # type: ignore[misc]
        assert torch.equal(found.maps[0], features(frame).maps[0])
    assert cache.misses == 4
    cache.clear()


@pytest.mark.parametrize(
    "options", [{"device_frames": 0}, {"host_bytes": -1}, {"disk_bytes": -1}, {"precision": "int8"}]
)
def test_budgets_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"device_frames|budgets|precision"):
        FeatureBudget(**options)


def test_a_pickled_cache_is_empty_and_keeps_its_budget() -> None:
    cache = FeatureCache(FeatureBudget(2))
    cache.get(0, lambda: features(0))
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.budget == cache.budget
    assert len(copy) == 0


def passes(predictor: SAM2VideoPredictor, budget: FeatureBudget) -> tuple[dict[str, Any], int]:
    """Masks of a first pass and of what follows it, and how often that called the encoder."""
    calls: list[int] = []
    encode = predictor.encode_image
    state = predictor.init_state(clip(12), feature_budget=budget)
    predictor.add_new_mask(state, 0, 1, disk(20, 18))
    found = {"first": run(predictor, state)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "encode_image", lambda x: calls.append(1) or encode(x))
        predictor.add_new_points_or_box(state, 4, 1, points=[[30, 10]], labels=[1])
        found["correction"] = run(predictor, state, start_frame_idx=4)
        found["reverse"] = run(predictor, state, start_frame_idx=11, reverse=True)
        predictor.add_new_mask(state, 6, 2, disk(9, 9))
        found["new object"] = run(predictor, state, start_frame_idx=6)
    state.close()
    return found, len(calls)


@pytest.mark.parametrize(
    "budget", [FeatureBudget(), FeatureBudget(2, host_bytes=0, disk_bytes=2**24)], ids=["host", "disk"]
)
def test_a_second_pass_encodes_nothing(budget: FeatureBudget) -> None:
    predictor = mini_predictor()
    found, calls = passes(predictor, budget)
    assert calls == 0
    expected, without = passes(predictor, FeatureBudget(1, host_bytes=0))
    assert without > 12
    assert set(found["reverse"]) == set(range(12))
    for part in expected:
        assert farthest(found[part], expected[part]) == 0.0
