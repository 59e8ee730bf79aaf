"""Hiera, the hierarchical trunk of the image encoder (arXiv 2306.00989), as SAM 2 uses it.

Shapes: B batch, H x W positions, C channels, G heads, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.modeling.layers import MLP, DropPath
from sam2.ops.attention import attention
from sam2.ops.linear import fusable, fusable_in_bfloat16, linear

WINDOW_TOKENS = 2048
"""Tokens that go through the first blocks at a time on a CPU, a thread, so that they stay in its cache."""


def window_partition(x: Tensor, window_size: int) -> tuple[Tensor, tuple[int, int]]:
    """Cuts `x` [B, H, W, C] into windows [B * n, window_size, window_size, C], zeros at the far edges.

    Also returns the padded (height, width).
    """
    batch, height, width, channels = x.shape
    pad_h, pad_w = -height % window_size, -width % window_size
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    rows, cols = (height + pad_h) // window_size, (width + pad_w) // window_size
    x = x.view(batch, rows, window_size, cols, window_size, channels).transpose(2, 3)
    return x.reshape(-1, window_size, window_size, channels), (height + pad_h, width + pad_w)


def window_unpartition(
    windows: Tensor, window_size: int, pad_hw: tuple[int, int], hw: tuple[int, int]
) -> Tensor:
    """Undoes `window_partition`: [B, H, W, C] with (H, W) = `hw`, the padding cut off."""
    rows, cols = pad_hw[0] // window_size, pad_hw[1] // window_size
    x = windows.view(-1, rows, cols, window_size, window_size, windows.shape[-1]).transpose(2, 3)
    x = x.reshape(-1, *pad_hw, windows.shape[-1])
    return x if pad_hw == hw else x[:, : hw[0], : hw[1]].contiguous()


def pool_positions(x: Tensor, pool: nn.Module | None) -> Tensor:
    """Pools `x` [B, H, W, C] over positions."""
    return x if pool is None else pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Overlapping patches: [B, in_chans, H, W] -> [B, H / 4, W / 4, embed_dim]."""

    def __init__(
        self,
        kernel_size: tuple[int, int] = (7, 7),
        stride: tuple[int, int] = (4, 4),
        padding: tuple[int, int] = (3, 3),
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=kernel_size, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class MultiScaleAttention(nn.Module):
    """Attention whose queries may be pooled, which lowers the resolution of the output."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, q_pool: nn.Module | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.dim_out = dim_out
        self.num_heads = num_heads
        self.q_pool = q_pool
        self.qkv = nn.Linear(dim, dim_out * 3)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, dim] -> [B, H', W', dim_out]."""
        batch, height, width, _ = x.shape
        q, k, v = linear(self.qkv, x).view(batch, height * width, 3, self.num_heads, -1).unbind(2)
        if self.q_pool is not None:
            q = pool_positions(q.reshape(batch, height, width, -1), self.q_pool)
            height, width = q.shape[1:3]
            q = q.reshape(batch, height * width, self.num_heads, -1)
        out = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return linear(self.proj, out.transpose(1, 2).reshape(batch, height, width, -1))


class MultiScaleBlock(nn.Module):
    """Transformer block in windows (`window_size` > 0) or global, with optional query pooling."""

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        norm_layer: type[nn.Module] | str = "LayerNorm",
        q_stride: tuple[int, int] | None = None,
        act_layer: type[nn.Module] = nn.GELU,
        window_size: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(norm_layer, str):
            norm_layer = partial(getattr(nn, norm_layer), eps=1e-6)  # type: ignore[assignment]
        assert callable(norm_layer)
        self.dim = dim
        self.dim_out = dim_out
        self.window_size = window_size
        self.q_stride = q_stride
        self.pool = nn.MaxPool2d(q_stride, q_stride) if q_stride else None
        self.norm1 = norm_layer(dim)
        self.attn = MultiScaleAttention(dim, dim_out, num_heads, q_pool=self.pool)
        self.drop_path: nn.Module = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.norm2 = norm_layer(dim_out)
        self.mlp = MLP(dim_out, int(dim_out * mlp_ratio), dim_out, num_layers=2, activation=act_layer)
        if dim != dim_out:
            self.proj = nn.Linear(dim, dim_out)

    def forward(self, x: Tensor, whole: bool = False) -> Tensor:
        """[B, H, W, dim] -> [B, H', W', dim_out]; `whole`: `x` is itself one window."""
        normed = self.norm1(x)
        shortcut = pool_positions(linear(self.proj, normed), self.pool) if self.dim != self.dim_out else x
        hw = (shortcut.shape[1], shortcut.shape[2])
        window = 0 if whole else self.window_size
        if window:
            y, _ = window_partition(normed, window)
            y = self.attn(y)
            if self.q_stride:
                window //= self.q_stride[0]
            pad_hw = (hw[0] + -hw[0] % window, hw[1] + -hw[1] % window)
            y = window_unpartition(y, window, pad_hw, hw)
        else:
            y = self.attn(normed)
        x = shortcut + self.drop_path(y)
        first, second = self.mlp.layers
        y = linear(second, linear(first, self.norm2(x), self.mlp.act))
        return x + self.drop_path(y)


class Hiera(nn.Module):
    """The trunk: four stages of strides 4, 8, 16 and 32, each twice as wide as the one before.

    Args:
        embed_dim, num_heads: of the first stage.
        drop_path_rate: stochastic depth at the last block, rising linearly from 0.
        q_pool: how many stage changes pool, by `q_stride`.
        stages: blocks in each stage.
        dim_mul, head_mul: growth of channels and heads at a stage change.
        window_pos_embed_bkg_spatial_size: (height, width) of the global position table.
        window_spec: window side of each stage, in tokens; the first block of a stage still has
            the windows of the stage before.
        global_att_blocks: blocks that attend to the whole picture.
        return_interm_layers: give the output of every stage, not of the last alone.
    """

    def __init__(
        self,
        embed_dim: int = 96,
        num_heads: int = 1,
        drop_path_rate: float = 0.0,
        q_pool: int = 3,
        q_stride: tuple[int, int] = (2, 2),
        stages: Sequence[int] = (2, 3, 16, 3),
        dim_mul: float = 2.0,
        head_mul: float = 2.0,
        window_pos_embed_bkg_spatial_size: tuple[int, int] = (14, 14),
        window_spec: Sequence[int] = (8, 4, 14, 7),
        global_att_blocks: Sequence[int] = (12, 16, 20),
        return_interm_layers: bool = True,
    ) -> None:
        super().__init__()
        if len(stages) != len(window_spec):
            raise ValueError(
                f"{len(stages)} stages but {len(window_spec)} window sizes: give one for each stage"
            )
        if not 0 <= q_pool <= len(stages) - 1:
            raise ValueError(f"q_pool is {q_pool}: between 0 and {len(stages) - 1} stage changes can pool")
        self.window_spec = tuple(window_spec)
        self.q_stride = tuple(q_stride)
        self.global_att_blocks = tuple(global_att_blocks)
        self.return_interm_layers = return_interm_layers
        self.window_pos_embed_bkg_spatial_size = tuple(window_pos_embed_bkg_spatial_size)

        depth = sum(stages)
        self.stage_ends = [sum(stages[: i + 1]) - 1 for i in range(len(stages))]
        self.q_pool_blocks = [end + 1 for end in self.stage_ends[:-1]][:q_pool]

        self.patch_embed = PatchEmbed(embed_dim=embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, embed_dim, *self.window_pos_embed_bkg_spatial_size))
        window = self.window_spec[0]
        self.pos_embed_window = nn.Parameter(torch.zeros(1, embed_dim, window, window))

        self.blocks = nn.ModuleList()
        stage, dim = 0, embed_dim
        for i in range(depth):
            window_size = 0 if i in self.global_att_blocks else self.window_spec[stage]
            dim_out = dim
            if i - 1 in self.stage_ends:
                dim_out = int(dim * dim_mul)
                num_heads = int(num_heads * head_mul)
                stage += 1
            self.blocks.append(
                MultiScaleBlock(
                    dim=dim,
                    dim_out=dim_out,
                    num_heads=num_heads,
                    drop_path=drop_path_rate * i / max(depth - 1, 1),
                    q_stride=self.q_stride if i in self.q_pool_blocks else None,  # type: ignore[arg-type]
                    window_size=window_size,
                )
            )
            dim = dim_out
        widths = [self.blocks[i].dim_out for i in self.stage_ends]
        self.channel_list: list[int] = widths[::-1] if return_interm_layers else widths[-1:]  # type: ignore[assignment]

    def position_embedding(self, height: int, width: int) -> Tensor:
        """Global table stretched to `height` x `width`, plus the window table tiled: [1, H, W, C].

        Stretched as published, in one call: products with bicubic matrices round otherwise, which moves a
        golden of two nearly equal objects (`video_no_overlap`) out of its bounds.
        """
        spread = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        window = self.pos_embed_window
        rows, cols = -(-height // window.shape[-2]), -(-width // window.shape[-1])
        tiled = window.tile(1, 1, rows, cols)[..., :height, :width]
        return (spread + tiled).permute(0, 2, 3, 1)

    def _blocks_in_windows(self, height: int, width: int) -> int:
        """How many of the first blocks never leave the windows of the first: 0 where these do not tile."""
        side = self.window_spec[0]
        if height % side or width % side:
            return 0
        for i, block in enumerate(self.blocks):
            if not isinstance(block, MultiScaleBlock) or block.window_size != side:
                return i
            if block.q_stride:
                side //= block.q_stride[0]
        return len(self.blocks)

    def _through_windows(self, x: Tensor, blocks: int) -> tuple[Tensor, dict[int, Tensor]]:
        """The first blocks, some rows of windows at a time, so that these stay in the cache.

        Args:
            x: patches [B, H, W, C], still without their positions.

        Returns:
            `x` [B, H', W', C'] after the last of these blocks, and after each that ends a stage.
        """
        batch, height, width, _ = x.shape
        side = self.window_spec[0]
        at_a_time = height
        if fusable(x) or fusable_in_bfloat16(x):
            at_a_time = max(1, WINDOW_TOKENS * torch.get_num_threads() // (batch * side * width)) * side
        kept = [i for i in range(blocks) if i in self.stage_ends or i == blocks - 1]
        strips: dict[int, list[Tensor]] = {i: [] for i in kept}
        places = self.position_embedding(height, width)
        for top in range(0, height, at_a_time):
            rows = slice(top, min(top + at_a_time, height))
            strip = x[:, rows] + places[:, rows]
            windows, hw = window_partition(strip, side)
            windows = windows.contiguous()  # of a single row of windows they are a view
            for i, block in enumerate(self.blocks[:blocks]):
                windows = block(windows, whole=True)
                if i in strips:
                    scale = side // windows.shape[1]
                    shrunk = (hw[0] // scale, hw[1] // scale)
                    strips[i].append(window_unpartition(windows, windows.shape[1], shrunk, shrunk))
        maps = {i: torch.cat(parts, dim=1) if len(parts) > 1 else parts[0] for i, parts in strips.items()}
        return maps[blocks - 1], {i: maps[i] for i in kept if i in self.stage_ends}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Picture [B, 3, H, W] -> features of each stage, finest first, [B, C, H / s, W / s]."""
        x = self.patch_embed(x)
        outputs = []
        done = 0 if self.training else self._blocks_in_windows(x.shape[1], x.shape[2])
        if done:
            x, ends = self._through_windows(x, done)
            if self.return_interm_layers:
                outputs = [ends[i].permute(0, 3, 1, 2) for i in ends]
        else:
            x = x + self.position_embedding(x.shape[1], x.shape[2])
        for i, block in enumerate(self.blocks[done:], start=done):
            x = block(x)
            if i == self.stage_ends[-1] or (i in self.stage_ends and self.return_interm_layers):
                outputs.append(x.permute(0, 3, 1, 2))
        return outputs

    def get_num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def get_layer_id(self, layer_name: str) -> int:
        """Depth of a parameter for layer-wise learning-rate decay: 0 at the input, blocks + 1 at the end."""
        last = self.get_num_layers() + 1
        if "rel_pos" in layer_name:
            return last
        if "pos_embed" in layer_name or "patch_embed" in layer_name:
            return 0
        if "blocks" in layer_name:
            return int(layer_name.split("blocks")[1].split(".")[1]) + 1
        return last
