"""Pictures, videos, live sources and sinks: iterators and context managers over NumPy arrays.

The names below are resolved when first used, so that pictures can be read without PyAV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2.video.errors import (
        LiveStallError,
        PictureError,
        PictureNotFoundError,
        VideoError,
        VideoNotFoundError,
        VideoWarning,
    )
    from sam2.video.folders import natural_key, natural_sorted
    from sam2.video.live import LiveFrame, LiveSource, is_live, open_live
    from sam2.video.picture import PICTURE_SUFFIXES, picture_size, read_picture
    from sam2.video.reader import VideoReader, open_video
    from sam2.video.sink import FrameFolderSink, VideoSink

_PLACES = {
    "PICTURE_SUFFIXES": "picture",
    "FrameFolderSink": "sink",
    "LiveFrame": "live",
    "LiveSource": "live",
    "LiveStallError": "errors",
    "PictureError": "errors",
    "PictureNotFoundError": "errors",
    "VideoError": "errors",
    "VideoNotFoundError": "errors",
    "VideoReader": "reader",
    "VideoSink": "sink",
    "VideoWarning": "errors",
    "is_live": "live",
    "natural_key": "folders",
    "natural_sorted": "folders",
    "open_live": "live",
    "open_video": "reader",
    "picture_size": "picture",
    "read_picture": "picture",
}

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
    "is_live",
    "natural_key",
    "natural_sorted",
    "open_live",
    "open_video",
    "picture_size",
    "read_picture",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"sam2.video.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'sam2.video' has no attribute {name!r}")
