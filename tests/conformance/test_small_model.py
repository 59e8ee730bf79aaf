"""The project's own goldens: they need nothing beside the repository."""

from __future__ import annotations

import numpy as np
import pytest
from small_model import GOLDENS, outputs


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    return outputs()


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDENS))


def test_the_same_arrays_are_there(found: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> None:
    assert found.keys() == golden.keys()


@pytest.mark.parametrize(
    "name", ["level0", "level1", "level2", "click", "click_iou", "box", *(f"track{i}" for i in range(5))]
)
def test_array(name: str, found: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> None:
    scale = np.abs(golden[name]).max()
    differs = np.abs(found[name] - golden[name]) > 1e-3 * scale
    assert differs.mean() <= 1e-3


def test_masks_are_neither_empty_nor_full(golden: dict[str, np.ndarray]) -> None:
    for name in ("click", "box", *(f"track{i}" for i in range(5))):
        assert 0.005 < (golden[name] > 0).mean() < 0.995, name
