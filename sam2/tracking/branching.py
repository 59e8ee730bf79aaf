"""One frame of tree search: every pathway of every object in batches, then the branches that go on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.tree import Branch, PathwayTree, Step, TreePolicy
from sam2.modeling.outputs import FrameOutput, take_rows
from sam2.tracking.session import VideoSession
from sam2.tracking.track import ObjectTrack

if TYPE_CHECKING:
    from sam2.tracking.engine import TrackingEngine


@dataclass(frozen=True)
class Offer:
    """What a pathway's memory leads to on a frame."""

    out: FrameOutput
    """Of the batch in which the pathway ran."""
    row: int
    """Its place there."""
    ious: list[float]
    """Predicted IoU of its candidates."""
    presence: float


def track_pathways(
    engine: TrackingEngine,
    session: VideoSession,
    policy: TreePolicy,
    tracks: Sequence[ObjectTrack],
    frame_idx: int,
    reverse: bool,
) -> None:
    """Follows objects to a frame along all their pathways.

    What is remembered and shown of an object is that of its best pathway, on earlier frames too.
    """
    trees = [_tree(policy, track, frame_idx, reverse) for track in tracks]
    places: list[tuple[int, int]] = []
    selections: list[MemorySelection] = []
    for i, (track, tree) in enumerate(zip(tracks, trees, strict=True)):
        for p, pathway in enumerate(tree.pathways):
            places.append((i, p))
            memories = pathway.memories(track.bank.conditioning)
            selections.append(policy.select(memories, frame_idx, reverse, session.length))
    offers = dict(zip(places, _offers(engine, session, frame_idx, selections), strict=True))

    branches: list[tuple[int, Branch]] = []
    for i, tree in enumerate(trees):
        own = [offers[i, p] for p in range(len(tree.pathways))]
        scores = [pathway.score for pathway in tree.pathways]
        kept = policy.branch(scores, [o.ious for o in own], [o.presence for o in own])
        branches += [(i, branch) for branch in kept]
    chosen = [(offers[i, branch.pathway], branch.candidate) for i, branch in branches]
    grown = list(zip(branches, _steps(engine, session, policy, frame_idx, chosen), strict=True))

    for i, (track, tree) in enumerate(zip(tracks, trees, strict=True)):
        own_steps = [(branch, step) for (number, branch), step in grown if number == i]
        for t, step in tree.grow(frame_idx, reverse, own_steps).items():
            assert step.mask is not None
            if t == frame_idx or t in track.found:  # a stream may have dropped it
                track.bank.add(step.entry)
                track.found[t] = step.mask
        track.follow(tree, frame_idx)


def _tree(policy: TreePolicy, track: ObjectTrack, frame_idx: int, reverse: bool) -> PathwayTree:
    """The object's pathways up to the frame before; one, from its bank, where tracking starts."""
    tree = track.following(frame_idx, reverse)
    if tree is None:
        tree = policy.new_follower()
        tree.begin(track.bank, frame_idx, reverse)
    assert isinstance(tree, PathwayTree)
    return tree


def _batches(keys: Sequence[object], most: int) -> list[list[int]]:
    """Indices of equal keys together, `most` at once."""
    groups: dict[object, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _offers(
    engine: TrackingEngine, session: VideoSession, frame_idx: int, selections: Sequence[MemorySelection]
) -> list[Offer]:
    """The candidates that each selection of memories leads to."""
    features = engine.features(session, frame_idx)
    found: dict[int, Offer] = {}
    for batch in _batches([engine.steps.batch_key(s) for s in selections], engine.max_batch):
        out = engine.steps.track(features, [selections[i] for i in batch])
        ious, presences = out.ious.tolist(), out.object_score_logits[:, 0].tolist()
        found.update({i: Offer(out, row, ious[row], presences[row]) for row, i in enumerate(batch)})
    return [found[i] for i in range(len(selections))]


def _steps(
    engine: TrackingEngine,
    session: VideoSession,
    policy: TreePolicy,
    frame_idx: int,
    chosen: Sequence[tuple[Offer, int]],
) -> list[Step]:
    """Mask and memory of each chosen candidate of an offer."""
    device = session.storage_device
    embedding = engine.features(session, frame_idx).embedding
    made: dict[int, Step] = {}
    for batch in _batches([id(offer.out) for offer, _ in chosen], engine.max_batch):
        offered = chosen[batch[0]][0].out
        rows = torch.tensor([chosen[i][0].row for i in batch], device=offered.ious.device)
        candidates = torch.tensor([chosen[i][1] for i in batch], device=offered.ious.device)
        out = engine.steps.choose(take_rows(offered, rows), candidates)
        memory = engine.encode_tracked(session, embedding, out)
        shown = engine.shown(out, device)
        for row, (i, mask) in enumerate(zip(batch, shown, strict=True)):
            offer, candidate = chosen[i]
            trusted = policy.trusts(offer.ious[candidate], offer.presence)
            features = None if memory is None else memory[row : row + 1].clone()
            pointer = out.obj_ptr[row : row + 1].to(device, copy=True)
            entry = MemoryEntry(frame_idx, False, features, pointer, mask.object_score_logits, trusted)
            made[i] = Step(entry, mask)
    return [made[i] for i in range(len(chosen))]
