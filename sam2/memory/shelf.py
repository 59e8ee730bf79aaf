"""Values by frame: those that coming frames read at hand, older ones in an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from sam2.memory.archive import Archive, HistoryLostError
from sam2.memory.records import pack_fields, unpack_fields

T = TypeVar("T")


class Shelf(MutableMapping[int, T], Generic[T]):
    """A dictionary by frame index (0 and more) of flat dataclasses of tensors.

    Invariant: a frame is at hand or in the archive, never in both. What comes from the archive equals
    what went there bit for bit; it is not kept at hand for having been read.

    Args:
        kind: the dataclass.
    """

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self.archive: Archive | None = None
        self._near: dict[int, T] = {}
        self._far = np.full(0, -1, np.int64)
        self._far_count = 0
        self._device: torch.device | str = "cpu"

    def attach(self, archive: Archive | None, device: torch.device) -> None:
        """Chooses where older values go, and the device on which they come back."""
        self.archive = archive
        self._device = device

    @property
    def near(self) -> dict[int, T]:
        """The values at hand."""
        return self._near

    def put_away(self, expired: Callable[[int], bool]) -> None:
        """Moves values at hand of expired frames into the archive; without one they stay."""
        if self.archive is None:
            return
        for frame in [f for f in self._near if f >= 0 and expired(f)]:
            address = self.archive.put(pack_fields(self._near.pop(frame)))
            if frame >= len(self._far):
                grown = np.full(max(64, 2 * len(self._far), frame + 1), -1, np.int64)
                grown[: len(self._far)] = self._far
                self._far = grown
            self._far[frame] = address
            self._far_count += 1

    def discard(self, frame: int) -> bool:
        """Forgets a frame without reading it; whether there was something."""
        if self._near.pop(frame, None) is not None:
            return True
        if not self._is_far(frame):
            return False
        assert self.archive is not None
        self.archive.drop(int(self._far[frame]))
        self._far[frame] = -1
        self._far_count -= 1
        return True

    def _is_far(self, frame: int) -> bool:
        return 0 <= frame < len(self._far) and bool(self._far[frame] >= 0)

    def __getitem__(self, frame: int) -> T:
        if frame in self._near:
            return self._near[frame]
        if not self._is_far(frame):
            raise KeyError(frame)
        assert self.archive is not None
        try:
            record = self.archive.get(int(self._far[frame]))
        except HistoryLostError as error:
            raise HistoryLostError(f"frame {frame}: {error}") from None
        return unpack_fields(self.kind, record, self._device)

    def __setitem__(self, frame: int, value: T) -> None:
        self.discard(frame)
        self._near[frame] = value

    def __delitem__(self, frame: int) -> None:
        if not self.discard(frame):
            raise KeyError(frame)

    def __contains__(self, frame: object) -> bool:
        return frame in self._near or (isinstance(frame, int) and self._is_far(frame))

    def __iter__(self) -> Iterator[int]:
        return iter(sorted([*self._near, *np.flatnonzero(self._far >= 0).tolist()]))

    def __len__(self) -> int:
        return len(self._near) + self._far_count

    def clear(self) -> None:
        for frame in list(self):
            self.discard(frame)

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "values": dict(self.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["kind"])  # type: ignore[misc]
        self._near.update(state["values"])


class FrameMarks(MutableMapping[int, bool]):
    """Yes or no by frame index, one byte a frame."""

    def __init__(self) -> None:
        self._marks = bytearray()  # 0 for nothing, 1 for no, 2 for yes

    def __getitem__(self, frame: int) -> bool:
        if not 0 <= frame < len(self._marks) or not self._marks[frame]:
            raise KeyError(frame)
        return self._marks[frame] == 2

    def __setitem__(self, frame: int, value: bool) -> None:
        assert frame >= 0
        if frame >= len(self._marks):
            self._marks.extend(bytes(frame + 1 - len(self._marks)))
        self._marks[frame] = 2 if value else 1

    def __delitem__(self, frame: int) -> None:
        self[frame]
        self._marks[frame] = 0

    def __iter__(self) -> Iterator[int]:
        return (frame for frame, mark in enumerate(self._marks) if mark)

    def __len__(self) -> int:
        return len(self._marks) - self._marks.count(0)

    def clear(self) -> None:
        self._marks.clear()

    def next_yes(self, frame: int, forwards: bool) -> int | None:
        """The nearest frame before (or after) `frame` that says yes, or None."""
        if forwards:
            found = self._marks.find(2, max(frame + 1, 0))
        else:
            found = self._marks.rfind(2, 0, max(frame, 0))
        return found if found >= 0 else None
