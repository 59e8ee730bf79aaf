"""Prompts to embeddings: points and boxes sparse, masks dense (SAM, arXiv 2304.02643)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2.modeling.layers import LayerNorm2d
from sam2.modeling.position_encoding import PositionEmbeddingRandom


class PromptEncoder(nn.Module):
    """Encodes points, boxes and low-resolution masks.

    Args:
        embed_dim: channels of every embedding.
        image_embedding_size: (height, width) of the image embedding.
        input_image_size: (height, width) in pixels of the model's input, the frame of all coordinates.
        mask_in_chans: inner channels of the mask branch.
    """

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.input_image_size = input_image_size
        self.image_embedding_size = image_embedding_size
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        self.num_point_embeddings = 4  # negative point, positive point, box corners
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_input_size = (4 * image_embedding_size[0], 4 * image_embedding_size[1])
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            activation(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            activation(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def get_dense_pe(self) -> Tensor:
        """Position encoding of the image embedding: [1, embed_dim, H, W]."""
        return self.pe_layer(self.image_embedding_size)[None]

    def _point_weights(self) -> list[Tensor]:
        return [embedding.get_parameter("weight") for embedding in self.point_embeddings]

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        points = points + 0.5  # to the centre of the pixel
        if pad:
            points = torch.cat((points, points.new_zeros(points.shape[0], 1, 2)), dim=1)
            labels = torch.cat((labels, labels.new_full((labels.shape[0], 1), -1)), dim=1)
        placed = self.pe_layer.forward_with_coords(points, self.input_image_size)
        kinds = torch.cat([self.not_a_point_embed.weight, *self._point_weights()])
        labels = labels.long()
        return placed * (labels >= 0)[..., None] + kinds[labels + 1]

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        corners = self.pe_layer.forward_with_coords((boxes + 0.5).reshape(-1, 2, 2), self.input_image_size)
        return corners + torch.cat(self._point_weights()[2:])

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Embeds prompts whose coordinates are pixels of the model's input.

        Args:
            points: coordinates [B, N, 2] (x, y) and labels [B, N]: 1 object, 0 background,
                2 and 3 the first and last corner of a box, -1 padding.
            boxes: [B, 4] (x0, y0, x1, y1).
            masks: logits [B, 1, 4 H, 4 W].

        Returns:
            Sparse embeddings [B, N', embed_dim] and dense ones [B, embed_dim, H, W].
        """
        sparse = []
        if points is not None:
            sparse.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            sparse.append(self._embed_boxes(boxes))
        if points is not None:
            batch = points[0].shape[0]
        elif boxes is not None:
            batch = boxes.shape[0]
        else:
            batch = 1 if masks is None else masks.shape[0]
        weight = self.no_mask_embed.weight
        sparse_embeddings = torch.cat(sparse, dim=1) if sparse else weight.new_empty(batch, 0, self.embed_dim)
        if masks is not None:
            dense_embeddings = self.mask_downscaling(masks)
        else:
            height, width = self.image_embedding_size
            dense_embeddings = weight.reshape(1, -1, 1, 1).expand(batch, -1, height, width)
        return sparse_embeddings, dense_embeddings
