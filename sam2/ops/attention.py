"""Attention over many keys, on a CPU and without gradients.

PyTorch's kernel takes its products from the BLAS library, which on some processors leaves half of the
vector units idle; oneDNN does not. The plain kernel is the twin, and serves everything else.

Shapes: B batch, G heads, N queries, M keys, D channels of queries and keys, K channels of a value.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.ops.linear import fusable, fusable_in_bfloat16

LEAST_KEYS = 1024
"""With fewer keys or queries, arranging them for oneDNN costs what its products gain."""


def _rows_at_a_time(keys: int) -> int:
    """Queries whose scores are held at a time: with 28,736 keys, 15 MB."""
    return 256 if keys <= 8192 else 128


def read(q_ND: Tensor, k_MD: Tensor, v_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """What each query reads of the values: softmax(q k^T / sqrt(D) + bias) v, [N, K].

    Serves what `sam2.ops.linear.fusable` or `fusable_in_bfloat16` allows; what it gives is in that precision.
    """
    if fusable_in_bfloat16(q_ND):
        q_ND, k_MD, v_MK = q_ND.bfloat16(), k_MD.bfloat16(), v_MK.bfloat16()
        bias_M = None if bias_M is None else bias_M.bfloat16()
    pack = torch.ops.mkldnn._reorder_linear_weight
    matmul = torch.ops.mkldnn._linear_pointwise
    at_a_time = _rows_at_a_time(len(k_MD))
    keys = pack(k_MD.contiguous(), at_a_time)
    values = pack(v_MK.t().contiguous(), at_a_time)
    out = []
    for rows in (q_ND * q_ND.shape[-1] ** -0.5).split(at_a_time):
        shares = matmul(rows, keys, bias_M, "none", [], "").softmax(-1)
        out.append(matmul(shares, values, None, "none", [], ""))
    return torch.cat(out)


def attention(q_BGND: Tensor, k_BGMD: Tensor, v_BGMD: Tensor, dropout: float = 0.0) -> Tensor:
    """`scaled_dot_product_attention` without a mask: [B, G, N, D]."""
    # `fusable` first: a compiler that saw the comparison of sizes would be bound to it
    serves = fusable(q_BGND) or fusable_in_bfloat16(q_BGND)
    if not serves or dropout > 0.0 or min(q_BGND.shape[-2], k_BGMD.shape[-2]) < LEAST_KEYS:
        return F.scaled_dot_product_attention(q_BGND, k_BGMD, v_BGMD, dropout_p=dropout)
    dtype = torch.float32 if fusable(q_BGND) else torch.bfloat16
    out_BNGD = q_BGND.new_empty(q_BGND.transpose(1, 2).shape, dtype=dtype)
    for b, of_picture in enumerate(zip(q_BGND, k_BGMD, v_BGMD)):
        for g, (q_ND, k_MD, v_MD) in enumerate(zip(*of_picture)):
            out_BNGD[b, :, g] = read(q_ND, k_MD, v_MD)
    return out_BNGD.transpose(1, 2)
