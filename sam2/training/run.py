"""Training for promptable segmentation: a model, sources of clips, the simulated user and the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, resolve_model
from sam2.checkpoint import load_checkpoint, read_state_dict, save_checkpoint
from sam2.config import SHORT_NAMES, instantiate, load_config
from sam2.modeling.layers import MLP
from sam2.modeling.sam2_base import SAM2Base
from sam2.training.batches import LoadedBatch, MicroBatches
from sam2.training.loop import Summary, run_task
from sam2.training.lora import add_lora, merged_copy
from sam2.training.options import ModelOptions, RunOptions
from sam2.training.pictures import prediction_sheet
from sam2.training.pvs import Batch, Outcome, interact, pvs_losses, pvs_metrics

NOT_READ = ("no_mem_pos_enc",)
"""Parameters that every checkpoint holds and no step reads."""


def build_model(options: ModelOptions) -> SAM2Base:
    """The model to train, on the CPU, from random weights or `init`."""
    model: SAM2Base = instantiate(load_config(options.config, options.overrides))
    if options.init is None or options.init_partial:
        initialise(model)
    if options.init is not None:
        named = options.init in SHORT_NAMES or options.init in HF_MODEL_ID_TO_FILENAMES
        weights = resolve_model(options.init)[1] if named else options.init
        assert weights is not None, "models with a name have weights"
        if options.init_partial:
            take_fitting(model, weights)
        else:
            load_checkpoint(model, weights)
    for name in NOT_READ:
        model.get_parameter(name).requires_grad_(False)
    if options.lora is not None:
        add_lora(model, options.lora)
    if options.checkpoint_activations:
        recompute_activations(model)
    return model


def initialise(model: SAM2Base) -> None:
    """Draws the mask decoder's weights anew, Glorot's way, from torch's global generator.

    Torch's own draw is three times smaller in variance for square layers; from it a model ignores its prompts
    for about twice as many steps. Objects count as present at first, for blanked masks teach memory nothing.
    """
    for module in model.sam_mask_decoder.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
    if model.pred_obj_scores:
        head = model.sam_mask_decoder.pred_obj_score_head
        last = head.layers[-1] if isinstance(head, MLP) else head
        nn.init.constant_(last.bias, 2.0)  # type: ignore[arg-type]


def take_fitting(model: nn.Module, path: str) -> list[str]:
    """Loads those weights of a checkpoint that the model has in the same shape; returns their names.

    Raises ValueError where there is none.
    """
    own = model.state_dict()
    fitting = {n: v for n, v in read_state_dict(path).items() if n in own and own[n].shape == v.shape}
    if not fitting:
        raise ValueError(f"{path} holds no weight that fits the model")
    model.load_state_dict(fitting, strict=False)
    return sorted(fitting)


def recompute_activations(model: SAM2Base) -> None:
    """Makes the trunk's blocks and the memory attention's layers keep their inputs alone for the backward."""
    for block in [*model.image_encoder.trunk.blocks, *model.memory_attention.layers]:  # type: ignore[union-attr, misc]
        _recompute(block)


def _recompute(module: nn.Module) -> None:
    forward = module.forward

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    module.forward = recomputed


class PvsTask:
    """Promptable segmentation, as the loop sees it."""

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        self.model = build_model(options.model)
        total = options.steps * options.accumulate
        self.batches = MicroBatches(options.data, self.model.image_size, options.seed, total)
        self._shown: tuple[Batch, list[Outcome]] | None = None

    def losses(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        """Terms of the objective and what `pvs_metrics` measures."""
        batch = loaded.batch.to(device)
        outcomes = interact(self.model, batch, self.options.pvs)
        self._shown = (batch, outcomes)
        return {**pvs_losses(outcomes, self.options.loss), **pvs_metrics(outcomes)}

    def picture(self) -> Image.Image | None:
        """The last micro-batch: truth, first and last prediction."""
        return prediction_sheet(*self._shown) if self._shown else None

    def export(self, path: Path) -> None:
        """The official layout, adapters merged."""
        save_checkpoint(merged_copy(self.model), path)


def train(options: RunOptions, resume: bool = False) -> Summary:
    """Runs (or goes on with) the training that the options describe."""
    return run_task(PvsTask(options), options, resume)
