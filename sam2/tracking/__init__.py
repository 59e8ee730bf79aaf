"""Following objects through a video: its state, and the engine that moves it."""

from sam2.tracking.engine import TrackingEngine
from sam2.tracking.features import FeatureBudget, FeatureCache
from sam2.tracking.passes import FusedResult, Suggestion, look_next
from sam2.tracking.prompting import ObjectPrompt
from sam2.tracking.results import FrameResult
from sam2.tracking.saving import SessionFileError
from sam2.tracking.session import NothingToTrackError, ObjectMask, ObjectTrack, VideoSession
from sam2.tracking.stream import FrameGoneError
from sam2.tracking.tracker import StreamingTracker

__all__ = [
    "FeatureBudget",
    "FeatureCache",
    "FrameGoneError",
    "FrameResult",
    "FusedResult",
    "NothingToTrackError",
    "ObjectMask",
    "ObjectPrompt",
    "ObjectTrack",
    "SessionFileError",
    "StreamingTracker",
    "Suggestion",
    "TrackingEngine",
    "VideoSession",
    "look_next",
]
