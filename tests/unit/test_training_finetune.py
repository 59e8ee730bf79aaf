"""Fine-tuning: what is held out, what learns, when it stops, and that it helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from training_helpers import TINY, disks, toy_clip

from sam2.checkpoint import save_checkpoint
from sam2.config import load_config
from sam2.training.finetune import FinetuneOptions, finetune, fit_batch, split
from sam2.training.options import ModelOptions
from sam2.training.pvs import Batch
from sam2.training.run import build_model
from sam2.training.score import held_out_score

pytestmark = pytest.mark.usefixtures("one_thread")


def made(root: Path, count: int = 10, frames: int = 1) -> Path:
    """Clips as DAVIS has them, or stills with label masks."""
    for number in range(count):
        clip = toy_clip(number, frames=frames, objects=2)
        for t in range(frames):
            place = f"clip{number}/{t:05d}" if frames > 1 else f"{number}"
            folders = ("JPEGImages", "Annotations") if frames > 1 else ("images", "masks")
            picture, mask = (root / f / place for f in folders)
            for path in (picture, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(clip.frames[t]).save(picture.with_suffix(".jpg"))
            labels = Image.fromarray((clip.masks[t] * np.arange(1, 3)[:, None, None]).max(0).astype(np.uint8))
            labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
            labels.save(mask.with_suffix(".png"))
    return root


@pytest.fixture
def model(tmp_path: Path) -> dict[str, str]:
    config, weights = tmp_path / "tiny.yaml", tmp_path / "start.pt"
    config.write_text(yaml.safe_dump({"model": load_config("mini", TINY)}))
    torch.manual_seed(0)
    save_checkpoint(build_model(ModelOptions(overrides=TINY)), weights)
    return {"model": str(config), "checkpoint": str(weights), "device": "cpu"}


def options(data: Path, out: Path, **changes: Any) -> FinetuneOptions:
    quick: dict[str, Any] = {"steps": 4, "check_steps": 2, "clicks": 1, "batch": 2}
    return FinetuneOptions(data=str(data), out=str(out), **{**quick, **changes})


def test_only_what_follows_the_features_learns(tmp_path: Path, model: dict[str, str]) -> None:
    lines: list[str] = []
    data = made(tmp_path / "data", 4)
    result = finetune(options(data, tmp_path / "out", **model, lr=1e-2), lines.append)
    assert lines[0].startswith("before: IoU from a click")
    assert lines[-1].startswith("after: ")
    before = torch.load(model["checkpoint"], weights_only=True)["model"]
    after = load_file(result.model)
    assert before.keys() == after.keys()
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    if result.after.mean > result.before.mean:
        assert moved
    assert not any(n.startswith("image_encoder") for n in moved)
    told = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert told["before"]["click"] == result.before.click
    assert told["steps"] == 4
    assert result.after.mean >= result.before.mean


@pytest.mark.parametrize("trunk", ["frozen", "lora"])
def test_it_helps_on_held_out_pictures(tmp_path: Path, model: dict[str, str], trunk: str) -> None:
    data = made(tmp_path / "data", 12)
    wanted = options(data, tmp_path / "out", **model, trunk=trunk, steps=60, check_steps=30, lr=3e-3, batch=4)
    result = finetune(wanted, lambda _: None)
    assert result.after.mean > result.before.mean + 0.1


def test_clips_are_followed(tmp_path: Path, model: dict[str, str]) -> None:
    data = made(tmp_path / "data", 3, frames=5)
    result = finetune(options(data, tmp_path / "out", **model, frames=3), lambda _: None)
    assert result.before.track is not None
    assert 0 <= result.before.track <= 1


def test_it_stops_when_nothing_gets_better(tmp_path: Path, model: dict[str, str]) -> None:
    data = made(tmp_path / "data", 3)
    wanted = options(data, tmp_path / "out", **model, lr=1e-12, steps=50, check_steps=1, patience=2)
    result = finetune(wanted, lambda _: None)
    assert result.steps <= 4
    assert result.reason == "no better for 2 looks"
    late = options(data, tmp_path / "late", **model, minutes=0.0, steps=50)
    assert finetune(late, lambda _: None).reason == "the time was over"


def test_a_loss_that_is_no_number_keeps_the_best(
    tmp_path: Path, model: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam2.training import finetune as module

    lost = {"total": torch.tensor(float("nan"))}
    monkeypatch.setattr(module, "pvs_losses", lambda *_: lost)
    result = finetune(options(made(tmp_path / "data", 3), tmp_path / "out", **model), lambda _: None)
    assert (result.steps, result.after) == (0, result.before)
    assert "the loss was no number" in result.reason
    saved = torch.load(tmp_path / "out" / "failed_batch.pt", weights_only=True)
    assert saved["images"].dtype == torch.uint8
    assert result.model.exists()


def test_unreadable_pictures_are_listed(tmp_path: Path, model: dict[str, str]) -> None:
    data = made(tmp_path / "data", 5)
    (data / "images" / "3.jpg").write_bytes(b"damaged")
    result = finetune(options(data, tmp_path / "out", **model, steps=1), lambda _: None)
    (skipped,) = result.skipped
    assert "3.jpg" in skipped


def test_the_split_is_fixed_and_disjoint() -> None:
    learn, judge = split(50, 0.2, 0)
    assert (len(learn), len(judge)) == (40, 10)
    assert sorted(learn + judge) == list(range(50))
    assert split(50, 0.2, 0) == (learn, judge) != split(50, 0.2, 1)
    assert [len(part) for part in split(2, 0.01, 0)] == [1, 1]
    with pytest.raises(ValueError, match="holds 1 clips"):
        split(1, 0.2, 0)


def test_batches_fit_the_memory() -> None:
    cpu = torch.device("cpu")
    assert fit_batch(cpu, 64, 1, 3) == 3
    assert fit_batch(cpu, 64, 1, 100) == 8
    assert fit_batch(cpu, 100_000, 8, 100) == 1


def test_scores_know_a_perfect_model(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = build_model(ModelOptions(overrides=TINY))
    batch = Batch(*disks(0, frames=3, pictures=1))
    from sam2.training import score

    monkeypatch.setattr(score, "mask_iou", lambda logits, truth: torch.ones(truth.shape[:-2]))
    found = held_out_score(sam, [score.Sample(batch.images[:, 0], batch.masks)])
    assert (found.click, found.box, found.track, found.mean) == (1, 1, 1, 1)
    assert str(found) == "IoU from a click 100.0, a box 100.0, followed 100.0"


@pytest.mark.parametrize("changes", [{"trunk": "thawed"}, {"held_out": 1.0}, {"patience": 0}])
def test_bad_options(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(changes.values())))):
        FinetuneOptions(data="x", out="y", **changes)
