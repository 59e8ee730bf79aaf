"""`sam2 track --policy`: what is written is what the policy gives when nothing is forgotten on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from e2e_helpers import MINIATURE, picture_of, write_clip

from sam2.build_sam import build_sam2_video_predictor
from sam2.cli.track import POLICIES
from sam2.masks.png import read_mask
from sam2.memory import POLICY_NAMES

POINT = (np.array([[32.0, 32.0]]), np.array([1]))


def test_the_command_knows_every_policy():
    assert POLICIES == POLICY_NAMES


@pytest.mark.parametrize("policy", ["motion", "tree"])
def test_files_hold_the_masks_of_the_library(sam2, tmp_path, checkpoint, policy):
    clip = write_clip(tmp_path / "clip.mp4", count=6)
    ask = ["track", clip, "--point", "32,32", "--policy", policy, "--format", "png", "--out", "o"]
    ask.append("--no-zoom")
    outcome = sam2(*ask, "--model", checkpoint)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "o/result.json").read_text())["policy"] == policy
    predictor = build_sam2_video_predictor(ckpt_path=checkpoint, device="cpu")
    session = predictor.init_state(str(clip), policy=policy)
    predictor.add_new_points_or_box(session, 0, 1, *POINT)
    list(predictor.propagate(session))
    for t in range(6):
        expected = predictor.engine.result(session, t).masks[0].numpy()
        np.testing.assert_array_equal(read_mask(tmp_path / f"o/png/1/{t:05d}.png"), expected)


@pytest.mark.parametrize("policy", ["stride", "motion", "distractor"])
def test_what_a_policy_reads_is_not_forgotten(policy):
    torch.manual_seed(0)
    predictor = build_sam2_video_predictor("mini", None, device="cpu", hydra_overrides_extra=MINIATURE)
    frames = [picture_of(32, 24, shift=index % 8) for index in range(40)]
    found = {}
    for forgetting in (False, True):
        session = predictor.init_state(frames, policy=policy)
        predictor.add_new_points_or_box(session, 0, 1, np.array([[10.0, 12.0]]), np.array([1]))
        found[forgetting] = []
        for result in predictor.propagate(session):
            found[forgetting].append(result.logits)
            if forgetting:
                session.forget_tracked((result.frame_idx, 0), predictor.engine.policy(session).horizon())
    assert torch.equal(torch.stack(found[True]), torch.stack(found[False]))
