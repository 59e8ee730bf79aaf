"""Runs: exact resumption, failures that leave the last good state, options that name their mistakes."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from training_helpers import toy_clip, toy_data, toy_run

from sam2.data.clip import Clip
from sam2.training import state
from sam2.training.batches import MicroBatches, make_sample, open_source, pick_frames, read_clip
from sam2.training.loop import TrainingFailedError, run_task
from sam2.training.options import RunOptions, SourceOptions, as_plain, read_file, read_options
from sam2.training.run import PvsTask, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_data()
    # TensorBoard is slow to import and not what is tested
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def options(out: Path, **changes: Any) -> RunOptions:
    return read_options(RunOptions, toy_run(out, **changes))


def weights(out: Path) -> dict[str, torch.Tensor]:
    saved: dict[str, torch.Tensor] = state.load_state(out / "state.pt")["weights"]
    return saved


def same(a: Path, b: Path) -> bool:
    x, y = weights(a), weights(b)
    return all(torch.equal(x[n], y[n]) for n in x)


def test_a_run_leaves_weights_metrics_and_pictures(tmp_path: Path) -> None:
    summary = train(options(tmp_path / "a", picture_steps=4))
    assert summary.finished
    assert summary.step == 4
    with open(tmp_path / "a" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows] == ["2", "4"]
    assert float(rows[-1]["total"]) > 0
    with Image.open(tmp_path / "a" / "pictures" / "0000004.png") as sheet:
        assert sheet.width == 4 * 68
    exported = load_file(tmp_path / "a" / "model.safetensors")
    saved = state.load_state(tmp_path / "a" / "state.pt")
    assert exported.keys() == saved["weights"].keys()
    name = "sam_mask_decoder.iou_token.weight"
    assert torch.equal(exported[name], saved["ema"]["average"][name])
    assert not torch.equal(exported[name], saved["weights"][name])


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    train(options(tmp_path / "whole"))
    part = options(tmp_path / "part", stop_minutes=0.0)
    assert train(part).step == 1
    torch.rand(7)  # whatever else the process does must not matter
    assert not train(part, resume=True).finished
    assert train(options(tmp_path / "part"), resume=True).finished
    assert same(tmp_path / "whole", tmp_path / "part")
    read = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "part")]
    assert len(read[0]) == len(read[1]) == 3


def test_an_interruption_saves_first(tmp_path: Path) -> None:
    run = options(tmp_path)
    task = PvsTask(run)
    losses, calls = task.losses, []

    def interrupted(*args: Any) -> dict[str, torch.Tensor]:
        calls.append(args)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return losses(*args)

    task.losses = interrupted  # type: ignore[method-assign]
    summary = run_task(task, run)
    assert (summary.step, summary.finished) == (2, False)
    assert state.load_state(tmp_path / "state.pt")["step"] == 2
    assert train(run, resume=True).finished


@pytest.mark.parametrize("emulated", [False, True])
def test_half_precision_where_the_processor_has_it(
    tmp_path: Path, emulated: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sam2.training.loop.emulates_bf16", lambda device: emulated)
    run = options(tmp_path, steps=1, bf16=True)
    task = PvsTask(run)
    seen: dict[str, torch.dtype] = {}
    trunk, head = task.model.image_encoder.trunk, task.model.sam_mask_decoder.iou_prediction_head
    trunk.blocks[0].attn.register_forward_hook(lambda _, __, out: seen.update(attention=out.dtype))
    head.register_forward_hook(lambda _, __, out: seen.update(iou=out.dtype))
    losses = task.losses

    def watched(*args: Any) -> dict[str, torch.Tensor]:
        found = losses(*args)
        seen.update(loss=found["total"].dtype)
        return found

    task.losses = watched  # type: ignore[method-assign]
    summary = run_task(task, run)
    layers = torch.float32 if emulated else torch.bfloat16
    assert seen == {"attention": layers, "iou": layers, "loss": torch.float32}
    assert ("would emulate bfloat16" in capsys.readouterr().out) == emulated
    assert 0 < summary.last["total"] < 100
    assert all(v.dtype == torch.float32 for v in weights(tmp_path).values() if v.is_floating_point())
    moments = state.load_state(tmp_path / "state.pt")["optimizer"]["state"].values()
    assert {m["exp_avg"].dtype for m in moments} == {torch.float32}


def test_workers_make_the_same_batches(tmp_path: Path) -> None:
    train(options(tmp_path / "none", steps=2))
    train(options(tmp_path / "some", steps=2, workers=1))
    assert same(tmp_path / "none", tmp_path / "some")


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    train(options(tmp_path, steps=1))
    with pytest.raises(ValueError, match="holds a run already"):
        train(options(tmp_path, steps=1))


def test_resuming_nothing_and_a_damaged_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="start without --resume"):
        train(options(tmp_path), resume=True)
    (tmp_path / "state.pt").write_bytes(b"PK broken")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        train(options(tmp_path), resume=True)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = options(tmp_path, stop_minutes=0.0)
    train(run)
    before = (tmp_path / "state.pt").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert train(run, resume=True).step == 2
        assert (tmp_path / "state.pt").read_bytes() == before
        with pytest.raises(OSError, match="could not be saved"):
            train(options(tmp_path), resume=True)
    assert not list(tmp_path.glob("*.part"))
    assert train(run, resume=True).step == 2


def test_a_loss_that_is_no_number_stops_with_the_batch_saved(tmp_path: Path) -> None:
    task = PvsTask(options(tmp_path))
    with torch.no_grad():
        task.model.no_mem_embed.fill_(float("nan"))
    with pytest.raises(TrainingFailedError, match="not a number at step 0"):
        run_task(task, task.options)
    (saved,) = tmp_path.glob("failed_step0_rank0.pt")
    content = state.load_state(saved)
    assert content["micro_batches"] == [0, 1]
    assert content["batches"][0]["images"].dtype == torch.uint8


class Flaky:
    """Clips of which some numbers cannot be read."""

    def __init__(self, bad: int) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Clip:
        if index < self.bad:
            raise OSError(f"clip {index} is truncated")
        return toy_clip(index)


def test_corrupt_samples_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    sys.modules["sam2.data.toy"].Flaky = Flaky  # type: ignore[attr-defined]
    data = [{"source": "toy.Flaky", "args": {"bad": 3}, "batch": 4}]
    train(options(tmp_path / "few", data=data, steps=5, max_skipped=0.5))
    lines = (tmp_path / "few" / "skipped_rank0.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert {r["sample"] for r in listed} == {"toy.Flaky[0]", "toy.Flaky[1]", "toy.Flaky[2]"}
    assert "is truncated" in listed[0]["reason"]
    data[0]["args"] = {"bad": 15}
    data[0]["batch"] = 30
    with pytest.raises(TrainingFailedError, match=r"samples are corrupt, more than max_skipped 0\.05"):
        train(options(tmp_path / "many", data=data, pvs={"clicks": 0}))


class Bare:
    """Clips whose masks are empty."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Clip:
        clip = toy_clip(index)
        return Clip(clip.frames, np.zeros_like(clip.masks), clip.object_ids)


