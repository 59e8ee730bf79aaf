"""The prompt encoder and mask decoder as one graph of tensors.

Shapes: B prompts, N points a prompt, C channels, S the input size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2.backend import EncoderGraph
from sam2.modeling.sam2_base import SAM2Base

__all__ = ["DecoderGraph", "EncoderGraph", "decoder_inputs"]


class DecoderGraph(nn.Module):
    """Prompts on one encoded picture to masks; B and N are free.

    A box is two points of labels 2 and 3. Padding has label -1.
    """

    INPUTS = (
        "embedding",
        "features_stride_4",
        "features_stride_8",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
    )
    OUTPUTS = ("masks", "iou", "presence")

    def __init__(self, model: SAM2Base) -> None:
        super().__init__()
        if not model.use_high_res_features_in_sam:
            raise ValueError("only models whose decoder takes features of strides 4 and 8 can be exported")
        self.model = model

    def forward(
        self,
        embedding: Tensor,
        features_stride_4: Tensor,
        features_stride_8: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decodes B prompts.

        Args:
            embedding: [1, C, S / 16, S / 16], with the model's `no_mem_embed` added.
            features_stride_4, features_stride_8: [1, C', S / 4, S / 4] and [1, C'', S / 8, S / 8].
            point_coords: [B, N, 2] (x, y), pixels of the model's input.
            point_labels: int32 [B, N].
            mask_input: logits [B, 1, S / 4, S / 4], read where `has_mask_input` [B] is 1 rather than 0.

        Returns:
            Mask logits [B, 4, S / 4, S / 4] (the single mask, then the three of an ambiguous prompt),
            predicted IoU [B, 4], presence logits [B, 1].
        """
        prompts = self.model.sam_prompt_encoder
        sparse, no_mask = prompts((point_coords, point_labels), None, None)
        given = prompts.mask_downscaling(mask_input)
        dense = torch.where(has_mask_input[:, None, None, None] > 0, given, no_mask)
        masks, iou, _, presence = self.model.sam_mask_decoder.predict_masks(
            embedding, prompts.get_dense_pe(), sparse, dense, True, [features_stride_4, features_stride_8]
        )
        return masks, iou, presence


def decoder_inputs(model: SAM2Base, prompts: int, points: int) -> tuple[Tensor, ...]:
    """Random inputs of `DecoderGraph`, from a fixed seed."""
    generator = torch.Generator().manual_seed(points)
    side, width = model.image_size // 16, model.hidden_dim

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return (
        random(1, width, side, side),
        random(1, width // 8, 4 * side, 4 * side),
        random(1, width // 4, 2 * side, 2 * side),
        torch.rand(prompts, points, 2, generator=generator) * model.image_size,
        torch.randint(0, 2, (prompts, points), generator=generator, dtype=torch.int32),
        random(prompts, 1, 4 * side, 4 * side),
        torch.arange(prompts, dtype=torch.float32) % 2,
    )
