"""Tree search (SAM2Long, arXiv 2410.16268, section 3): several pathways, each with its own memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from sam2.memory.entry import MemoryEntry, ObjectMask
from sam2.memory.judges import State
from sam2.memory.trust import JudgedMemories, TrustedFramesPolicy

EPSILON = 1e-5
"""Keeps the logarithm of a predicted IoU finite."""


@dataclass(frozen=True)
class TreePolicy(TrustedFramesPolicy):
    """SAM2Long (arXiv 2410.16268): each frame offers every pathway's candidates as branches, and those with
    the highest sums of log predicted IoU go on (section 3.2, constrained memory tree).

    Where no pathway is certain whether the object is there, branches that go on differ in predicted IoU.
    A pathway's spatial memories are its last frames with the object and a mask that is good enough
    (section 3.3, object-aware memory). What is shown is the best pathway; frames shown before follow it when
    the best one changes. The paper's scaling of memories by their presence is left out.
    """

    num_pathways: int = 3
    """P, pathways that go on."""
    min_iou: float = 0.3
    """Predicted IoU of a frame that serves as recent memory (delta_IoU)."""
    certain_presence: float = 2.0
    """Magnitude of the presence logit above which a pathway is certain (delta_conf)."""
    decide_after: int = 64
    """Frames after which a choice is final, so that memory stays flat; the paper waits for the last frame."""

    def new_follower(self) -> PathwayTree:
        """The pathways of one object."""
        return PathwayTree(self)

    def trusts(self, predicted_iou: float, presence: float) -> bool:
        """Whether a frame may serve as recent memory."""
        return predicted_iou > self.min_iou and presence > 0

    def branch(
        self, scores: Sequence[float], ious: Sequence[Sequence[float]], presences: Sequence[float]
    ) -> list[Branch]:
        """The branches that go on, best first.

        Args:
            scores: of each pathway so far.
            ious: predicted IoU of each pathway's candidates on this frame.
            presences: each pathway's presence logit on this frame.
        """
        offered = [
            (Branch(p, k, score + math.log(max(iou, 0.0) + EPSILON)), iou)
            for p, score in enumerate(scores)
            for k, iou in enumerate(ious[p])
        ]
        offered.sort(key=lambda offer: -offer[0].score)
        if max(map(abs, presences)) <= self.certain_presence:
            seen: set[float] = set()
            # candidates of one frame with equal IoU nearly always are the same mask: they come last
            first = [b for b, iou in offered if (r := round(iou, 2)) not in seen and not seen.add(r)]  # type: ignore[func-returns-value]
            kept = (first + [b for b, _ in offered if b not in first])[: self.num_pathways]
            return sorted(kept, key=lambda b: -b.score)
        return [b for b, _ in offered[: self.num_pathways]]


@dataclass(frozen=True)
class Branch:
    """One candidate of one pathway."""

    pathway: int
    candidate: int
    score: float
    """Sum of log predicted IoU along the pathway, this frame included."""


@dataclass(frozen=True, eq=False)
class Step:
    """What one frame gave a pathway."""

    entry: MemoryEntry
    mask: ObjectMask | None
    """None for frames before the tree began."""


class _StepMarks:
    """Which frames of a pathway are trusted."""

    def __init__(self, steps: Mapping[int, Step]) -> None:
        self._frames = [t for t, step in steps.items() if step.entry.trusted]

    def next_yes(self, frame: int, forwards: bool) -> int | None:
        """The nearest trusted frame before (or after) `frame`, or None."""
        if forwards:
            return min((t for t in self._frames if t > frame), default=None)
        return max((t for t in self._frames if t < frame), default=None)


@dataclass(frozen=True)
class _PathwayMemories:
    conditioning: Mapping[int, MemoryEntry]
    recent: Mapping[int, MemoryEntry]
    trusted: _StepMarks
    anchors: _StepMarks


@dataclass(frozen=True, eq=False)
class Pathway:
    """One account of where the object went.

    Invariant: `steps` holds each frame that this pathway may still read, and each whose choice is not final.
    """

    score: float
    steps: Mapping[int, Step]

    def memories(self, conditioning: Mapping[int, MemoryEntry]) -> JudgedMemories:
        """What the pathway remembers, beside the prompted frames that all share."""
        recent = {t: step.entry for t, step in self.steps.items()}
        return _PathwayMemories(conditioning, recent, _StepMarks(self.steps), _StepMarks({}))


class PathwayTree:
    """The pathways of one object, best first.

    Invariant: pathways share the very `Step` of every frame up to where they parted.
    """

    def __init__(self, policy: TreePolicy) -> None:
        self.policy = policy
        self.pathways: list[Pathway] = [Pathway(0.0, {})]

    @property
    def best(self) -> Pathway:
        """The pathway with the highest score."""
        return self.pathways[0]

    def begin(self, memories: JudgedMemories, frame_idx: int, reverse: bool) -> None:
        """Begins with one pathway, on what frame `frame_idx` reads of an object's bank."""
        chosen = self.policy.select(memories, frame_idx, reverse)
        entries = [e for _, e in (*chosen.spatial, *chosen.pointers) if not e.is_conditioning]
        steps = {e.frame_idx: Step(e, None) for e in sorted(entries, key=lambda e: e.frame_idx)}
        self.pathways = [Pathway(0.0, steps)]

    def grow(self, frame_idx: int, reverse: bool, grown: Iterable[tuple[Branch, Step]]) -> dict[int, Step]:
        """Goes on with the branches chosen, best first; forgets what no pathway needs.

        Returns:
            The steps of the best pathway by frame that were not the best one's before.
        """
        before = self.best.steps
        self.pathways = [
            Pathway(b.score, {**self.pathways[b.pathway].steps, frame_idx: step}) for b, step in grown
        ]
        self._decide(frame_idx + self.policy.decide_after * (1 if reverse else -1))
        changed = {
            t: step
            for t, step in self.best.steps.items()
            if t == frame_idx or (t in before and before[t] is not step)
        }
        self.pathways = [self._pruned(p, frame_idx) for p in self.pathways]
        return changed

    def _decide(self, frame_idx: int) -> None:
        """Makes the best pathway's choice on a frame final: others go."""
        final = self.best.steps.get(frame_idx)
        if final is not None:
            self.pathways = [p for p in self.pathways if p.steps.get(frame_idx) in (None, final)]

    def _pruned(self, pathway: Pathway, frame_idx: int) -> Pathway:
        coming = self.policy.coming(pathway.memories({}), frame_idx)
        horizon = self.policy.horizon()

        def needed(t: int, step: Step) -> bool:
            if abs(t - frame_idx) <= horizon or t in coming:
                return True
            is_open = any(p.steps.get(t) not in (None, step) for p in self.pathways)
            return is_open and abs(t - frame_idx) <= self.policy.decide_after

        return replace(pathway, steps={t: s for t, s in pathway.steps.items() if needed(t, s)})

    def state(self) -> State:
        """Scores, and every step once with the pathways that it belongs to."""
        steps = list({id(s): s for p in self.pathways for s in p.steps.values()}.values())
        number = {id(step): i for i, step in enumerate(steps)}
        tensors: list[Tensor | None] = []
        for step in steps:
            entry, mask = step.entry, step.mask
            tensors += [entry.features, entry.obj_ptr, entry.object_score_logits]
            tensors += [None, None] if mask is None else [mask.logits, mask.predicted_iou]
        values: dict[str, Any] = {
            "pathways": [[p.score, [number[id(s)] for s in p.steps.values()]] for p in self.pathways],
            "steps": [[s.entry.frame_idx, s.entry.trusted] for s in steps],
        }
        return values, tensors

    def restore(self, values: dict[str, Any], tensors: list[Tensor | None]) -> None:
        """What `state` gave."""
        steps = []
        for i, (frame_idx, trusted) in enumerate(values["steps"]):
            features, obj_ptr, presence, logits, iou = tensors[5 * i : 5 * i + 5]
            assert obj_ptr is not None
            assert presence is not None
            mask = None if logits is None or iou is None else ObjectMask(logits, iou, presence)
            steps.append(Step(MemoryEntry(frame_idx, False, features, obj_ptr, presence, trusted), mask))
        self.pathways = [
            Pathway(score, {steps[i].entry.frame_idx: steps[i] for i in numbers})
            for score, numbers in values["pathways"]
        ]
