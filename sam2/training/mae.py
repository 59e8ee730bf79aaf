"""Masked-autoencoder pretraining of Hiera (arXiv 2306.00989) around the trunk as it is deployed.

Units of 32 x 32 pixels are hidden, 60% of them. Blocks whose windows fit into a unit see the visible units
alone; later blocks see the whole grid, with one learnt token in place of what is hidden. A small decoder
reads all stages, fused to one token a unit, and paints the hidden units' pixels, normalised unit by unit.

Shapes: B pictures, U units a picture, V visible ones, s tokens along a unit's side, C channels (D in the
decoder).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock
from sam2.modeling.position_encoding import PositionEmbeddingSine

UNIT = 32
"""Side of a unit in pixels: one token of the last stage."""
STRIDE = 4
"""Of the trunk's patches."""


@dataclass(frozen=True)
class MaeOptions:
    """The pretraining task."""

    hidden: float = 0.6
    """Share of units that are hidden."""
    width: int = 128
    """Channels of the decoder."""
    depth: int = 4
    """Blocks of the decoder."""
    heads: int = 4
    """Attention heads of the decoder."""

    def __post_init__(self) -> None:
        if not 0 < self.hidden < 1:
            raise ValueError(f"the share of hidden units is {self.hidden}; it must lie between 0 and 1")
        if self.width % self.heads:
            raise ValueError(f"the decoder's width {self.width} must be a multiple of its {self.heads} heads")


class MaeOutput(NamedTuple):
    """One pass: the loss (a scalar), the units painted [B, U, 3 * 32 * 32] and which were hidden [B, U]."""

    loss: Tensor
    painted: Tensor
    hidden: Tensor


def to_units(x: Tensor, side: int) -> Tensor:
    """[B, H, W, C] -> [B, U, side, side, C], row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(2, 3).reshape(batch, -1, side, side, channels)


def from_units(units: Tensor, rows: int) -> Tensor:
    """Undoes `to_units` for a picture of so many rows of units."""
    batch, count, side, _, channels = units.shape
    x = units.reshape(batch, rows, count // rows, side, side, channels)
    return x.transpose(2, 3).reshape(batch, rows * side, -1, channels)


def _gather(units: Tensor, visible: Tensor) -> Tensor:
    """[B, U, ...] -> [B * V, ...]."""
    return units[torch.arange(len(units), device=units.device)[:, None], visible].flatten(0, 1)


class MaskedAutoencoder(nn.Module):
    """The trunk, with what pretraining adds to it. After pretraining only the trunk is kept."""

    def __init__(self, trunk: Hiera, options: MaeOptions) -> None:
        super().__init__()
        self.trunk = trunk
        self.options = options
        stage_widths = trunk.channel_list[::-1]
        widths: list[int] = [block.dim for block in trunk.blocks]  # type: ignore[misc]
        self.first_dense = next((i for i in range(len(widths)) if not self._fits(i)), len(widths))
        last = trunk.channel_list[0] if self.first_dense == len(widths) else widths[self.first_dense]
        self.hidden_token = nn.Parameter(torch.zeros(last))
        nn.init.trunc_normal_(self.hidden_token, std=0.02)
        sides = [UNIT // STRIDE // 2**i for i in range(len(stage_widths))]
        if sides[-1] < 1:
            raise ValueError(f"a trunk of {len(stage_widths)} stages does not keep a token for each unit")
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in stage_widths)
        self.fuse = nn.ModuleList(
            nn.Conv2d(c, options.width, kernel_size=s) for c, s in zip(stage_widths, sides)
        )
        self.decoder_token = nn.Parameter(torch.zeros(options.width))
        nn.init.trunc_normal_(self.decoder_token, std=0.02)
        self.encoding = PositionEmbeddingSine(options.width, normalize=True)
        self.decoder = nn.ModuleList(
            MultiScaleBlock(options.width, options.width, options.heads) for _ in range(options.depth)
        )
        self.decoder_norm = nn.LayerNorm(options.width)
        self.paint = nn.Linear(options.width, 3 * UNIT * UNIT)

    def _fits(self, index: int) -> bool:
        """Whether no window of this block, nor of one before it, reaches over the border of a unit."""
        block = self.trunk.blocks[index]
        stage = sum(end < index - 1 for end in self.trunk.stage_ends)
        side = UNIT // STRIDE // 2**stage
        assert isinstance(block, MultiScaleBlock)
        window = block.window_size
        return window > 0 and side % window == 0 and (index == 0 or self._fits(index - 1))

    def _encode(self, images: Tensor, hidden: Tensor, visible: Tensor) -> Tensor:
        """All stages at the visible units, fused: [B * V, D]."""
        trunk = self.trunk
        rows = images.shape[-2] // UNIT
        cover = F.interpolate(hidden.unflatten(1, (rows, -1))[:, None].float(), scale_factor=UNIT)
        x = trunk.patch_embed(images * (1 - cover))
        x = x + trunk.position_embedding(x.shape[1], x.shape[2])
        x = _gather(to_units(x, UNIT // STRIDE), visible)
        fused = torch.zeros((), device=x.device)
        stage = 0
        for i, block in enumerate(trunk.blocks):
            if i == self.first_dense:
                x = self._spread(x, hidden, visible, rows)
            x = block(x)
            if i in trunk.stage_ends:
                side = UNIT // STRIDE // 2**stage
                units = x if i < self.first_dense else _gather(to_units(x, side), visible)
                normed = self.norms[stage](units).permute(0, 3, 1, 2)
                fused = fused + self.fuse[stage](normed)[..., 0, 0]
                stage += 1
        return fused

    def _spread(self, units: Tensor, hidden: Tensor, visible: Tensor, rows: int) -> Tensor:
        """Visible units [B * V, s, s, C] back on the grid [B, H, W, C], the learnt token elsewhere."""
        side = units.shape[1]
        grid = self.hidden_token.to(units.dtype).expand(*hidden.shape, side, side, -1).clone()
        index = torch.arange(len(hidden), device=units.device)[:, None]
        grid[index, visible] = units.unflatten(0, visible.shape)
        return from_units(grid, rows)

    def forward(self, images: Tensor) -> MaeOutput:
        """Normalised pictures [B, 3, S, S], S a multiple of 32; hides units by torch's global generator."""
        batch, _, height, width = images.shape
        if height % UNIT or width % UNIT:
            raise ValueError(f"pictures are {width}x{height}; both sides must be multiples of {UNIT}")
        rows, count = height // UNIT, (height // UNIT) * (width // UNIT)
        kept = max(1, count - round(self.options.hidden * count))
        visible = torch.rand(batch, count, device=images.device).argsort(dim=1)[:, :kept]
        hidden = torch.ones(batch, count, dtype=torch.bool, device=images.device)
        hidden.scatter_(1, visible, False)

        fused = self._encode(images, hidden, visible)
        tokens = self.decoder_token.to(fused.dtype).expand(batch, count, -1).clone()
        tokens[torch.arange(batch, device=images.device)[:, None], visible] = fused.unflatten(
            0, (batch, kept)
        )
        x = tokens.unflatten(1, (rows, -1))
        x = x + self.encoding(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)
        for block in self.decoder:
            x = block(x)
        painted = self.paint(self.decoder_norm(x)).flatten(1, 2)

        pixels = to_units(images.permute(0, 2, 3, 1), UNIT).flatten(2)
        mean, deviation = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
        target = (pixels - mean) / (deviation + 1e-6).sqrt()
        error = ((painted.float() - target) ** 2).mean(-1)
        return MaeOutput((error * hidden).sum() / hidden.sum(), painted, hidden)
