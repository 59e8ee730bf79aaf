"""Tree search follows its paper's rule on scripted scores; its state goes where sessions go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.memory import FifoPolicy, MemoryBank, MemoryEntry, StorageOptions, TreePolicy
from sam2.memory.entry import ObjectMask
from sam2.memory.records import pack, unpack
from sam2.memory.tree import EPSILON, Branch, PathwayTree, Step
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt, VideoSession

POLICY = TreePolicy(decide_after=8)


def places(branches: Sequence[Branch]) -> list[tuple[int, int]]:
    return [(branch.pathway, branch.candidate) for branch in branches]


# ---------------------------------------------------------------- which branches go on


def test_the_highest_sums_go_on_where_a_pathway_is_certain() -> None:
    ious = [[0.9, 0.9, 0.1], [0.8, 0.3, 0.9], [0.5, 0.5, 0.5]]
    kept = POLICY.branch([-1.0, -1.05, -9.0], ious, presences=[0.5, -3.0, 1.0])
    assert places(kept) == [(0, 0), (0, 1), (1, 2)]
    assert kept[2].score == -1.05 + math.log(0.9 + EPSILON)


def test_distinct_masks_go_on_where_none_is_certain() -> None:
    ious = [[0.901, 0.899, 0.1], [0.8, 0.3, 0.9], [0.5, 0.5, 0.5]]
    kept = POLICY.branch([-1.0, -1.05, -9.0], ious, presences=[0.5, -1.9, 1.0])
    assert places(kept) == [(0, 0), (1, 0), (1, 1)]


def test_equal_masks_fill_what_distinct_ones_leave() -> None:
    kept = POLICY.branch([-2.0, -1.0], [[0.5, 0.5], [0.5, 0.5]], presences=[0.0, 0.0])
    assert places(kept) == [(1, 0), (1, 1), (0, 0)]


def test_a_predicted_iou_below_zero_counts_as_none() -> None:
    assert POLICY.branch([0.0], [[-0.2, 0.5]], [5.0])[1].score == math.log(EPSILON)


@pytest.mark.parametrize(
    ("iou", "presence", "trusted"), [(0.31, 0.1, True), (0.3, 9, False), (0.9, 0, False)]
)
def test_which_frames_a_pathway_reads(iou: float, presence: float, trusted: bool) -> None:
    assert TreePolicy().trusts(iou, presence) == trusted


# ---------------------------------------------------------------- pathways


def step(frame: int, trusted: bool = True, value: float = 0.0) -> Step:
    entry = MemoryEntry(
        frame, False, torch.full((1, 1, 1, 1), value), torch.zeros(1, 4), torch.ones(1, 1), trusted
    )
    return Step(entry, ObjectMask(torch.full((1, 1, 2, 2), value), torch.ones(1), entry.object_score_logits))


def read(tree: PathwayTree, pathway: int, frame: int) -> list[int]:
    memories = tree.pathways[pathway].memories({})
    return [e.frame_idx for _, e in POLICY.select(memories, frame).spatial]


def test_each_pathway_reads_its_own_memory() -> None:
    tree = POLICY.new_follower()
    tree.grow(1, False, [(Branch(0, 0, -0.1), step(1)), (Branch(0, 1, -0.2), step(1, trusted=False))])
    tree.grow(2, False, [(Branch(0, 0, -0.3), step(2)), (Branch(1, 0, -0.4), step(2))])
    assert read(tree, 0, 3) == [1, 2]
    assert read(tree, 1, 3) == [2]
    assert tree.pathways[0].steps[1] is not tree.pathways[1].steps[1]


def test_earlier_frames_follow_the_best_pathway() -> None:
    tree = POLICY.new_follower()
    one, other = step(1, value=1), step(1, value=2)
    assert tree.grow(1, False, [(Branch(0, 0, -0.1), one), (Branch(0, 1, -0.2), other)]) == {1: one}
    ahead, behind = step(2, value=3), step(2, value=4)
    assert tree.grow(2, False, [(Branch(1, 0, -0.3), ahead), (Branch(0, 0, -0.5), behind)]) == {
        1: other,
        2: ahead,
    }
    back = step(3, value=5)
    changed = tree.grow(3, False, [(Branch(1, 0, -0.6), back), (Branch(0, 0, -0.9), step(3))])
    assert changed == {1: one, 2: behind, 3: back}


def test_a_choice_becomes_final_and_memory_stays_flat() -> None:
    tree = POLICY.new_follower()
    tree.grow(1, False, [(Branch(0, 0, -0.1), step(1)), (Branch(0, 1, -0.2), step(1, trusted=False))])
    for t in range(2, 9):
        tree.grow(t, False, [(Branch(p, 0, -t - 0.1 * p), step(t, trusted=t < 5)) for p in (0, 1)])
        assert len(tree.pathways) == 2
    tree.grow(9, False, [(Branch(p, 0, -9 - 0.1 * p), step(9, trusted=False)) for p in (0, 1)])
    assert len(tree.pathways) == 1
    for t in range(10, 60):
        tree.grow(t, False, [(Branch(0, k, -t - 0.1 * k), step(t, trusted=False)) for k in range(3)])
    assert len(tree.best.steps) <= 4 + max(POLICY.decide_after, POLICY.horizon()) + 1
    assert read(tree, 0, 60) == [1, 2, 3, 4]


def test_a_tree_begins_on_what_the_bank_holds() -> None:
    bank = MemoryBank()
    for t in range(40):
        bank.add(MemoryEntry(t, t == 0, torch.zeros(1, 1, 1, 1), torch.zeros(1, 4), torch.ones(1, 1), t < 9))
    tree = TreePolicy().new_follower()
    tree.begin(bank, 40, reverse=False)
    memories = tree.best.memories(bank.conditioning)
    for frame in (40, 44):
        ours, fifo = (p.select(m, frame) for p, m in ((TreePolicy(), memories), (FifoPolicy(), bank)))
        assert [e.frame_idx for _, e in ours.spatial] == [0, 3, 4, 5, 6, 7, 8]
        assert [e.frame_idx for _, e in ours.pointers] == [e.frame_idx for _, e in fifo.pointers]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), frames=st.integers(1, 14))
def test_a_restored_tree_goes_on_alike(seed: int, frames: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def grow(trees: Sequence[PathwayTree], t: int) -> list[set[int]]:
        scores = [p.score for p in trees[0].pathways]
        ious = torch.rand(len(scores), 3, generator=random).tolist()
        branches = POLICY.branch(scores, ious, (4 * torch.rand(len(scores), generator=random)).tolist())
        values = torch.rand(len(branches), generator=random).tolist()
        grown = [(b, step(t, v > 0.4, v)) for b, v in zip(branches, values, strict=True)]
        return [set(tree.grow(t, False, grown)) for tree in trees]

    tree = POLICY.new_follower()
    for t in range(1, frames + 1):
        grow([tree], t)
    restored = POLICY.new_follower()
    restored.restore(*unpack(pack(*tree.state())))
    for t in range(frames + 1, frames + 12):
        changed = grow([tree, restored], t)
        assert changed[0] == changed[1]
    for one, other in zip(tree.pathways, restored.pathways, strict=True):
        assert one.score == other.score
        assert {t: float(s.entry.features) for t, s in one.steps.items()} == {  # type: ignore[arg-type]
            t: float(s.entry.features)  # type: ignore[arg-type]
            for t, s in other.steps.items()
        }


# ---------------------------------------------------------------- within tracking


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return mini_predictor()


def prompted(predictor: SAM2VideoPredictor, policy: str | FifoPolicy) -> VideoSession:
    state = predictor.init_state(clip(30), policy=policy)
    for i in range(2):
        predictor.add_new_mask(state, 0, i, disk(12 + 18 * i, 18))
    return state


def test_one_pathway_is_greedy(predictor: SAM2VideoPredictor) -> None:
    always = TreePolicy(**{**vars(predictor.memory_policy), "num_pathways": 1, "min_iou": -1.0})
    found = run(predictor, prompted(predictor, always), max_frame_num_to_track=5)
    assert farthest(found, run(predictor, prompted(predictor, "fifo"), max_frame_num_to_track=5)) < 1e-5


def test_the_session_holds_the_best_pathway(predictor: SAM2VideoPredictor) -> None:
    state = prompted(predictor, "tree")
    run(predictor, state)
    for track in state.tracks.values():
        tree = track.follower
        assert isinstance(tree, PathwayTree)
        assert 1 <= len(tree.pathways) <= 3
        assert [p.score for p in tree.pathways] == sorted((p.score for p in tree.pathways), reverse=True)
        for t, one in tree.best.steps.items():
            assert one.mask is not None
            assert torch.equal(track.found[t].logits, one.mask.logits)
            assert torch.equal(track.bank.recent[t].obj_ptr, one.entry.obj_ptr)


@pytest.mark.parametrize("policy", ["motion", "distractor", "tree"])
def test_a_loaded_session_goes_on_bit_for_bit(
    predictor: SAM2VideoPredictor, policy: str, tmp_path: Path
) -> None:
    state = prompted(predictor, policy)
    run(predictor, state, max_frame_num_to_track=17)
    state.save(tmp_path / "session.sam2")
    loaded = VideoSession.load(tmp_path / "session.sam2", video=clip(30))
    for one, other in zip(state.tracks.values(), loaded.tracks.values(), strict=True):
        assert one.follower is not None
        assert other.follower is not None
        assert other.followed == one.followed == 17
        assert pack(*one.follower.state()) == pack(*other.follower.state())
    found = run(predictor, state, start_frame_idx=18)
    assert farthest(found, run(predictor, loaded, start_frame_idx=18)) == 0.0
    for t in range(30):
        assert torch.equal(state.tracks[0].found[t].logits, loaded.tracks[0].found[t].logits)


@pytest.mark.parametrize("policy", ["motion", "distractor", "tree"])
def test_undo_brings_back_what_the_policy_knew(predictor: SAM2VideoPredictor, policy: str) -> None:
    frames = clip(24)
    plain, undone = (predictor.stream(policy=policy) for _ in range(2))
    asked = {0: [ObjectPrompt(1, mask=disk(20, 18))]}
    for tracker in (plain, undone):
        list(tracker.follow(frames[:18], asked))
    track = undone.session.tracks[1]
    assert track.follower is not None
    before = pack(*track.follower.state())
    undone.prompt(ObjectPrompt(1, points=[[30, 20]], labels=[1]))
    with torch.inference_mode():
        undone.engine.commit(undone.session)
    assert track.follower is None
    assert undone.session.undo() == (1, 17)
    assert pack(*track.follower.state()) == before
    for frame in frames[18:]:
        assert torch.equal(undone.step(frame).logits, plain.step(frame).logits)


@pytest.mark.parametrize("policy", ["distractor", "tree"])
def test_an_imported_object_is_followed_anew(
    predictor: SAM2VideoPredictor, policy: str, tmp_path: Path
) -> None:
    state = prompted(predictor, policy)
    run(predictor, state, max_frame_num_to_track=3)
    state.export_object(0, tmp_path / "object.sam2")
    other = predictor.init_state(clip(8), policy=policy)
    other.import_object(tmp_path / "object.sam2", 5)
    run(predictor, other, max_frame_num_to_track=2)
    follower = other.tracks[5].follower
    assert follower is not None
    values, _ = follower.state()
    known = values["areas"] if policy == "distractor" else values["steps"]
    assert len(known) <= 3 * 3  # of three frames; nothing of the video before


def test_a_prompt_starts_the_tree_anew(predictor: SAM2VideoPredictor) -> None:
    tracker = predictor.stream(policy="tree")
    frames = clip(12)
    list(tracker.follow(frames[:10], {0: [ObjectPrompt(1, mask=disk(20, 18))]}))
    tracker.prompt(ObjectPrompt(1, points=[[30, 20]], labels=[1]))
    tracker.step(frames[10])
    tree = tracker.session.tracks[1].follower
    assert isinstance(tree, PathwayTree)
    assert tree.best.score > math.log(EPSILON) * 2  # of one frame, not of ten
    assert len({id(p.steps.get(8)) for p in tree.pathways}) == 1


def test_pathways_run_in_batches(predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    state = prompted(predictor, "tree")
    sizes: list[int] = []
    step_of_model = predictor.step

    def counted(features: object, selections: Sequence[object] = (), *args: object) -> object:
        sizes.append(len(selections or ()))
        return step_of_model(features, selections, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor, "step", counted)
    run(predictor, state, max_frame_num_to_track=4)
    assert max(sizes) == 6  # two objects with three pathways each
    assert len(sizes) <= 4 * 3


def test_a_stream_forgets_and_stays_flat(predictor: SAM2VideoPredictor) -> None:
    policy = TreePolicy(**{**vars(predictor.memory_policy), "decide_after": 20})
    kept = predictor.stream(policy=policy, storage=StorageOptions())
    forgetful = predictor.stream(policy=policy)
    asked = {0: [ObjectPrompt(1, mask=disk(20, 18))]}
    for one, other in zip(kept.follow(clip(60), asked), forgetful.follow(clip(60), asked), strict=True):
        assert torch.equal(one.logits, other.logits)
    track = forgetful.session.tracks[1]
    assert isinstance(track.follower, PathwayTree)
    assert all(len(p.steps) <= 40 for p in track.follower.pathways)
    assert len(track.found) <= 30