def test_a_source_of_empty_masks_is_named(tmp_path: Path) -> None:
    sys.modules["sam2.data.toy"].Bare = Bare  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"'toy.Bare': no clip of 8 tries .*\(no object is visible\)"):
        train(options(tmp_path, data=[{"source": "toy.Bare"}]))


def test_every_clip_comes_once_an_epoch() -> None:
    sys.modules["sam2.data.toy"].Flaky = Flaky  # type: ignore[attr-defined]
    batches = MicroBatches([SourceOptions("toy.Flaky", {"bad": 0}, batch=5, flip=0)], 64, 0, 8)
    numbers = [batches._clip_number(0, q) for q in range(40)]
    assert sorted(numbers[:20]) == sorted(numbers[20:]) == list(range(20))
    assert numbers[:20] != numbers[20:]
    assert torch.equal(batches[3].batch.images, batches[3].batch.images)


def test_frames_of_a_sample() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        numbers = pick_frames(9, 4, 3, rng)
        assert len(set(np.diff(numbers))) == 1
        assert min(numbers) >= 0
        assert max(numbers) <= 8
    assert set(pick_frames(2, 5, 1, rng)) == {0, 1}
    assert pick_frames(1, 3, 1, rng) == [0, 0, 0]


def test_samples_are_resized_and_hold_visible_objects_only() -> None:
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    masks = np.zeros((2, 3, 40, 80), bool)
    masks[:, 0, 10:30, 10:40] = True
    masks[1, 1, 10:30, 10:40] = True
    clip = Clip(frames, masks, (1, 2, 3))
    still = SourceOptions("x", frames=2, reverse=0, flip=0)
    sample = make_sample(clip, [0, 1], still, 32, np.random.default_rng(0))
    assert sample is not None
    assert sample.frames.shape == (2, 3, 32, 32)
    assert sample.masks.shape == (2, 1, 32, 32)
    assert bool(sample.masks[0, 0, 8:24, 4:16].all())
    assert int(sample.masks[0, 0].sum()) == 16 * 12
    clip = Clip(frames, masks & False, (1, 2, 3))
    assert make_sample(clip, [0], still, 32, np.random.default_rng(0)) is None


