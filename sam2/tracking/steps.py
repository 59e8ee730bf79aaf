"""The model's steps as the tracking engine takes them: in one precision, without gradients."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from sam2.memory.entry import MemorySelection
from sam2.modeling.outputs import FrameFeatures, FrameOutput, enlarge
from sam2.modeling.sam2_base import SAM2Base
from sam2.ops.precision import checked_dtype, precision

MEMORY_DTYPE = torch.bfloat16
"""In which spatial memories are kept."""


class Steps:
    """Runs the model's own steps, whatever the number of objects, memories and points.

    Args:
        model: the weights, in evaluation mode.
        dtype: precision in which the model runs: torch.float32 (also inside a caller's autocast),
            torch.bfloat16 or torch.float16. None leaves a caller's autocast in force. What comes out is
            float32 in any case, so that masks are enlarged in it.

    Raises:
        ValueError: another dtype.
    """

    def __init__(self, model: SAM2Base, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.dtype = checked_dtype(dtype)

    def _precision(self) -> AbstractContextManager:
        return precision(self.model.device, self.dtype)

    def batch_key(self, selection: MemorySelection) -> Hashable:
        """Objects whose selections have equal keys may run as one batch."""
        return selection.shape

    @torch.inference_mode()
    def encode_image(self, image: Tensor) -> FrameFeatures:
        """Encodes one normalised frame, float32 [3, S, S] on the model's device."""
        with self._precision():
            return self.model.encode_image(image[None])

    @torch.inference_mode()
    def track(self, features: FrameFeatures, selections: Sequence[MemorySelection]) -> FrameOutput:
        """Follows objects to a frame that was not prompted; their selections have equal `batch_key`s."""
        with self._precision():
            return self.model.step(features, selections).in_float32()

    @torch.inference_mode()
    def prompt(
        self,
        features: FrameFeatures,
        selection: MemorySelection | None,
        point_inputs: Mapping[str, Tensor] | None = None,
        mask_input: Tensor | None = None,
        prev_logits: Tensor | None = None,
    ) -> FrameOutput:
        """Segments one object on a prompted frame; arguments as of `SAM2Base.step`.

        Args:
            selection: what the frame reads; None where it is prompted before it was tracked.
        """
        selections = None if selection is None else [selection]
        with self._precision():
            out = self.model.step(
                features, selections, point_inputs, mask_input, prev_logits, selection is None
            )
        return out.in_float32()

    @torch.inference_mode()
    def choose(self, out: FrameOutput, choice: Tensor) -> FrameOutput:
        """As `SAM2Base.choose`."""
        with self._precision():
            return self.model.choose(out, choice).in_float32()

    @torch.inference_mode()
    def encode_memory(
        self, embedding: Tensor, logits: Tensor, object_score_logits: Tensor, is_mask_from_pts: bool
    ) -> Tensor:
        """As `SAM2Base.encode_memory`, of low-resolution logits [B, 1, S / 4, S / 4]."""
        masks = enlarge(logits, self.model.image_size)
        with self._precision():
            return self.model.encode_memory(embedding, masks, object_score_logits, is_mask_from_pts)

    def warm_up(
        self,
        objects: Sequence[int] = (1,),
        conditioning: Sequence[int] = (1,),
        points: Sequence[int] = (1, 2),
        progress: bool = True,
    ) -> None:
        """Makes ready what is made once for a shape; see `StaticSteps`. Here nothing is."""
