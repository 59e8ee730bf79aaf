"""Policies by name, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from sam2.memory.policies import FifoPolicy
from sam2.memory.tree import TreePolicy
from sam2.memory.trust import DistractorAwarePolicy, MotionAwarePolicy

POLICIES: Mapping[str, type[FifoPolicy]] = {
    "fifo": FifoPolicy,
    "motion": MotionAwarePolicy,
    "distractor": DistractorAwarePolicy,
    "tree": TreePolicy,
}
POLICY_NAMES = ("fifo", "stride", "motion", "distractor", "tree")
DEFAULT_STRIDE = 4
"""Frames between recent memories of the policy named "stride"."""


def make_policy(choice: str | FifoPolicy, model: FifoPolicy) -> FifoPolicy:
    """A policy by name (one of `POLICY_NAMES`) under a model's options, or as given.

    Raises:
        ValueError: no such name.
    """
    if isinstance(choice, FifoPolicy):
        return choice
    if choice == "stride":
        return replace(model, stride=DEFAULT_STRIDE)
    if choice not in POLICIES:
        raise ValueError(f"unknown policy {choice!r}: say {', '.join(POLICY_NAMES)}")
    return POLICIES[choice](**asdict(model))


def policy_to_json(policy: FifoPolicy) -> dict[str, object]:
    """A policy as plain values.

    Raises:
        ValueError: not one of this package's.
    """
    for name, kind in POLICIES.items():
        if type(policy) is kind:
            return {"name": name, **asdict(policy)}
    raise ValueError(f"a session with a {type(policy).__name__} of your own cannot be saved")


def policy_from_json(values: dict[str, object]) -> FifoPolicy:
    """What `policy_to_json` was given."""
    options = {key: value for key, value in values.items() if key != "name"}
    return POLICIES[str(values["name"])](**options)  # type: ignore[arg-type]
