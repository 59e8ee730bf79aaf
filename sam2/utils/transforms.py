"""Published home of `SAM2Transforms`; see `sam2.preprocess`."""

from __future__ import annotations

from sam2.preprocess import SAM2Transforms

__all__ = ["SAM2Transforms"]
