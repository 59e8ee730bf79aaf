"""Pictures, videos, live sources and sinks: iterators and context managers over NumPy arrays, without torch."""

from __future__ import annotations

from sam2.video.errors import (
    LiveStallError,
    PictureError,
    PictureNotFoundError,
    VideoError,
    VideoNotFoundError,
    VideoWarning,
)
from sam2.video.folders import natural_key, natural_sorted
from sam2.video.picture import PICTURE_SUFFIXES, picture_size, read_picture
from sam2.video.reader import VideoReader, open_video

__all__ = [
    "PICTURE_SUFFIXES",
    "LiveStallError",
    "PictureError",
    "PictureNotFoundError",
    "VideoError",
    "VideoNotFoundError",
    "VideoReader",
    "VideoWarning",
    "natural_key",
    "natural_sorted",
    "open_video",
    "picture_size",
    "read_picture",
]
