"""Which past frames count: data and decisions, no parameters."""

from sam2.memory.bank import MemoryBank
from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.policies import FifoPolicy, select_closest_cond_frames

__all__ = ["FifoPolicy", "MemoryBank", "MemoryEntry", "MemorySelection", "select_closest_cond_frames"]
