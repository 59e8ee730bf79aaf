"""Models by name, hub id or file, for the verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam2.build_sam import DEFAULT_MODEL, build_sam2, build_sam2_video_predictor, resolve_model
from sam2.ops.precision import dtype_of

if TYPE_CHECKING:
    import torch

    from sam2.modeling.sam2_base import SAM2Base
    from sam2.sam2_video_predictor import SAM2VideoPredictor


@dataclass(frozen=True)
class ModelChoice:
    """A model that was asked for, and where it was found."""

    name: str
    config: str
    checkpoint: str
    device: str | None
    backend: str = "torch"
    precision: str = "float32"

    @property
    def dtype(self) -> torch.dtype:
        """The precision, for predictors."""
        return dtype_of(self.precision)

    def image_model(self) -> SAM2Base:
        """For still pictures."""
        return build_sam2(self.config, self.checkpoint, device=self.device, backend=self.backend)

    def video_predictor(self) -> SAM2VideoPredictor:
        """For videos."""
        return build_sam2_video_predictor(
            self.config, self.checkpoint, device=self.device, backend=self.backend, dtype=self.dtype
        )

    def to_json(self, model: SAM2Base) -> dict[str, Any]:
        """What result.json says of the model that was built."""
        return {
            "name": self.name,
            "config": self.config,
            "checkpoint": self.checkpoint,
            "image_size": model.image_size,
            "device": str(model.device),
            "backend": self.backend,
            "precision": self.precision,
        }


def choose_model(
    name: str | None, device: str | None, backend: str = "torch", precision: str = "float32"
) -> ModelChoice:
    """The model of --model, --device, --backend and --precision.

    Raises:
        ValueError: unknown, or a configuration, which has no weights.
        FileNotFoundError: the weights are not on this machine and cannot be fetched.
    """
    config, checkpoint = resolve_model(name)
    if checkpoint is None:
        raise ValueError(f"{name} is a configuration, which has no weights: name a checkpoint instead")
    return ModelChoice(name or DEFAULT_MODEL.name, config, checkpoint, device, backend, precision)
