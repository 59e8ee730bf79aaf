"""Is this installation sound? What there is, and which devices and precisions give the right masks."""

from __future__ import annotations

from sam2.doctor.checks import MODES, PRECISIONS, Finding, check, check_weights
from sam2.doctor.environment import devices, environment

__all__ = ["MODES", "PRECISIONS", "Finding", "check", "check_weights", "devices", "environment"]
