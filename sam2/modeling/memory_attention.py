"""Conditions a frame's features on the memories of an object (SAM 2, section 4, memory attention).

Shapes: B objects, N tokens of the frame, M memory tokens, C channels of the model, K of a memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2.modeling.layers import get_activation_fn, get_clones
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.ops.linear import MANY_TOKENS, fusable, fusable_in_bfloat16, linear_of_picture


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to memory and an MLP, each after a normalisation.

    Args:
        activation: of the MLP: relu, gelu or glu.
        pos_enc_at_attn: add the frame's encoding before self-attention.
        pos_enc_at_cross_attn_keys, pos_enc_at_cross_attn_queries: likewise before cross-attention.
    """

    def __init__(
        self,
        activation: str,
        cross_attention: nn.Module,
        d_model: int,
        dim_feedforward: int,
        dropout: float,
        pos_enc_at_attn: bool,
        pos_enc_at_cross_attn_keys: bool,
        pos_enc_at_cross_attn_queries: bool,
        self_attention: nn.Module,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.dim_feedforward = dim_feedforward
        self.dropout_value = dropout
        self.self_attn = self_attention
        self.cross_attn_image = cross_attention
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.dropout3 = nn.Dropout(dropout)
        self.activation = get_activation_fn(activation)
        self.pos_enc_at_attn = pos_enc_at_attn
        self.pos_enc_at_cross_attn_queries = pos_enc_at_cross_attn_queries
        self.pos_enc_at_cross_attn_keys = pos_enc_at_cross_attn_keys

    def attend_self(self, tgt: Tensor, query_pos: Tensor | None) -> Tensor:
        """The frame with itself: independent of the object until memory was read."""
        x = self.norm1(tgt)
        q = x + query_pos if self.pos_enc_at_attn and query_pos is not None else x
        return tgt + self.dropout1(self.self_attn(q, q, x))

    def attend_memory(
        self,
        tgt: Tensor,
        memory: Tensor,
        pos: Tensor | None,
        query_pos: Tensor | None,
        num_k_exclude_rope: int,
        pool_keys: bool = False,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """The frame with an object's memory, then the MLP."""
        x = self.norm2(tgt)
        q = x + query_pos if self.pos_enc_at_cross_attn_queries and query_pos is not None else x
        k = memory + pos if self.pos_enc_at_cross_attn_keys and pos is not None else memory
        if isinstance(self.cross_attn_image, RoPEAttention):
            read = self.cross_attn_image(q, k, memory, num_k_exclude_rope, pool_keys, key_bias)
        else:
            read = self.cross_attn_image(q, k, memory, key_bias)
        tgt = tgt + self.dropout2(read)
        tokens = tgt.shape[-2]
        y = linear_of_picture(self.linear1, self.norm3(tgt), tokens, self.activation)
        y = linear_of_picture(self.linear2, self.dropout(y), tokens)
        return tgt + self.dropout3(y)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
        num_k_exclude_rope: int = 0,
    ) -> Tensor:
        """tgt and query_pos [B, N, C], memory and pos [B, M, K] -> [B, N, C]."""
        tgt = self.attend_self(tgt, query_pos)
        return self.attend_memory(tgt, memory, pos, query_pos, num_k_exclude_rope)


class MemoryAttention(nn.Module):
    """`num_layers` copies of `layer` and a last normalisation.

    Args:
        d_model: channels of the frame's features.
        pos_enc_at_input: add a tenth of the frame's encoding first.
        batch_first: inner layout; inputs and output are sequence first either way.
    """

    def __init__(
        self,
        d_model: int,
        pos_enc_at_input: bool,
        layer: MemoryAttentionLayer,
        num_layers: int,
        batch_first: bool = True,
    ) -> None:
        super().__init__()
        if not batch_first:
            raise ValueError("batch_first=False has no layer to serve it: leave it out")
        self.d_model = d_model
        self.layers = get_clones(layer, num_layers)
        self.num_layers = num_layers
        self.norm = nn.LayerNorm(d_model)
        self.pos_enc_at_input = pos_enc_at_input
        self.batch_first = batch_first

    def forward(
        self,
        curr: Tensor | list[Tensor],
        memory: Tensor,
        curr_pos: Tensor | list[Tensor] | None = None,
        memory_pos: Tensor | None = None,
        num_obj_ptr_tokens: int = 0,
        memory_pooling: bool = False,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """Conditions the frame on each object's memory.

        Args:
            curr: features [N, B, C], or [N, 1, C] for one frame with the memories of B objects:
                what does not depend on the object is then computed once.
            memory: [M, B, K], the object-pointer tokens last.
            curr_pos, memory_pos: encodings of the same shapes.
            num_obj_ptr_tokens: how many of the M tokens are object pointers.
            memory_pooling: read most spatial memories in means of 2 x 2 cells; see `RoPEAttention`.
            key_bias: added to the scores of each token [B, M]: minus infinity hides it, so that shapes stay
                the same while memories come and go.

        Returns:
            [N, B, C].
        """
        if isinstance(curr, list):
            curr = curr[0]
        if isinstance(curr_pos, list):
            curr_pos = curr_pos[0]
        output = curr.transpose(0, 1)
        query_pos = None if curr_pos is None else curr_pos.transpose(0, 1)
        if self.pos_enc_at_input and query_pos is not None:
            output = output + 0.1 * query_pos
        memory = memory.transpose(0, 1)
        memory_pos = None if memory_pos is None else memory_pos.transpose(0, 1)
        first = self.layers[0]
        assert isinstance(first, MemoryAttentionLayer)
        output = first.attend_self(output, query_pos)
        # large pictures on a CPU object by object, so that what is made on the way stays in the cache
        serves = fusable(output) or fusable_in_bfloat16(output)
        one_by_one = serves and output.shape[1] >= MANY_TOKENS
        at_a_time = 1 if one_by_one else len(memory)
        parts = []
        for start in range(0, len(memory), at_a_time):
            objects = slice(start, start + at_a_time)
            parts.append(
                self._read(
                    output if len(output) == 1 else output[objects],
                    query_pos if query_pos is None or len(query_pos) == 1 else query_pos[objects],
                    memory[objects],
                    None if memory_pos is None else memory_pos[objects],
                    num_obj_ptr_tokens,
                    memory_pooling,
                    None if key_bias is None else key_bias[objects],
                )
            )
        conditioned = torch.cat(parts) if len(parts) > 1 else parts[0]
        return self.norm(conditioned).transpose(0, 1)

    def _read(
        self,
        tgt: Tensor,
        query_pos: Tensor | None,
        memory: Tensor,
        memory_pos: Tensor | None,
        num_obj_ptr_tokens: int,
        memory_pooling: bool,
        key_bias: Tensor | None,
    ) -> Tensor:
        """The layers after the first self-attention: `tgt` [B or 1, N, C] reads `memory` [B, M, K]."""
        x = tgt.expand(len(memory), -1, -1)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, MemoryAttentionLayer)
            if i > 0:
                x = layer.attend_self(x, query_pos)
            x = layer.attend_memory(
                x, memory, memory_pos, query_pos, num_obj_ptr_tokens, memory_pooling, key_bias
            )
        return x
