"""Features of frames, encoded once and kept where there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sam2.memory.archive import Archive, HistoryLostError, StorageOptions
from sam2.memory.records import pack, unpack
from sam2.modeling.outputs import FrameFeatures


@dataclass(frozen=True)
class FeatureBudget:
    """How much room cached features may take."""

    device_frames: int = 4
    """Frames kept on the device, at least 1."""
    host_bytes: int = 128 * 2**20
    """Bytes of host memory for further frames."""
    disk_bytes: int = 0
    """Bytes of a temporary file for still further ones."""
    folder: str | Path | None = None
    """Where the file is made; None for the system's folder for temporary files."""
    precision: Literal["exact", "bfloat16"] = "exact"
    """How features are kept off the device: bit for bit, or in half the bytes."""

    def __post_init__(self) -> None:
        if self.device_frames < 1:
            raise ValueError(f"device_frames is {self.device_frames}: the frame at work takes one")
        if self.host_bytes < 0 or self.disk_bytes < 0:
            raise ValueError("budgets of bytes must be 0 or more")
        if self.precision not in ("exact", "bfloat16"):
            raise ValueError(f"precision is {self.precision!r}: say 'exact' or 'bfloat16'")


def default_budget(device: torch.device) -> FeatureBudget:
    """On the CPU as `FeatureBudget` says; elsewhere 16 frames on the device and none in host memory, since
    moving features there waits for the device."""
    return FeatureBudget() if device.type == "cpu" else FeatureBudget(device_frames=16, host_bytes=0)


class FeatureCache:
    """Features by frame: those used last on the device, older ones in host memory, then in a file.

    Invariant: a frame is held once, and the frame that was used longest ago goes first. A frame that a
    failing disk lost is encoded again.
    """

    def __init__(self, budget: FeatureBudget | None = None) -> None:
        self.budget = budget or FeatureBudget()
        self.hits = 0
        self.misses = 0
        self._near: OrderedDict[int, FrameFeatures] = OrderedDict()
        self._far: OrderedDict[int, tuple[int, int]] = OrderedDict()  # frame: address, bytes
        self._far_nbytes = 0
        self._encodings: list[Tensor] = []
        self._dtypes: list[torch.dtype] = []
        self._archive = self._new_archive()

    def _new_archive(self) -> Archive:
        return Archive(StorageOptions(host_bytes=self.budget.host_bytes, folder=self.budget.folder))

    @property
    def hit_rate(self) -> float:
        """The share of requests that needed no encoding, 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    def __len__(self) -> int:
        return len(self._near) + len(self._far)

    def __contains__(self, frame_idx: int) -> bool:
        return frame_idx in self._near or frame_idx in self._far

    def get(self, frame_idx: int, encode: Callable[[], FrameFeatures]) -> FrameFeatures:
        """The features of a frame, encoded where they are not held."""
        features = self._near.get(frame_idx)
        if features is not None:
            self.hits += 1
            self._near.move_to_end(frame_idx)
            return features
        features = self._fetch(frame_idx)
        if features is None:
            self.misses += 1
            features = encode()
        else:
            self.hits += 1
        self._encodings = features.encodings
        self._dtypes = [level.dtype for level in features.maps]
        self._near[frame_idx] = features
        while len(self._near) > self.budget.device_frames:
            self._put_away(*self._near.popitem(last=False))
        return features

    def _fetch(self, frame_idx: int) -> FrameFeatures | None:
        if frame_idx not in self._far:
            return None
        address, size = self._far.pop(frame_idx)
        self._far_nbytes -= size
        try:
            _, tensors = unpack(self._archive.get(address))
        except HistoryLostError:
            return None
        finally:
            self._archive.drop(address)
        device = self._encodings[-1].device
        levels = zip((t for t in tensors if t is not None), self._dtypes, strict=True)
        # the layout that `SAM2Base.encode_image` gives
        maps = [t.to(device, dtype).contiguous() for t, dtype in levels]
        return FrameFeatures(maps, self._encodings)

    def _put_away(self, frame_idx: int, features: FrameFeatures) -> None:
        exact = self.budget.precision == "exact"
        size = features.nbytes if exact else features.nbytes // 2
        room = self.budget.host_bytes + self.budget.disk_bytes
        if size > room:
            return
        while self._far_nbytes + size > room:
            _, (address, freed) = self._far.popitem(last=False)
            self._archive.drop(address)
            self._far_nbytes -= freed
        maps = [t if exact else t.to(torch.bfloat16) for t in features.maps]
        self._far[frame_idx] = (self._archive.put(pack({}, maps)), size)
        self._far_nbytes += size

    def clear(self) -> None:
        """Lets all features go."""
        self._near.clear()
        self._far.clear()
        self._far_nbytes = 0
        self._archive.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["budget"])  # type: ignore[misc]
