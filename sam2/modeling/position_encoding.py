"""Position encodings: sine tables, random Fourier features, and axial rotary encoding.

Shapes: B batch, C channels, H x W positions, N tokens, D channels of one attention head.
Tables are caches keyed by size and device: they are not part of a model's state.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sam2.ops.linear import fusable


class TableCache:
    """A few tables, made on first use and shared by later calls of the same key.

    Tables are made outside inference mode, so that one first used there also serves training.
    A copied or pickled module starts with an empty cache.
    """

    LIMIT = 16

    def __init__(self) -> None:
        self._tables: dict[tuple, Tensor] = {}

    def get(self, key: tuple, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._tables:
            if len(self._tables) >= self.LIMIT:
                self._tables.clear()
            with torch.inference_mode(False), torch.no_grad():
                self._tables[key] = make()
        return self._tables[key]

    def __deepcopy__(self, memo: dict) -> TableCache:
        return TableCache()

    def __reduce__(self) -> tuple:
        return (TableCache, ())


def _sine_features(position: Tensor, dim: int, temperature: float) -> Tensor:
    """Interleaved sine and cosine of `position` [...] at `dim / 2` wavelengths: [..., dim]."""
    exponent = torch.arange(dim // 2, dtype=torch.float32, device=position.device) * 2 / dim
    angle = position[..., None] / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def get_1d_sine_pe(pos_inds: Tensor, dim: int, temperature: float = 10000) -> Tensor:
    """Sine encoding of scalar positions [...]: all sines, then all cosines, [..., dim]."""
    half = dim // 2
    exponent = 2 * (torch.arange(half, dtype=torch.float32, device=pos_inds.device) // 2) / half
    angle = pos_inds[..., None] / temperature**exponent
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


class PositionEmbeddingSine(nn.Module):
    """Fixed two-dimensional sine encoding of a feature map, half of the channels per axis.

    Args:
        num_pos_feats: channels of the encoding, even.
        temperature: longest wavelength over 2 pi.
        normalize: measure positions in shares of the map, times `scale` (2 pi).
    """

    def __init__(
        self,
        num_pos_feats: int,
        temperature: float = 10000,
        normalize: bool = True,
        scale: float | None = None,
        **_published: object,
    ) -> None:
        super().__init__()
        if num_pos_feats % 4:
            raise ValueError(f"num_pos_feats is {num_pos_feats}: 4 must divide it")
        if scale is not None and not normalize:
            raise ValueError("scale has no effect without normalize=True")
        self.num_pos_feats = num_pos_feats // 2
        self.temperature = temperature
        self.normalize = normalize
        self.scale = 2 * math.pi if scale is None else scale
        self._cache = TableCache()

    def _table(self, height: int, width: int, device: torch.device) -> Tensor:
        y = torch.arange(1, height + 1, dtype=torch.float32, device=device)
        x = torch.arange(1, width + 1, dtype=torch.float32, device=device)
        if self.normalize:
            y = y / (height + 1e-6) * self.scale
            x = x / (width + 1e-6) * self.scale
        y_feat = _sine_features(y, self.num_pos_feats, self.temperature)[:, None].expand(-1, width, -1)
        x_feat = _sine_features(x, self.num_pos_feats, self.temperature)[None].expand(height, -1, -1)
        return torch.cat((y_feat, x_feat), dim=-1).permute(2, 0, 1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Encoding for a map `x` [B, C, H, W]: [B, num_pos_feats, H, W], equal over the batch."""
        height, width = x.shape[-2:]
        table = self._cache.get((height, width, x.device), lambda: self._table(height, width, x.device))
        return table.expand(x.shape[0], -1, -1, -1)


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of points in the unit square (arXiv 2006.10739)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_pos_feats: int = 64, scale: float | None = None) -> None:
        super().__init__()
        if scale is None or scale <= 0.0:
            scale = 1.0
        self.register_buffer("positional_encoding_gaussian_matrix", scale * torch.randn(2, num_pos_feats))

    def _encode(self, coords_norm: Tensor) -> Tensor:
        angle = (2 * coords_norm - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Encoding of every cell centre of a grid `size` (height, width): [2 * num_pos_feats, H, W]."""
        height, width = size
        like = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return self._encode(grid).permute(2, 0, 1)

    def forward_with_coords(self, coords_input: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Encoding of points `[..., 2]` (x, y) in pixels of a picture `image_size` (height, width)."""
        x, y = coords_input.float().unbind(-1)
        return self._encode(torch.stack((x / image_size[1], y / image_size[0]), dim=-1))


def axial_rotation(dim: int, width: int, height: int, theta: float, device: torch.device) -> Tensor:
    """Rotary table of a `height` x `width` grid: [H * W, dim / 2, 2], cosine and sine of each pair.

    The first half of the pairs turns with x, the second with y (axial RoPE, arXiv 2403.13298).
    """
    frequency = theta ** -(torch.arange(0, dim, 4, dtype=torch.float32, device=device)[: dim // 4] / dim)
    cell = torch.arange(height * width, device=device)
    x = (cell % width).float()
    y = torch.div(cell, width, rounding_mode="floor").float()
    angle = torch.cat((x[:, None] * frequency, y[:, None] * frequency), dim=-1)
    return torch.stack((angle.cos(), angle.sin()), dim=-1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turns neighbouring channel pairs of `x` [..., N, D] by `rotation` [N, D / 2, 2], in float32."""
    if fusable(x):
        turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.view_as_complex(rotation)
        return torch.view_as_real(turned).flatten(-2)
    pairs = x.float().unflatten(-1, (-1, 2))
    a, b = pairs.unbind(-1)
    cos, sin = rotation.unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(x.dtype)
