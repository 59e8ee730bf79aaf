"""The arithmetic against the published one: the conformance kit, where it lies beside the project."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

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
    golden = dict(np.load(KIT / "goldens" / f"{name}.npz"))
    torch.manual_seed(0)
    ours = kit.CASES[name](seed=1)
    assert set(ours) == set(golden)
    shares = {key: kit.difference(np.asarray(ours[key]), golden[key]) for key in golden}
    worst = max(shares, key=shares.__getitem__)
    assert shares[worst] <= kit.PIXELS, f"{worst}: a share of {shares[worst]:.2g} differs"
