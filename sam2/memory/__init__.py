"""Which past frames count: data and decisions, no parameters."""

from sam2.memory.archive import Archive, HistoryLostError, StorageOptions
from sam2.memory.bank import MemoryBank
from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.named import POLICY_NAMES, make_policy
from sam2.memory.policies import FifoPolicy, select_closest_cond_frames
from sam2.memory.shelf import FrameMarks, Shelf
from sam2.memory.tree import TreePolicy
from sam2.memory.trust import DistractorAwarePolicy, MotionAwarePolicy

__all__ = [
    "POLICY_NAMES",
    "Archive",
    "DistractorAwarePolicy",
    "FifoPolicy",
    "FrameMarks",
    "HistoryLostError",
    "MemoryBank",
    "MemoryEntry",
    "MemorySelection",
    "MotionAwarePolicy",
    "Shelf",
    "StorageOptions",
    "TreePolicy",
    "make_policy",
    "select_closest_cond_frames",
]
