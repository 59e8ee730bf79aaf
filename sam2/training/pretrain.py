"""`pretrain`: masked-autoencoder pretraining of a model's trunk, by the same loop as all training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalize
from sam2.training.batches import LoadedBatch, MicroBatches
from sam2.training.loop import Summary, run_task
from sam2.training.mae import UNIT, MaeOptions, MaeOutput, MaskedAutoencoder, from_units
from sam2.training.options import LoopOptions, ModelOptions, SourceOptions
from sam2.training.run import build_model

SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(LoopOptions):
    """A pretraining run."""

    data: tuple[SourceOptions, ...]
    """Sources of pictures; objects and frames do not matter."""
    model: ModelOptions = field(default_factory=ModelOptions)
    mae: MaeOptions = field(default_factory=MaeOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise ValueError("data is empty: name at least one source")


class MaeTask:
    """Pretraining, as the loop sees it."""

    def __init__(self, options: PretrainOptions) -> None:
        torch.manual_seed(options.seed)
        sam = build_model(options.model)
        if sam.image_size % UNIT:
            raise ValueError(
                f"image_size is {sam.image_size}; for pretraining it must be a multiple of {UNIT}"
            )
        self.model = MaskedAutoencoder(sam.image_encoder.trunk, options.mae)  # type: ignore[arg-type]
        total = options.steps * options.accumulate
        self.batches = MicroBatches(options.data, sam.image_size, options.seed, total, needs_objects=False)
        self._shown: tuple[Tensor, MaeOutput] | None = None

    def losses(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        """`total`: the mean square error of hidden units' normalised pixels."""
        pictures = loaded.batch.images.to(device).flatten(0, 1).float() / 255
        images = normalize(pictures, IMAGENET_MEAN, IMAGENET_STD)
        output = self.model(images)
        self._shown = (images, output)
        return {"total": output.loss}

    @torch.no_grad()
    def picture(self) -> Image.Image | None:
        """Pictures, what was visible of them, and what was painted, side by side."""
        if self._shown is None:
            return None
        images, output = self._shown
        rows = images.shape[-2] // UNIT
        true = images.permute(0, 2, 3, 1)
        cover = from_units(output.hidden[..., None, None, None].expand(-1, -1, UNIT, UNIT, 1), rows)
        painted = from_units(output.painted.float().unflatten(2, (UNIT, UNIT, 3)), rows)
        columns = [true, true * ~cover, torch.where(cover, painted, true)]
        sheet = torch.cat([column[:SHOWN].flatten(0, 1) for column in columns], dim=1).cpu()
        pixels = (sheet * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)).clamp(0, 1) * 255
        return Image.fromarray(pixels.to(torch.uint8).numpy())

    def export(self, path: Path) -> None:
        """The trunk's weights under their names in a whole model, for `model.init` with `init_partial`."""
        trunk = self.model.trunk.state_dict()
        tensors = {f"image_encoder.trunk.{n}": v.detach().cpu().contiguous() for n, v in trunk.items()}
        aside = path.with_name(f"{path.name}.part")
        try:
            save_file(tensors, aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def pretrain(options: PretrainOptions, resume: bool = False) -> Summary:
    """Runs (or goes on with) the pretraining that the options describe."""
    return run_task(MaeTask(options), options, resume)
