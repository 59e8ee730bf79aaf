"""Training from random weights in phases, on generated scenes: what made the packaged model.

    python -m sam2.training.pretrain_dense sam2/training/recipes/mini.yaml

A phase trains on pools of scenes (`sam2 data make`; those missing are written first) and starts
from the weights of the one before. Beside the prompts' losses stands a dense one (`sam2.training.dense`), and
in the prompts' own cross-entropy other objects weigh more than the ground, without which a model from random
weights answers every prompt with all objects at once. Interrupted, the command goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam2.build_sam import resolve_model
from sam2.checkpoint import load_checkpoint, save_checkpoint
from sam2.config import instantiate, load_config
from sam2.data.pool import ClipPool, write_pool
from sam2.data.recipe import Recipe
from sam2.modeling.outputs import FrameFeatures
from sam2.modeling.sam2_base import SAM2Base
from sam2.training.batches import LoadedBatch
from sam2.training.dense import (
    AffinityHead,
    Labels,
    raise_layer_scales,
    rebalance,
    scale_penalty,
    set_dropout,
    spread_masks,
    start_weights,
)
from sam2.training.distributed import World
from sam2.training.loop import STATE, Loop, Summary, TrainingFailedError, run_task
from sam2.training.losses import LossOptions, dice_loss, mask_iou, weighted_sum
from sam2.training.muon import Muon
from sam2.training.options import LoopOptions, read_options
from sam2.training.pictures import prediction_sheet
from sam2.training.pvs import Batch, Outcome, PvsOptions, encode_clips, encode_pictures, interact, pvs_metrics
from sam2.training.scenes import GROUND, SceneBatch, SceneBatches, SceneOptions


@dataclass(frozen=True)
class PoolOptions:
    """A pool of scenes, written where it is not there yet, and what a phase takes from it."""

    folder: str
    """Where it is, or will be."""
    count: int = 8192
    """Scenes."""
    size: int = 256
    """Side of its pictures, pixels."""
    length: int = 1
    """Frames of a scene."""
    difficulty: tuple[float, float] = (0.0, 0.6)
    """Bounds of the scenes' difficulty."""
    seed: int = 0
    """Pools of different seeds share no scene."""
    without: tuple[str, ...] = ()
    """What its scenes shall not have: names of `sam2.data.without.NAMES`."""
    cutouts: tuple[str, ...] = ()
    """Folders of pictures with an alpha channel, put in place of some objects (`sam2.data.cutouts`)."""
    cutout_share: float = 0.5
    """Share of the objects that are such pictures."""
    take: SceneOptions = field(default_factory=SceneOptions)


@dataclass(frozen=True, kw_only=True)
class PhaseOptions(LoopOptions):
    """One phase."""

    pools: tuple[PoolOptions, ...]
    """Where scenes come from."""
    config: str = "mini"
    """The model."""
    start: str | None = None
    """Weights to start from in place of the phase before: a checkpoint, or the name of a model (`mini`). They
    are taken as they are, so `rebalance` and `spread` are for random beginnings."""
    size: int = 128
    """Side of the model's input in this phase, pixels."""
    muon: float | None = None
    """Peak learning rate of Muon for the matrices of attention and MLPs; AdamW has the rest, or all."""
    anchors: int = 64
    """Pixels a picture whose affinity with all others is learnt."""
    dense: float = 1.0
    """Weight of the dense losses; 0 computes none."""
    prompts: bool = True
    """Prompts are played; without them the dense losses are all there is."""
    rivals: float = 0.3
    """Weight of other objects' pixels in a mask's cross-entropy (its own have 0.5, the ground the rest)."""
    echo: float = 1.0
    """Share of the prompts' gradient that reaches the image features."""
    single_mask: bool = False
    """One mask for every prompt, so that none can hedge; it teaches to hear prompts."""
    spread: bool = False
    """Begin with the masks for ambiguous prompts as near copies of the single one."""
    rebalance: bool = False
    """Begin by moving the feature maps to their wanted scale."""
    dropout: float | None = None
    """In place of the model's own; a small model that fits too little has no use for any."""
    layer_scale: float | None = None
    """Begin with the layer scales of the memory encoder at no less: from the 1e-6 of the configuration, what
    lies behind them learns nothing in a short run."""
    pvs: PvsOptions = field(default_factory=partial(PvsOptions, mask=0, click=0.6, box=0.4, clicks=0))
    """How prompts are played."""
    loss: LossOptions = field(
        default_factory=partial(LossOptions, mask_loss="balanced", mask=1.0, presence=0.3)
    )
    """Weights of the prompts' losses."""


class Student(nn.Module):
    """The model and the head that is dropped after training."""

    def __init__(self, sam: SAM2Base) -> None:
        super().__init__()
        self.sam = sam
        self.head = AffinityHead(sam.hidden_dim)


