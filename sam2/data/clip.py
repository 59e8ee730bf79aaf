"""What every source of training data gives: frames with the masks of their objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clip:
    """A short video with the mask of every target in every frame; a still is a clip of one frame.

    T frames, N targets, height H, width W in pixels. Targets may overlap (a part and its whole are two).
    A target that is hidden or out of view in a frame has an empty mask there.
    """

    frames: np.ndarray
    """uint8 [T, H, W, 3], RGB."""
    masks: np.ndarray
    """bool [T, N, H, W]."""
    object_ids: tuple[int, ...]
    """One id for each of the N targets, unique within the clip."""
    name: str = ""
    kinds: tuple[str, ...] = ()
    """What each target is (`sam2.data.targets.Target.kind`), where that is known."""

    def __post_init__(self) -> None:
        t, h, w = self.frames.shape[:3]
        if self.frames.dtype != np.uint8 or self.frames.shape != (t, h, w, 3):
            raise ValueError(
                f"frames must be uint8 [T, H, W, 3], not {self.frames.dtype} {self.frames.shape}"
            )
        if self.masks.dtype != np.bool_ or self.masks.shape != (t, len(self.object_ids), h, w):
            raise ValueError(
                f"masks must be bool {(t, len(self.object_ids), h, w)}, "
                f"not {self.masks.dtype} {self.masks.shape}"
            )
        if self.kinds and len(self.kinds) != len(self.object_ids):
            raise ValueError(f"{len(self.kinds)} kinds for {len(self.object_ids)} targets")

    def __len__(self) -> int:
        return len(self.frames)
