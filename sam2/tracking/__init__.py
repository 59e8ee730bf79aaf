"""Following objects through a video: its state, and the engine that moves it."""

from sam2.tracking.engine import FrameResult, TrackingEngine
from sam2.tracking.session import FeatureCache, ObjectMask, ObjectTrack, VideoSession

__all__ = ["FeatureCache", "FrameResult", "ObjectMask", "ObjectTrack", "TrackingEngine", "VideoSession"]