def test_windows_and_colours_change_picture_and_masks_together() -> None:
    clip = toy_clip(3, frames=2)
    changed = SourceOptions("x", frames=2, crop=0.5, jitter=0.3)
    for seed in range(20):
        sample = make_sample(clip, [0, 1], changed, 64, np.random.default_rng(seed))
        if sample is None:
            continue
        # disks are brighter than any of the ground
        light = sample.frames.float().mean(dim=1)
        inside = sample.masks.any(dim=1)
        assert float(light[inside].mean()) > 1.5 * float(light[~inside].mean())


def test_only_the_frames_taken_are_read(tmp_path: Path) -> None:
    for folder in ("JPEGImages/a", "Annotations/a"):
        (tmp_path / folder).mkdir(parents=True)
    clip = toy_clip(0, frames=5)
    for t in range(5):
        Image.fromarray(clip.frames[t]).save(tmp_path / "JPEGImages" / "a" / f"{t:05d}.jpg")
        labels = Image.fromarray((clip.masks[t] * np.arange(1, 4)[:, None, None]).sum(0).astype(np.uint8))
        labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        labels.save(tmp_path / "Annotations" / "a" / f"{t:05d}.png")
    (tmp_path / "JPEGImages" / "a" / "00004.jpg").write_bytes(b"damaged")
    source = open_source("readers.open_dataset", {"path": str(tmp_path)})
    options = SourceOptions("readers.open_dataset", frames=2, reverse=0, flip=0)
    wanted = [pick_frames(5, 2, 1, np.random.default_rng(seed)) for seed in range(12)]
    assert {4 in numbers for numbers in wanted} == {True, False}
    for seed, numbers in enumerate(wanted):
        if 4 in numbers:
            with pytest.raises(ValueError, match=r"00004\.jpg"):
                read_clip(source, 0, options, np.random.default_rng(seed))
        else:
            found, places = read_clip(source, 0, options, np.random.default_rng(seed))
            assert len(found) == 2
            assert places == [0, 1]


def test_frozen_parts_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = options(tmp_path, steps=2, optim={"freeze": ["image_encoder.*"], "warmup": 0})
    task = PvsTask(run)
    before = {n: v.clone() for n, v in task.model.state_dict().items()}
    run_task(task, run)
    after = weights(tmp_path)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved
    assert not any(n.startswith("image_encoder") for n in moved)


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    plain = toy_run(tmp_path)["model"]["overrides"]
    paths = [*plain, "++model.image_encoder.trunk.drop_path_rate=0.5"]
    train(options(tmp_path / "plain", steps=1))
    train(options(tmp_path / "kept", steps=1, model={"overrides": paths}))
    train(options(tmp_path / "again", steps=1, model={"overrides": paths, "checkpoint_activations": True}))
    assert same(tmp_path / "kept", tmp_path / "again")
    assert not same(tmp_path / "kept", tmp_path / "plain")


def test_weights_to_start_from(tmp_path: Path) -> None:
    train(options(tmp_path / "first", steps=1))
    model = {**toy_run(tmp_path)["model"], "init": str(tmp_path / "first" / "model.safetensors")}
    task = PvsTask(options(tmp_path / "second", model=model, seed=1))
    exported = load_file(tmp_path / "first" / "model.safetensors")
    assert all(torch.equal(v, exported[n]) for n, v in task.model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stpes": 3}, r"unknown option stpes: did you mean 'steps'\?"),
        ({"optim": {"learning": 1}}, "unknown option optim.learning"),
        ({"pvs": {"click": "many"}}, "pvs.click is 'many'; it must be a number"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"steps": 0}, "steps is 0"),
        ({"shard": "fsdp"}, "shard is 'fsdp'; it must be fsdp2"),
        ({"bf16": 1}, "bf16 is 1; it must be true or false"),
        ({"optim": {"schedule": "cosin"}}, "schedule is 'cosin'"),
        ({"data": []}, "data is empty"),
        ({"data": [{"batch": 2}]}, r"option data\[0\].source is missing"),
        ({"data": {"source": "x"}}, "data is {'source': 'x'}; it must be a list"),
        ({"optim": {"betas": [0.9]}}, "must be a list of 2"),
    ],
)
def test_mistakes_in_a_run_file_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(toy_run(tmp_path / "out", **changes)))
    with pytest.raises(ValueError, match=words):
        read_file(RunOptions, file)


def test_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("out: x\noptim: {lr: 4e-4, trunk_lr: null}\ndata: [{source: a}]\n")
    run = read_file(RunOptions, file)
    assert run.optim.lr == 4e-4
    assert run.optim.trunk_lr is None
    assert read_options(RunOptions, as_plain(run)) == run