class MuonAdamW:
    """Muon for the matrices of transformers, AdamW for everything else, as one optimiser."""

    def __init__(self, model: nn.Module, options: PhaseOptions) -> None:
        assert options.muon is not None
        matrices, weights, others = [], [], []
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            inner = any(part in name for part in ("trunk.blocks", "transformer", "memory_attention"))
            if inner and p.ndim == 2 and min(p.shape) >= 32:
                matrices.append(p)
            elif p.ndim >= 2 and "embed" not in name and "token" not in name:
                weights.append(p)
            else:
                others.append(p)
        optim = options.optim
        groups = [
            {"params": weights, "weight_decay": optim.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas)]
        if matrices:
            self.parts.append(Muon(matrices, lr=options.muon, weight_decay=0.1))
        for group in self.param_groups:
            group["peak_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """One step of both; a parameter without a gradient stays."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


def rival_losses(
    outcomes: list[Outcome], batch: SceneBatch, options: LossOptions, rivals: float
) -> dict[str, Tensor]:
    """The prompts' losses as in `training_losses`, `total` included, but for the cross-entropy: a mask's own
    pixels weigh 0.5 together, those of other objects `rivals`, and the ground's the rest.
    """
    size = outcomes[0].targets.shape[-1]
    objects = ((batch.labels > 0) & (batch.labels < GROUND)).float()
    objects_TBHW = F.adaptive_avg_pool2d(objects, size)
    count = sum(outcome.targets.shape[1] for outcome in outcomes)
    terms = {
        name: batch.masks.new_zeros((), dtype=torch.float32) for name in ("mask", "dice", "iou", "presence")
    }
    for outcome in outcomes:
        picture = batch.picture[outcome.objects]
        for steps, truth, shown in zip(outcome.frames, outcome.targets, objects_TBHW, strict=True):
            present = (truth > 0.5).flatten(1).any(dim=1).float()
            weight = _rival_weight(truth, shown[picture], rivals)[:, None]
            for step in steps:
                logits = step.logits.float()
                target = truth[:, None].expand_as(logits)
                entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
                mask = (entropy * weight).sum((-2, -1))
                dice = dice_loss(logits, target)
                best = (options.mask * mask + options.dice * dice).argmin(dim=1, keepdim=True)
                iou = (step.iou.float() - mask_iou(logits, target)).abs().mean(dim=1)
                presence = F.binary_cross_entropy_with_logits(
                    step.object_score.float()[:, 0], present, reduction="none"
                )
                terms["mask"] = terms["mask"] + (mask.gather(1, best)[:, 0] * present).sum() / count
                terms["dice"] = terms["dice"] + (dice.gather(1, best)[:, 0] * present).sum() / count
                terms["iou"] = terms["iou"] + (iou * present).sum() / count
                terms["presence"] = terms["presence"] + presence.sum() / count
    terms["total"] = weighted_sum(terms, options)
    return terms


def _rival_weight(truth_NHW: Tensor, objects_NHW: Tensor, rivals: float) -> Tensor:
    """Weights of pixels; those of each object sum to at most 1."""
    other = (objects_NHW - truth_NHW).clamp(min=0)
    ground = (1 - torch.maximum(objects_NHW, truth_NHW)).clamp(min=0)
    area = [part.sum((1, 2), keepdim=True) for part in (truth_NHW, other, ground)]
    for_other = torch.where(area[1] > 4, rivals, 0.0)
    for_ground = torch.where(area[2] > 4, 0.5 - for_other, 0.0)
    own = 0.5 * truth_NHW / area[0].clamp(min=1)
    return own + for_other * other / area[1].clamp(min=1) + for_ground * ground / area[2].clamp(min=1)


def dense_labels(batch: SceneBatch) -> Labels:
    """Labels of all frames' pixels at stride 4, frame by frame as features are."""
    label = batch.labels.flatten(0, 1)[:, 2::4, 2::4].long()
    return Labels(label, (label == 0) | (label >= GROUND))


class PhaseTask:
    """A phase, as the loop sees it."""

    def __init__(self, options: PhaseOptions, start: Path | None) -> None:
        """start: the state of the phase before; `options.start` goes before it."""
        self.options = options
        torch.manual_seed(options.seed)
        sam: SAM2Base = instantiate(load_config(options.config, [f"model.image_size={options.size}"]))
        self.model = Student(sam)
        if options.start is not None:
            config, weights = resolve_model(options.start)
            if weights is None:
                raise ValueError(f"{options.start!r} ({config}) names no weights to start from")
            load_checkpoint(sam, weights)
        elif start is None:
            start_weights(sam)
        else:
            state = torch.load(start, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["ema"]["average"])
        if options.single_mask:
            sam.multimask_output_in_sam = False
        if options.dropout is not None:
            set_dropout(sam, options.dropout)
        if options.layer_scale is not None:
            raise_layer_scales(sam, options.layer_scale)
        pools = [_open_pool(pool) for pool in options.pools]
        total = options.steps * options.accumulate
        takes = [pool.take for pool in options.pools]
        self.batches = SceneBatches(pools, takes, options.size, options.seed, total)
        self._shown: tuple[Batch, list[Outcome]] | None = None
        if options.spread:
            spread_masks(sam)
        if options.rebalance:
            seen = torch.cat([self.batches[k].batch.images.flatten(0, 1) for k in range(min(4, total))])
            with torch.no_grad():
                maps = encode_pictures(sam, seen).maps
            rebalance(sam, self.model.head, maps)

    def losses(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        """Terms of all losses and what `pvs_metrics` measures."""
        # On a CPU the fused kernel's backward pass costs four times that of plain matrix products.
        fused = contextlib.nullcontext() if device.type != "cpu" else sdpa_kernel(SDPBackend.MATH)
        with fused:
            return self._losses(loaded, device)

    def _losses(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        options, sam = self.options, self.model.sam
        batch = loaded.batch.to(device)
        assert isinstance(batch, SceneBatch)
        features = encode_clips(sam, batch.images, options.pvs)
        terms: dict[str, Tensor] = {}
        total = batch.masks.new_zeros((), dtype=torch.float32)
        if features.embedding.requires_grad:
            terms["scale"] = scale_penalty(features.maps)
            total = total + 0.1 * terms["scale"]
        if options.dense:
            dense = self.model.head.losses(features.maps, dense_labels(batch), options.anchors)
            terms |= dense
            total = total + options.dense * (dense["affinity"] + 0.3 * dense["edge"])
        if options.prompts:
            heard = [m * options.echo + m.detach() * (1 - options.echo) for m in features.maps]
            outcomes = interact(sam, batch, options.pvs, FrameFeatures(heard, features.encodings))
            self._shown = (batch, outcomes)
            prompted = rival_losses(outcomes, batch, options.loss, options.rivals)
            total = total + prompted["total"]
            terms |= {**prompted, **pvs_metrics(outcomes)}
        return {**terms, "total": total}

    def picture(self) -> Image.Image | None:
        """The last micro-batch: truth, first and last prediction."""
        return prediction_sheet(*self._shown) if self._shown else None

    def export(self, path: Path) -> None:
        """The model without the head, in the official layout."""
        save_checkpoint(self.model.sam, path)


class PhaseLoop(Loop):
    """The loop with Muon where a phase asks for it."""

    def __init__(self, task: PhaseTask, options: PhaseOptions, device: torch.device, here: World) -> None:
        super().__init__(task, options, device, here)
        if options.muon is not None:
            self.optimizer = MuonAdamW(task.model, options)  # type: ignore[assignment]


def _open_pool(options: PoolOptions) -> ClipPool:
    """The pool, written with all cores by the first process where it is not whole; others wait for it."""
    recipe = Recipe(
        options.size,
        options.length,
        options.difficulty,
        seed=options.seed,
        without=options.without,
        cutouts=options.cutouts,
        cutout_share=options.cutout_share,
    )
    if int(os.environ.get("RANK", "0")) == 0:
        return write_pool(options.folder, recipe, options.count, os.cpu_count() or 1, report=True)
    folder = Path(options.folder)
    while not (folder / "pool.json").exists() or len(ClipPool(folder)) < options.count:
        time.sleep(1)
    return ClipPool(folder)


def read_phases(path: str | Path, start: str | None = None) -> list[PhaseOptions]:
    """The phases of a file: each entry of `phases` over what `common` says, pools taken from `pools` by name.

    start: weights for the first phase in place of those that the file names.

    Raises ValueError for a file that is not so, or an option or pool that is not known.
    """
    tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(tree, dict) or set(tree) != {"out", "common", "pools", "phases"}:
        raise ValueError(f"{path} must hold the keys out, common, pools and phases, and no other")
    phases = []
    for number, own in enumerate(tree["phases"], 1):
        values = {**tree["common"], **own}
        pools = []
        for name, take in values["pools"].items():
            if name not in tree["pools"]:
                raise ValueError(
                    f"phase {number} takes from pool {name!r}, known are {', '.join(tree['pools'])}"
                )
            pools.append({**tree["pools"][name], "take": take})
        if number == 1 and start is not None:
            values["start"] = start
        values |= {"pools": pools, "out": str(Path(tree["out"]) / f"phase{number}")}
        phases.append(read_options(PhaseOptions, values, f"phase {number}"))
    return phases


def run_phases(phases: Sequence[PhaseOptions]) -> Summary:
    """Runs phases one after another, each from the weights of the one before, or goes on where they stopped.

    The model is then in `model.safetensors` of the last phase's folder.
    """
    summary = Summary(0, True)
    start: Path | None = None
    for options in phases:
        state = Path(options.out) / STATE
        summary = run_task(PhaseTask(options, start), options, resume=state.exists(), loop=PhaseLoop)
        if not summary.finished:
            break
        start = state
    return summary


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser("python -m sam2.training.pretrain_dense", description=__doc__)
    parser.add_argument("run", help="YAML file of phases")
    parser.add_argument(
        "--start", metavar="FILE", help="weights to begin with, in place of those the file names"
    )
    args = parser.parse_args(arguments)
    try:
        summary = run_phases(read_phases(args.run, args.start))
    except (ValueError, OSError, TrainingFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'finished' if summary.finished else 'stopped'} at step {summary.step} of its last phase")
    return 0


if __name__ == "__main__":
    sys.exit(main())
