"""`finetune`: a few dozen labelled pictures or a few clips, one small machine, minutes.

A part of the data is held out before anything else. By default the image encoder stays as it is, and its
features are computed once for each picture and its mirror image; what learns is the mask decoder, the prompt
encoder and the memory, on those features. With `trunk="lora"` the trunk learns too, through adapters.
Training stops when the held-out score no longer rises, or when the time is over; the best weights are kept,
the ones that one began with where nothing was better.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2.build_sam import build_sam2, resolve_model
from sam2.checkpoint import save_checkpoint
from sam2.data.readers import ClipDataset, open_dataset
from sam2.modeling.outputs import FrameFeatures
from sam2.modeling.sam2_base import SAM2Base
from sam2.training.batches import Sample, collate, make_sample
from sam2.training.ema import Ema
from sam2.training.loop import stop_requested
from sam2.training.lora import LoraOptions, add_lora, merge_lora
from sam2.training.losses import LossOptions
from sam2.training.optim import OptimOptions, freeze, make_optimizer, set_rate
from sam2.training.options import SourceOptions
from sam2.training.pvs import Batch, PvsOptions, encode_pictures, interact, pvs_losses
from sam2.training.run import NOT_READ
from sam2.training.score import Score, held_out_score
from sam2.training.state import save_aside

TRUNKS = ("frozen", "lora")
CACHED = ("image_encoder.*", "sam_mask_decoder.conv_s*")
"""Parameters that cached features already passed."""
FAILED = "failed_batch.pt"
"""The batch whose loss was no number, under the folder of the result."""


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """Fine-tuning; the defaults suit 50 pictures on two CPU cores."""

    data: str
    """A data set that `sam2.data.readers.open_dataset` opens."""
    out: str
    """Folder for `model.safetensors` and `finetune.json`."""
    model: str | None = None
    """Anything `resolve_model` knows; the default model where it is not given."""
    checkpoint: str | None = None
    """Its weights, where `model` is a configuration."""
    overrides: tuple[str, ...] = ()
    """Override strings for its configuration."""
    trunk: str = "frozen"
    """`frozen` (features cached) or `lora` (the trunk learns through adapters: better where pictures look
    unlike anything the model knows, several times slower)."""
    held_out: float = 0.2
    """Share of pictures or clips to judge by; at least one."""
    minutes: float = 10.0
    """Time for everything together."""
    steps: int = 2000
    """Optimiser steps at most."""
    check_steps: int = 50
    """Steps between looks at the held-out score."""
    patience: int = 6
    """Stop after so many looks without a better score."""
    lr: float = 2e-4
    """Peak learning rate."""
    batch: int | None = None
    """Pictures (or clips) a step; fitted to the memory where it is not given."""
    objects: int = 8
    """At most so many objects of a picture a step."""
    frames: int = 4
    """Frames of a clip a step."""
    clicks: int = 3
    """Correction clicks a step."""
    device: str | None = None
    """The best there is where it is not given."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise ValueError(f"trunk is {self.trunk!r}; it must be one of {', '.join(TRUNKS)}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; it must lie between 0 and 1")
        for name in ("steps", "check_steps", "patience", "objects", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass
class FinetuneResult:
    """What came of it: held-out scores before and after, and why it stopped."""

    before: Score
    after: Score
    steps: int
    reason: str
    model: Path
    skipped: list[str] = field(default_factory=list)
    """Clips that could not be read."""


def split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Clip numbers to learn from and to judge by.

    Raises ValueError where there are fewer than two clips.
    """
    if count < 2:
        raise ValueError(f"the data set holds {count} clips; fine-tuning needs at least 2, one to judge by")
    held = min(count - 1, max(1, round(share * count)))
    order = np.random.default_rng(seed).permutation(count)
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())


def fit_batch(device: torch.device, image_size: int, frames: int, count: int) -> int:
    """Pictures (or clips) a step that the memory surely takes: 1 to 8, at most `count`.

    A step needs about 2 kB for each pixel of its pictures; half of what is free may go to it.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = _free_memory()
    each = 2048 * image_size**2 * frames
    return max(1, min(8, count, int(free / 2 / each)))


def _free_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 4 * 2**30
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(sizes["MemAvailable"].split()[0]) * 1024


class _Pictures:
    """All samples in memory at the model's size, each with its mirror image, and features where cached."""

    def __init__(self, samples: Sequence[Sample], model: SAM2Base, cached: bool) -> None:
        mirrored = [Sample(s.frames.flip(-1), s.masks.flip(-1)) for s in samples]
        self.samples = [*samples, *mirrored]
        self.features: list[FrameFeatures] | None = None
        if cached:
            self.features = [_features(model, s.frames) for s in self.samples]

    def batches(self, size: int, objects: int, seed: int) -> Iterator[tuple[Batch, FrameFeatures | None]]:
        """Batches without end; an epoch takes each clip once, as it is or mirrored."""
        rng = np.random.default_rng(seed)
        half = len(self.samples) // 2
        waiting: list[int] = []
        while True:
            while len(waiting) < size:
                waiting += (rng.permutation(half) + half * rng.integers(0, 2, half)).tolist()
            chosen, waiting = waiting[:size], waiting[size:]
            picked = []
            for i in chosen:
                masks = self.samples[i].masks
                some = torch.from_numpy(rng.permutation(masks.shape[1])[:objects])
                picked.append(Sample(self.samples[i].frames, masks[:, some]))
            features = None
            if self.features is not None:
                features = _joined([self.features[i] for i in chosen])
            yield collate(picked), features


@torch.no_grad()
def _features(model: SAM2Base, frames: Tensor) -> FrameFeatures:
    """Features of uint8 frames [T, 3, S, S], kept in half precision on the CPU."""
    training = model.training
    model.eval()
    parts = [encode_pictures(model, frame[None].to(model.device)) for frame in frames]
    model.train(training)
    maps = [torch.cat(levels).to("cpu", torch.float16) for levels in zip(*(p.maps for p in parts))]
    return FrameFeatures(maps, [e[:1].cpu() for e in parts[0].encodings])


def _joined(features: Sequence[FrameFeatures]) -> FrameFeatures:
    """Features of several clips, frame by frame [T * B, ...]."""
    maps = [torch.stack(levels, dim=1).flatten(0, 1).float() for levels in zip(*(f.maps for f in features))]
    return FrameFeatures(maps, features[0].encodings)


def _on(features: FrameFeatures | None, device: torch.device) -> FrameFeatures | None:
    if features is None:
        return None
    return FrameFeatures([m.to(device) for m in features.maps], [e.to(device) for e in features.encodings])


def _read(
    data: ClipDataset, numbers: Sequence[int], frames: int, size: int, seed: int, skipped: list[str]
) -> list[Sample]:
    """Samples of these clips: a still each, or a run of frames spread over a clip; bad ones are listed."""
    whole = SourceOptions("", frames=frames, objects=10**6, reverse=0, flip=0)
    samples = []
    for number in numbers:
        try:
            count = data.num_frames(number)
            chosen = sorted({i * count // frames for i in range(frames)}) if frames > 1 else [0]
            clip = data.load(number, chosen)
            places = [min(i, len(chosen) - 1) for i in range(frames)]
            sample = make_sample(clip, places, whole, size, np.random.default_rng(seed))
        except (ValueError, OSError) as error:
            skipped.append(str(error))
            continue
        if sample is None:
            skipped.append(f"{data.names[number]}: no object in its first frame")
            continue
        samples.append(sample)
    return samples


def _prepared(options: FinetuneOptions) -> SAM2Base:
    """The model with what learns set to learn."""
    config, checkpoint = resolve_model(options.model)
    model = build_sam2(
        config,
        options.checkpoint or checkpoint,
        device=options.device,
        mode="train",
        hydra_overrides_extra=options.overrides,
    )
    freeze(model, NOT_READ)
    if options.trunk == "lora":
        rest = ("sam_*", "memory_*", "obj_ptr*", "no_*", "mask_downsample.*", "image_encoder.neck.*")
        targets = ("image_encoder.trunk.*.attn.*", "image_encoder.trunk.*.mlp.layers.*")
        add_lora(model, LoraOptions(rank=8, alpha=16, targets=targets, train=rest))
        freeze(model, NOT_READ)
    else:
        freeze(model, CACHED)
    return model


def finetune(options: FinetuneOptions, report: Any = print) -> FinetuneResult:
    """Fine-tunes a model and writes the best of it; `report` receives lines of progress.

    Raises ValueError where the data set has too few clips that can be read.
    """
    start = time.monotonic()
    torch.manual_seed(options.seed)
    model = _prepared(options)
    device = model.device
    data = open_dataset(options.data)
    learn, judge = split(len(data), options.held_out, options.seed)
    longest = max((data.num_frames(i) for i in learn), default=1)
    frames = 1 if longest == 1 else options.frames
    skipped: list[str] = []
    size = model.image_size
    training = _read(data, learn, frames, size, options.seed, skipped)
    judged = _read(data, judge, frames, size, options.seed, skipped)
    if not training or not judged:
        raise ValueError(f"{options.data}: too few clips can be read ({'; '.join(skipped[:3])})")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    pictures = _Pictures(training, model, options.trunk == "frozen")
    known = None if pictures.features is None else [_features(model, s.frames) for s in judged]

    before = held_out_score(model, judged, known)
    report(f"before: {before} on {len(judged)} held-out clips; learning from {len(training)}")
    batch = options.batch or fit_batch(device, size, frames, len(training))
    optim = OptimOptions(lr=options.lr, warmup=min(50, options.steps // 10), weight_decay=0.01, clip=1.0)
    optimizer = make_optimizer(model, optim)
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    ema = Ema(model, 0.98)
    pvs, loss = PvsOptions(clicks=options.clicks), LossOptions()
    best, best_weights = before, {n: v.clone() for n, v in model.state_dict().items()}
    waited, reason, step = 0, "all steps done", 0
    stream = pictures.batches(batch, options.objects, options.seed)
    with stop_requested() as stop:
        while step < options.steps:
            samples, features = next(stream)
            set_rate(optimizer, step, options.steps, optim)
            optimizer.zero_grad(set_to_none=True)
            outcomes = interact(model, samples.to(device), pvs, _on(features, device))
            total = pvs_losses(outcomes, loss)["total"]
            if not torch.isfinite(total):
                save_aside({"step": step, **vars(samples)}, out / FAILED)
                reason = f"the loss was no number; the batch is in {out / FAILED}"
                break
            total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            ema.update(model)
            step += 1
            late = time.monotonic() - start > 60 * options.minutes
            if step % options.check_steps == 0 or step == options.steps or late or stop[0]:
                with ema.applied(model):
                    score = held_out_score(model, judged, known)
                    improved = score.mean > best.mean
                    if improved:
                        best, best_weights = score, {n: v.clone() for n, v in model.state_dict().items()}
                waited = 0 if improved else waited + 1
                report(f"step {step}: loss {float(total.detach()):.3f}, held out {score}")
            if late or stop[0]:
                reason = "the time was over" if late else "interrupted"
                break
            if waited >= options.patience:
                reason = f"no better for {waited} looks"
                break

    model.load_state_dict(best_weights)
    merge_lora(model)
    save_checkpoint(model, out / "model.safetensors")
    result = FinetuneResult(before, best, step, reason, out / "model.safetensors", skipped)
    _write_report(out / "finetune.json", options, result, time.monotonic() - start)
    report(f"after: {best} ({reason}, {step} steps)")
    return result


def _write_report(path: Path, options: FinetuneOptions, result: FinetuneResult, seconds: float) -> None:
    content = {
        "options": vars(options),
        "before": vars(result.before),
        "after": vars(result.after),
        "steps": result.steps,
        "reason": result.reason,
        "skipped": result.skipped,
        "seconds": round(seconds, 1),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
