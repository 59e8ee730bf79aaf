"""Parts of memories side by side in one preallocated tensor: any choice of them is one indexed read."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sam2.memory.entry import MemoryEntry
from sam2.ops.transfer import upload


class SlotPool:
    """A ring of slots, each with one part of one memory: what was read longest ago gives its slot up.

    A cache: entries keep their tensors, and one that lost its slot is copied again when it is read. Memories
    of many objects and sessions may share a pool.

    Args:
        part: the part that is kept, by entry: [1, ...].
        shape: of a slot, the part's without its first axis.
        slots: to begin with; there are more once a read needs them.
    """

    def __init__(
        self,
        part: Callable[[MemoryEntry], Tensor],
        shape: Sequence[int],
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._part = part
        self._values = torch.zeros(slots, *shape, device=device, dtype=dtype)
        self._slots: OrderedDict[int, tuple[weakref.ref[MemoryEntry], int]] = OrderedDict()
        self._free = list(range(slots))

    def __len__(self) -> int:
        """Slots."""
        return len(self._values)

    def read(self, rows: Sequence[Sequence[MemoryEntry | None]]) -> Tensor:
        """The parts of rows of entries, [rows, entries, *shape]; any finite values where there is None."""
        wanted = {id(entry): entry for row in rows for entry in row if entry is not None}
        self._place(wanted)
        slots = [[0 if entry is None else self._slots[id(entry)][1] for entry in row] for row in rows]
        index = upload(torch.tensor(slots, dtype=torch.int64), self._values.device)
        return self._values.index_select(0, index.flatten()).unflatten(0, index.shape)

    def _place(self, wanted: dict[int, MemoryEntry]) -> None:
        missing = []
        for key, entry in wanted.items():
            held = self._slots.get(key)
            if held is not None and held[0]() is entry:
                self._slots.move_to_end(key)
            else:
                missing.append(entry)
        if not missing:
            return
        if len(wanted) + len(missing) > len(self._values):
            self._grow(2 * (len(wanted) + len(missing)))
        slots = []
        for entry in missing:
            former = self._slots.pop(id(entry), None)  # of an entry that is gone
            if former is not None:
                slot = former[1]
            elif self._free:
                slot = self._free.pop()
            else:
                # what is wanted and was held lies at the end, so that this is none of it
                slot = self._slots.popitem(last=False)[1][1]
            self._slots[id(entry)] = weakref.ref(entry), slot
            slots.append(slot)
        parts = torch.cat([self._part(entry).to(self._values, non_blocking=True) for entry in missing])
        self._values.index_copy_(0, upload(torch.tensor(slots), self._values.device), parts)

    def _grow(self, slots: int) -> None:
        old = self._values
        self._values = old.new_zeros(slots, *old.shape[1:])
        self._values[: len(old)] = old
        self._free += range(len(old), slots)
