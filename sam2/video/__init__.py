"""Pictures, videos, live sources and sinks: iterators and context managers over NumPy arrays."""

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
from sam2.video.live import LiveFrame, LiveSource, open_live
from sam2.video.picture import PICTURE_SUFFIXES, picture_size, read_picture
from sam2.video.reader import VideoReader, open_video
from sam2.video.sink import FrameFolderSink, VideoSink

__all__ = [
    "PICTURE_SUFFIXES",
    "FrameFolderSink",
    "LiveFrame",
    "LiveSource",
    "LiveStallError",
    "PictureError",
    "PictureNotFoundError",
    "VideoError",
    "VideoNotFoundError",
    "VideoReader",
    "VideoSink",
    "VideoWarning",
    "natural_key",
    "natural_sorted",
    "open_live",
    "open_video",
    "picture_size",
    "read_picture",
]
