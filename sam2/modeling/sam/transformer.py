"""Attention layers and the two-way transformer of the mask decoder (SAM, arXiv 2304.02643, section A).

Shapes: B batch, N query tokens, M key tokens, C channels, G heads, D channels of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.modeling.layers import MLP
from sam2.modeling.position_encoding import TableCache, axial_rotation, rotate
from sam2.ops.attention import attention, read
from sam2.ops.linear import fusable, fusable_in_bfloat16, is_plain, linear_of_picture


def pool_grids(x: Tensor, placed: int, side: int) -> Tensor:
    """Means of 2 x 2 neighbours in all grids but the first and the last.

    The first `placed` tokens of `x` [..., M, D] are grids of side `side`.
    """
    assert side % 2 == 0
    assert placed % side**2 == 0
    half = side // 2
    middle = slice(side**2, placed - side**2)
    if middle.stop <= middle.start:
        return x
    pooled = x[..., middle, :].unflatten(-2, (-1, half, 2, half, 2)).mean(dim=(-4, -2)).flatten(-4, -2)
    return torch.cat((x[..., : middle.start, :], pooled, x[..., middle.stop :, :]), dim=-2)


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its inputs.

    Args:
        embedding_dim: width of queries and output.
        num_heads: heads; must divide the inner width.
        downsample_rate: `embedding_dim` over the inner width.
        dropout: on the attention weights, in training.
        kv_in_dim: width of keys and values, where it is not `embedding_dim`.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        downsample_rate: int = 1,
        dropout: float = 0.0,
        kv_in_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.kv_in_dim = embedding_dim if kv_in_dim is None else kv_in_dim
        self.internal_dim = embedding_dim // downsample_rate
        self.num_heads = num_heads
        if self.internal_dim % num_heads:
            raise ValueError(f"num_heads is {num_heads}: it must divide the inner width {self.internal_dim}")
        self.q_proj = nn.Linear(embedding_dim, self.internal_dim)
        self.k_proj = nn.Linear(self.kv_in_dim, self.internal_dim)
        self.v_proj = nn.Linear(self.kv_in_dim, self.internal_dim)
        self.out_proj = nn.Linear(self.internal_dim, embedding_dim)
        self.dropout_p = dropout

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _attend(
        self, q_BGND: Tensor, k_BGMD: Tensor, v_BGMD: Tensor, bias_BM: Tensor | None = None
    ) -> Tensor:
        dropout = self.dropout_p if self.training else 0.0
        if bias_BM is None:
            out = attention(q_BGND, k_BGMD, v_BGMD, dropout)
        else:
            bias = bias_BM[:, None, None].to(q_BGND.dtype)
            bias = bias.expand(len(q_BGND), q_BGND.shape[1], q_BGND.shape[-2], -1)
            out = F.scaled_dot_product_attention(q_BGND, k_BGMD, v_BGMD, attn_mask=bias, dropout_p=dropout)
        return linear_of_picture(self.out_proj, out.transpose(1, 2).flatten(-2), out.shape[-2])

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """q [B, N, C], k and v [B, M, kv_in_dim] -> [B, N, C].

        Args:
            key_bias: added to the scores of each key [B, M]: minus infinity where there is none.
        """
        return self.attend(self.q_proj(q), self.k_proj(k), self.v_proj(v), key_bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """`forward` of projected q [B, N, G * D], k and v [B, M, G * D]."""
        return self._attend(self._split(q), self._split(k), self._split(v), key_bias)


class RoPEAttention(Attention):
    """Attention with axial rotary encoding of queries and keys on a square grid.

    Args:
        rope_theta: base of the frequencies.
        rope_k_repeat: keys are several grids of the queries' size, one after another.
        feat_sizes: kept for published configurations; the grid follows from the input.
    """

    def __init__(
        self,
        *args,
        rope_theta: float = 10000.0,
        rope_k_repeat: bool = False,
        feat_sizes: tuple[int, int] = (64, 64),
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rope_theta = rope_theta
        self.rope_k_repeat = rope_k_repeat
        self._cache = TableCache()

    def rotation(self, num_tokens: int, device: torch.device) -> Tensor:
        """The rotary table of a square grid of `num_tokens` cells: [num_tokens, D / 2, 2]."""
        side = math.isqrt(num_tokens)
        if side * side != num_tokens:
            raise ValueError(f"rotary attention needs a square grid of tokens, but got {num_tokens} tokens")
        dim = self.internal_dim // self.num_heads
        return self._cache.get(
            (side, device), lambda: axial_rotation(dim, side, side, self.rope_theta, device)
        )

    def _rotate_keys(self, k_BGMD: Tensor, rotation: Tensor) -> Tensor:
        """Turns keys that are whole grids of the queries' size."""
        grid = rotation.shape[0]
        if k_BGMD.shape[-2] % grid or (k_BGMD.shape[-2] != grid and not self.rope_k_repeat):
            raise ValueError(
                f"{k_BGMD.shape[-2]} keys cannot be placed on a grid of {grid} queries"
                + ("" if self.rope_k_repeat else " (rope_k_repeat is off)")
            )
        return rotate(k_BGMD.unflatten(-2, (-1, grid)), rotation).flatten(-3, -2)

    def key_rotation(self, placed: int, keys: int, rotation: Tensor) -> Tensor:
        """One table for `keys` keys, of which the first `placed` are grids and the others stay as they are:
        [keys, D / 2, 2]."""

        def make() -> Tensor:
            still = torch.zeros(keys - placed, *rotation.shape[1:], device=rotation.device)
            still[..., 0] = 1.0
            return torch.cat((rotation.repeat(placed // len(rotation), 1, 1), still))

        return self._cache.get((placed, keys, rotation.device), make)

    def forward(  # type: ignore[override]
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        num_k_exclude_rope: int = 0,
        pool_keys: bool = False,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """As `Attention`; the last `num_k_exclude_rope` keys (object pointers) are not rotated.

        With `pool_keys`, four neighbouring keys of a grid act as one: their mean, with four times the weight,
        reads the mean of their values. That is exact where the four are equal. The first grid (what was
        prompted) and the last (the frame before) stay whole.

        Args:
            key_bias: added to the scores of each key [B, M], alike in all cells of a grid; with it, shapes
                are taken to be few and fixed.
        """
        tokens = q.shape[-2]
        q = self._split(linear_of_picture(self.q_proj, q, tokens))
        k = self._split(linear_of_picture(self.k_proj, k, tokens))
        rotation = self.rotation(q.shape[-2], q.device)
        placed = k.shape[-2] - num_k_exclude_rope
        if key_bias is not None:
            k = rotate(k, self.key_rotation(placed, k.shape[-2], rotation))
        else:
            k_placed = self._rotate_keys(k[..., :placed, :], rotation) if placed else k[..., :0, :]
            k = torch.cat((k_placed, k[..., placed:, :]), dim=-2) if num_k_exclude_rope else k_placed
        q = rotate(q, rotation)
        bias_BM = key_bias
        if pool_keys:
            side = math.isqrt(rotation.shape[0])
            whole = k.shape[-2]
            k = pool_grids(k, placed, side)
            v = pool_grids(v, placed, side)
            pooled_M = k.new_zeros(k.shape[-2])
            # three of four keys are gone
            pooled_M[side**2 : side**2 + (whole - k.shape[-2]) // 3] = math.log(4)
            bias_BM = pooled_M[None]
            if key_bias is not None:
                bias_BM = bias_BM + pool_grids(key_bias[..., None], placed, side)[..., 0]
        if self._reads_before_projecting(q):
            return self._read_then_project(q, k, v, bias_BM)
        return self._attend(q, k, self._split(linear_of_picture(self.v_proj, v, tokens)), bias_BM)

    def _reads_before_projecting(self, q_BGND: Tensor) -> bool:
        """Whether values narrower than a head are projected after they were read."""
        dropout = self.dropout_p if self.training else 0.0
        return (
            self.kv_in_dim < q_BGND.shape[-1]
            and dropout == 0.0
            and (fusable(q_BGND) or fusable_in_bfloat16(q_BGND))
            and is_plain(self.v_proj)
        )

    def _read_then_project(
        self, q_BGND: Tensor, k_BGMD: Tensor, v_BMK: Tensor, bias_BM: Tensor | None
    ) -> Tensor:
        """As `_attend` of the projected values, because softmax's rows sum to one: P (m W + b) = (P m) W + b.

        As memories are narrower than values, that saves three eighths of the work at K = 64 and D = 256.
        """
        biases = [None] * len(v_BMK) if bias_BM is None else bias_BM.expand(len(v_BMK), -1).unbind()
        seen = torch.stack(
            [
                torch.stack([read(q_ND, k_MD, v_MK, bias_M) for q_ND, k_MD in zip(q_GND, k_GMD)])
                for q_GND, k_GMD, v_MK, bias_M in zip(q_BGND, k_BGMD, v_BMK, biases)
            ]
        )
        weight_GKD = self.v_proj.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        out = seen @ weight_GKD + self.v_proj.bias.unflatten(0, (self.num_heads, 1, -1))
        return linear_of_picture(self.out_proj, out.transpose(1, 2).flatten(-2), out.shape[-2])


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP on the tokens, image to tokens."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int = 2048,
        activation: type[nn.Module] = nn.ReLU,
        attention_downsample_rate: int = 2,
        skip_first_layer_pe: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embedding_dim, num_heads)
        self.norm1 = nn.LayerNorm(embedding_dim)
        self.cross_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.norm2 = nn.LayerNorm(embedding_dim)
        self.mlp = MLP(embedding_dim, mlp_dim, embedding_dim, num_layers=2, activation=activation)
        self.norm3 = nn.LayerNorm(embedding_dim)
        self.norm4 = nn.LayerNorm(embedding_dim)
        self.cross_attn_image_to_token = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.skip_first_layer_pe = skip_first_layer_pe

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        query_pe: Tensor,
        key_pe: Tensor,
        token_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens `queries` [B, N, C] and picture `keys` [B, M, C] with their encodings, both updated.

        Args:
            token_bias: added wherever tokens are read [B, N]: minus infinity hides one.
        """
        if self.skip_first_layer_pe:
            queries = self.self_attn(queries, queries, queries, token_bias)
        else:
            placed = queries + query_pe
            queries = queries + self.self_attn(placed, placed, queries, token_bias)
        queries = self.norm1(queries)

        keys_placed = keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, keys_placed, keys))
        queries = self.norm3(queries + self.mlp(queries))
        read = self.cross_attn_image_to_token(keys_placed, queries + query_pe, queries, token_bias)
        keys = self.norm4(keys + read)
        return queries, keys


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks and a last attention from the tokens to the picture."""

    def __init__(
        self,
        depth: int,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        activation: type[nn.Module] = nn.ReLU,
        attention_downsample_rate: int = 2,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.embedding_dim = embedding_dim
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                embedding_dim,
                num_heads,
                mlp_dim,
                activation,
                attention_downsample_rate,
                skip_first_layer_pe=i == 0,
            )
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embedding_dim, num_heads, attention_downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embedding_dim)

    def forward(
        self,
        image_embedding: Tensor,
        image_pe: Tensor,
        point_embedding: Tensor,
        token_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """image_embedding and image_pe [B, C, H, W], point_embedding [B, N, C].

        Args:
            token_bias: added wherever tokens are read [B, N]: minus infinity hides one.

        Returns the tokens [B, N, C] and the picture [B, H * W, C].
        """
        keys = image_embedding.flatten(2).transpose(1, 2)
        key_pe = image_pe.flatten(2).transpose(1, 2)
        queries = point_embedding
        for layer in self.layers:
            queries, keys = layer(queries, keys, point_embedding, key_pe, token_bias)
        attended = self.final_attn_token_to_image(queries + point_embedding, keys + key_pe, keys)
        return self.norm_final_attn(queries + attended), keys
