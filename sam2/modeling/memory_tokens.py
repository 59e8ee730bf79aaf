"""Selected memories to the tokens that memory attention reads (SAM 2, section 4, memory bank).

Shapes: B objects, P spatial memories of N cells, R pointers, K channels of a memory, C of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam2.memory.entry import MemorySelection
from sam2.modeling.position_encoding import get_1d_sine_pe


class FixedMemories(NamedTuple):
    """What B objects read, in a shape that stays the same while memories come and go.

    Invariant: the first spatial memory of each object is its first, and its last one is the last.
    """

    spatial: Tensor
    """[B, P, N, K]"""
    pointers: Tensor
    """[B, R, C]"""
    times: Tensor
    """Temporal positions of the spatial memories and scaled distances of the pointers, as of
    `MemorySelection`, float32 [B, P + R]; NaN where there is none."""


class MemoryTokens(NamedTuple):
    """Tokens of B objects, spatial memories first, object pointers last."""

    memory: Tensor
    """[M, B, K]"""
    pos: Tensor
    """[M, B, K]"""
    num_pointer_tokens: int
    key_bias: Tensor | None = None
    """[B, M]: 0, or minus infinity where there is no memory; None where all are there."""


def _spatial_tokens(
    selections: Sequence[MemorySelection], tpos_table: Tensor, grid_encoding: nn.Module, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    memory, pos = [], []
    for slot in range(len(selections[0].spatial)):
        columns, times = [], []
        for selection in selections:
            position, entry = selection.spatial[slot]
            assert entry.features is not None
            columns.append(entry.features.to(tpos_table.device, dtype))
            # the table runs from the frame before (0) to conditioning frames (last)
            times.append(tpos_table[len(tpos_table) - position - 1].expand(1, entry.features.shape[0], -1))
        features_BKHW = torch.cat(columns) if len(columns) > 1 else columns[0]
        grid = grid_encoding(features_BKHW[:1]).flatten(2).permute(2, 0, 1).to(dtype)
        memory.append(features_BKHW.flatten(2).permute(2, 0, 1))
        pos.append((grid + torch.cat(times, dim=1)).expand(-1, features_BKHW.shape[0], -1))
    return memory, pos


def _pointer_tokens(
    selections: Sequence[MemorySelection], tpos_proj: nn.Module | None, mem_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pointers [R, B, C] cut into tokens of K channels [R * C / K, B, K], and their encoding."""
    columns, times = [], []
    for selection in selections:
        pointers_RBC = torch.stack([entry.obj_ptr for _, entry in selection.pointers]).to(device)
        distance = torch.tensor([d for d, _ in selection.pointers], dtype=torch.float32, device=device)
        columns.append(pointers_RBC)
        times.append((distance / selection.pointer_span)[:, None].expand(-1, pointers_RBC.shape[1]))
    return _cut(torch.cat(columns, dim=1), torch.cat(times, dim=1), tpos_proj, mem_dim)


def _cut(
    pointers_RBC: Tensor, times_RB: Tensor, tpos_proj: nn.Module | None, mem_dim: int
) -> tuple[Tensor, Tensor]:
    """Pointers as tokens of K channels [R * C / K, B, K], and the encoding of their times."""
    pieces = pointers_RBC.shape[-1] // mem_dim
    tokens = pointers_RBC.unflatten(-1, (pieces, mem_dim)).transpose(1, 2).flatten(0, 1)
    if tpos_proj is None:
        return tokens, torch.zeros_like(tokens)
    width = pointers_RBC.shape[-1] if isinstance(tpos_proj, nn.Linear) else mem_dim
    pos_RBK = tpos_proj(get_1d_sine_pe(times_RB, dim=width))
    return tokens, pos_RBK[:, None].expand(-1, pieces, -1, -1).flatten(0, 1)


def memory_tokens(
    selections: Sequence[MemorySelection],
    tpos_table: Tensor,
    grid_encoding: nn.Module,
    pointer_tpos_proj: nn.Module | None,
    mem_dim: int,
) -> MemoryTokens:
    """Tokens of several objects whose selections have equal shape.

    Args:
        selections: one for each object (or for each batch of objects remembered together).
        tpos_table: temporal encoding of spatial memories [num_maskmem, 1, K].
        grid_encoding: module that encodes a map's positions.
        pointer_tpos_proj: projection of the pointers' temporal encoding (a linear layer, or an
            identity where the encoding already has K channels); None for no temporal encoding.
        mem_dim: K, which divides C.
    """
    assert len({selection.shape for selection in selections}) == 1, "selections of one batch differ in shape"
    memory, pos = _spatial_tokens(selections, tpos_table, grid_encoding, tpos_table.dtype)
    num_pointer_tokens = 0
    if selections[0].pointers:
        tokens, token_pos = _pointer_tokens(selections, pointer_tpos_proj, mem_dim, tpos_table.device)
        memory.append(tokens)
        pos.append(token_pos)
        num_pointer_tokens = tokens.shape[0]
    return MemoryTokens(torch.cat(memory), torch.cat(pos), num_pointer_tokens)


def fixed_tokens(
    memories: FixedMemories,
    tpos_table: Tensor,
    grid_encoding: nn.Module,
    pointer_tpos_proj: nn.Module | None,
    mem_dim: int,
) -> MemoryTokens:
    """`memory_tokens` of memories some of which are not there; other arguments as there."""
    spatial_BPNK = memories.spatial.to(tpos_table.dtype)
    places, cells = spatial_BPNK.shape[1:3]
    side = math.isqrt(cells)
    there = ~memories.times.isnan()
    times = memories.times.nan_to_num(0.0)
    # the table runs from the frame before (0) to conditioning frames (last)
    tpos_BPK = tpos_table[len(tpos_table) - 1 - times[:, :places].long(), 0]
    grid_NK = (
        grid_encoding(spatial_BPNK.new_zeros(1, mem_dim, side, side))[0].flatten(1).t().to(tpos_BPK.dtype)
    )
    pos_BPNK = grid_NK + tpos_BPK[:, :, None]
    tokens, token_pos = _cut(
        memories.pointers.transpose(0, 1), times[:, places:].t(), pointer_tpos_proj, mem_dim
    )
    pieces = memories.pointers.shape[-1] // mem_dim
    seen = torch.cat(
        (
            there[:, :places, None].expand(-1, -1, cells).flatten(1),
            there[:, places:, None].expand(-1, -1, pieces).flatten(1),
        ),
        dim=1,
    )
    return MemoryTokens(
        torch.cat((spatial_BPNK.flatten(1, 2).transpose(0, 1), tokens)),
        torch.cat((pos_BPNK.flatten(1, 2).transpose(0, 1), token_pos)),
        len(tokens),
        torch.where(seen, 0.0, float("-inf")),
    )
