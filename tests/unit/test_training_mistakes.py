"""Mistakes put into remembered masks, and crops that go with their object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from training_helpers import TINY, disks

from sam2.data.pool import write_pool
from sam2.data.recipe import Recipe
from sam2.training import scenes
from sam2.training.losses import LossOptions
from sam2.training.mistakes import with_mistakes
from sam2.training.options import ModelOptions
from sam2.training.pvs import Batch, PvsOptions, interact, pvs_losses
from sam2.training.run import build_model
from sam2.training.scenes import SceneBatches, SceneOptions

pytestmark = pytest.mark.usefixtures("one_thread")


def logits(count: int) -> Tensor:
    masks = torch.full((count, 1, 64, 64), -5.0)
    masks[:, :, 20:44, 24:40] = 5.0
    return masks


def test_some_masks_lose_a_side_and_some_gain_a_disc() -> None:
    torch.manual_seed(0)
    given = logits(60)
    before, spoilt = given > 0, with_mistakes(given, 1.0) > 0
    assert torch.equal(given, logits(60))
    area = before.flatten(1).sum(1)
    lost = (before & ~spoilt).flatten(1).sum(1) / area
    added = (spoilt & ~before).flatten(1).sum(1)
    assert (lost > 0).sum() > 15
    assert (added > 0).sum() > 15
    assert not ((lost > 0) & (added > 0)).any()
    assert lost.max() <= 0.75


def test_as_many_are_spoilt_as_asked_for_and_empty_ones_stay_so() -> None:
    torch.manual_seed(0)
    changed = (with_mistakes(logits(400), 0.25) != logits(400)).flatten(1).any(1)
    assert 70 <= int(changed.sum()) <= 130
    assert torch.equal(with_mistakes(logits(20), 0.0), logits(20))
    empty = torch.full((20, 1, 64, 64), -5.0)
    assert torch.equal(with_mistakes(empty, 1.0), empty)


def test_memories_with_mistakes_train() -> None:
    torch.manual_seed(0)
    model = build_model(ModelOptions(overrides=TINY)).train()
    batch = Batch(*disks(0, frames=4))
    found = {}
    for share in (0.0, 1.0):
        torch.manual_seed(1)
        options = PvsOptions(mask=1.0, clicks=0, init_frames=1, mistakes=share)
        found[share] = pvs_losses(interact(model, batch, options), LossOptions())["total"]
    assert torch.isfinite(found[1.0])
    assert not torch.equal(found[0.0], found[1.0])
    found[1.0].backward()
    with pytest.raises(ValueError, match=r"mistakes is 1\.5"):
        PvsOptions(mistakes=1.5)


def test_crops_go_with_their_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "FOCUS", 1.0)
    pool = write_pool(tmp_path / "pool", Recipe(128, 12, (0.3, 0.6), seed=3), 16)

    def way(follow: float) -> float:
        """How far objects' middles move from first to last frame, pixels of the crop: the upper decile."""
        options = SceneOptions(batch=1, frames=6, objects=2, zoom=1.0, follow=follow)
        batches = SceneBatches([pool], [options], 64, seed=1, total=60)
        moved = []
        for k in range(60):
            for mask in batches[k].batch.masks.transpose(0, 1)[:1]:
                if mask[0].any() and mask[-1].any():
                    ends = [m.nonzero().float().mean(0) for m in (mask[0], mask[-1])]
                    moved.append(float((ends[0] - ends[1]).norm()))
        return float(np.quantile(moved, 0.9))

    assert way(1.0) < 0.8 * way(0.0)
