"""Features of frames, encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from sam2.modeling.outputs import FrameFeatures


class FeatureCache:
    """Features of the frames used last."""

    def __init__(self, max_frames: int = 4) -> None:
        self.max_frames = max_frames
        self.hits = 0
        self.misses = 0
        self._frames: OrderedDict[int, FrameFeatures] = OrderedDict()

    def get(self, frame_idx: int, encode: Callable[[], FrameFeatures]) -> FrameFeatures:
        """The features of a frame, encoded where they are not held."""
        if frame_idx in self._frames:
            self.hits += 1
            self._frames.move_to_end(frame_idx)
            return self._frames[frame_idx]
        self.misses += 1
        features = encode()
        self._frames[frame_idx] = features
        while len(self._frames) > self.max_frames:
            self._frames.popitem(last=False)
        return features

    def clear(self) -> None:
        """Lets all features go."""
        self._frames.clear()

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[int]]:
        return FeatureCache, (self.max_frames,)
