"""The arithmetic against the published one: the conformance kit, where it lies beside the project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

KIT = Path(__file__).resolve().parents[3] / "shared" / "conformance"
CASES = (
    "encoder_tiny",
    "encoder_base_plus",
    "encoder_large",
    "heads_tiny",
    "memory_tiny",
    "image_tiny_1024",
    "image_small_2_0",
    "automatic_tiny",
    "automatic_crops",
    "video_2_1_tiny",
    "video_2_0_tiny",
    "video_many_frames",
    "video_occlusion",
    "video_no_overlap",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not KIT.is_dir(), reason=f"the conformance kit is not at {KIT}"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def kit() -> ModuleType:
    sys.path.insert(0, str(KIT))
    try:
        return importlib.import_module("check")
    finally:
        sys.path.remove(str(KIT))


def test_every_case_of_the_kit_is_run(kit: ModuleType) -> None:
    assert set(kit.CASES) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_case(kit: ModuleType, name: str) -> None:
    check(kit, name)


@pytest.mark.parametrize("name", ["video_2_1_tiny", "video_no_overlap"])
def test_a_case_of_several_objects_without_batches(
    kit: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    batched = kit.CASES[name](seed=1)

    def build(*args: Any, hydra_overrides_extra: Sequence[str] = (), **kwargs: Any) -> SAM2VideoPredictor:
        overrides = [*hydra_overrides_extra, "++model.max_batch=1"]
        predictor = build_sam2_video_predictor(*args, hydra_overrides_extra=overrides, **kwargs)
        assert predictor.engine.max_batch == 1
        return predictor

    monkeypatch.setattr("sam2.build_sam.build_sam2_video_predictor", build)
    # against batches, which `test_case` holds to the goldens: near its bound rounding alone decides
    check(kit, name, batched)


def check(kit: ModuleType, name: str, golden: Mapping[str, Any] | None = None) -> None:
    golden = golden or dict(np.load(KIT / "goldens" / f"{name}.npz"))
    torch.manual_seed(0)
    ours = kit.CASES[name](seed=1)
    assert set(ours) == set(golden)
    shares = {key: kit.difference(np.asarray(ours[key]), np.asarray(golden[key])) for key in golden}
    worst = max(shares, key=shares.__getitem__)
    assert shares[worst] <= kit.PIXELS, f"{worst}: a share of {shares[worst]:.2g} differs"
