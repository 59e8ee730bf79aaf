"""A frame and an object's mask on it to a spatial memory (SAM 2, section 4, memory encoder)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sam2.modeling.layers import DropPath, LayerNorm2d, get_clones
from sam2.ops.linear import linear_of_picture


class MaskDownSampler(nn.Module):
    """Strided convolutions that bring a mask at the model's input size to stride `total_stride`.

    The channels grow by `stride ** 2` a layer, then become `embed_dim`.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        kernel_size: int = 4,
        stride: int = 4,
        padding: int = 0,
        total_stride: int = 16,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        num_layers = round(math.log(total_stride, stride))
        if stride**num_layers != total_stride:
            raise ValueError(f"total_stride {total_stride} is not a power of stride {stride}")
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(num_layers):
            wider = channels * stride**2
            layers += [
                nn.Conv2d(channels, wider, kernel_size=kernel_size, stride=stride, padding=padding),
                LayerNorm2d(wider),
                activation(),
            ]
            channels = wider
        layers.append(nn.Conv2d(channels, embed_dim, kernel_size=1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, embed_dim, H / total_stride, W / total_stride]."""
        return self.encoder(x)


class CXBlock(nn.Module):
    """ConvNeXt block (arXiv 2201.03545)."""

    def __init__(
        self,
        dim: int,
        kernel_size: int = 7,
        padding: int = 3,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        use_dwconv: bool = True,
    ) -> None:
        super().__init__()
        groups = dim if use_dwconv else 1
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=kernel_size, padding=padding, groups=groups)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = (
            nn.Parameter(layer_scale_init_value * torch.ones(dim)) if layer_scale_init_value > 0 else None
        )
        self.drop_path: nn.Module = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> the same."""
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        cells = y.shape[1] * y.shape[2]
        y = linear_of_picture(self.pwconv1, y, cells, self.act)
        y = linear_of_picture(self.pwconv2, y, cells)
        if self.gamma is not None:
            y = self.gamma * y
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class Fuser(nn.Module):
    """`num_layers` copies of `layer`, after an optional 1x1 convolution."""

    def __init__(
        self, layer: nn.Module, num_layers: int, dim: int | None = None, input_projection: bool = False
    ) -> None:
        super().__init__()
        self.proj: nn.Module = nn.Identity()
        self.layers = get_clones(layer, num_layers)
        if input_projection:
            if dim is None:
                raise ValueError("input_projection needs dim")
            self.proj = nn.Conv2d(dim, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Adds the mask to the frame's features and compresses both.

    Args:
        out_dim: channels of a memory.
        in_dim: channels of the frame's features.
    """

    def __init__(
        self,
        out_dim: int,
        mask_downsampler: nn.Module,
        fuser: nn.Module,
        position_encoding: nn.Module,
        in_dim: int = 256,
    ) -> None:
        super().__init__()
        self.mask_downsampler = mask_downsampler
        self.pix_feat_proj = nn.Conv2d(in_dim, in_dim, kernel_size=1)
        self.fuser = fuser
        self.position_encoding = position_encoding
        self.out_dim = out_dim
        self.out_proj: nn.Module = (
            nn.Conv2d(in_dim, out_dim, kernel_size=1) if out_dim != in_dim else nn.Identity()
        )

    def forward(self, pix_feat: Tensor, masks: Tensor, skip_mask_sigmoid: bool = False) -> dict:
        """Encodes B masks.

        Args:
            pix_feat: features of the frame [B or 1, in_dim, H, W].
            masks: logits at the model's input size [B, 1, 16 H, 16 W]; probabilities or other
                values to be used as they are, with `skip_mask_sigmoid`.

        Returns:
            `vision_features` [B, out_dim, H, W] and `vision_pos_enc`, a list of one [B, out_dim, H, W].
        """
        if not skip_mask_sigmoid:
            masks = masks.sigmoid()
        x = self.pix_feat_proj(pix_feat) + self.mask_downsampler(masks)
        x = self.out_proj(self.fuser(x))
        return {"vision_features": x, "vision_pos_enc": [self.position_encoding(x).to(x.dtype)]}
