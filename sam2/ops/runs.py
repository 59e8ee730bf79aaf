"""Run lengths of masks, found where the masks are: far less to copy than the masks themselves."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def run_lengths(masks: Tensor) -> list[list[int]]:
    """Lengths of the runs of each mask, column by column, alternately off and on, beginning with off.

    The twin of `sam2.masks.rle.encode_batch` on any device; waits for the device once.

    Args:
        masks: bool [N, H, W].
    """
    flat = masks.transpose(1, 2).flatten(1)
    before = torch.cat([torch.zeros_like(flat[:, :1]), flat[:, :-1]], dim=1)
    which, where = (flat != before).nonzero().cpu().numpy().T
    rows = np.searchsorted(which, np.arange(len(masks) + 1))
    return [
        np.diff(where[first:last], prepend=0, append=flat.shape[1]).tolist()
        for first, last in itertools.pairwise(rows)
    ]
