"""The simulated interaction: what is prompted and when, and that every parameter learns from it."""

from __future__ import annotations

import pytest
import torch
from training_helpers import TINY, disks

from sam2.prompts.simulate import sample_one_point_from_error_center
from sam2.training.losses import LossOptions
from sam2.training.options import ModelOptions
from sam2.training.pvs import (
    Batch,
    PvsOptions,
    draw_kinds,
    draw_plan,
    encode_pictures,
    interact,
    pvs_losses,
    pvs_metrics,
)
from sam2.training.run import build_model

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny():
    torch.manual_seed(0)
    return build_model(ModelOptions(overrides=TINY)).train()


def test_every_trainable_parameter_gets_a_gradient() -> None:
    model = tiny()
    batch = Batch(*disks(0, frames=4))
    batch.masks[1:, 0] = False  # an object that leaves, for what marks the absent
    batch.masks[2:, 2] = False
    for seed in range(4):
        torch.manual_seed(seed)
        outcomes = interact(model, batch, PvsOptions(clicks=1, loss_stride=1))
        pvs_losses(outcomes, LossOptions())["total"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name
    assert not model.get_parameter("no_mem_pos_enc").requires_grad


def test_plans_follow_the_paper() -> None:
    torch.manual_seed(0)
    options = PvsOptions()
    plans = [draw_plan(8, "click", options) for _ in range(200)]
    assert {len(p.initial) for p in plans} == {1, 2}
    assert {len(p.corrected) for p in plans} == {1, 2}
    for plan in plans:
        assert plan.initial[0] == 0
        assert set(plan.initial) <= set(plan.corrected)
        assert sorted(plan.order(8)) == list(range(8))
        assert plan.order(8)[: len(plan.initial)] == list(plan.initial)
    assert all(draw_plan(8, "mask", options).corrected == () for _ in range(20))
    assert draw_plan(1, "box", options).order(1) == [0]
    assert draw_plan(1, "box", PvsOptions(clicks=0)).corrected == ()


def test_shares_of_prompts() -> None:
    torch.manual_seed(0)
    kinds = draw_kinds(4000, 8, PvsOptions())
    assert abs(kinds.count("mask") / 4000 - 0.5) < 0.03
    assert abs(kinds.count("box") / 4000 - 0.25) < 0.03
    assert "mask" not in draw_kinds(400, 1, PvsOptions())


@pytest.mark.parametrize(("stride", "side"), [(1, 64), (4, 16)])
def test_outcomes_hold_every_object_once(stride: int, side: int) -> None:
    model = tiny()
    batch = Batch(*disks(1, frames=3))
    torch.manual_seed(0)
    outcomes = interact(model, batch, PvsOptions(clicks=2, loss_stride=stride))
    assert sorted(torch.cat([o.objects for o in outcomes]).tolist()) == [0, 1, 2, 3]
    for outcome in outcomes:
        n = len(outcome.objects)
        assert outcome.targets.shape == (3, n, side, side)
        for t, steps in enumerate(outcome.frames):
            adopted = outcome.kind == "mask" and t in outcome.plan.initial
            assert len(steps) == (0 if adopted else 3 if t in outcome.plan.corrected else 1)
            for step in steps:
                assert step.logits.shape[0] == n
                assert step.logits.shape[-2:] == (side, side)
        if outcome.kind == "click":
            assert outcome.frames[0][0].logits.shape[1] == 3
            assert outcome.frames[0][1].logits.shape[1] == 1


def test_losses_of_groups_make_one_mean() -> None:
    model = tiny()
    batch = Batch(*disks(1))
    torch.manual_seed(3)
    outcomes = interact(model, batch, PvsOptions(clicks=1))
    total = pvs_losses(outcomes, LossOptions())
    assert len(outcomes) == 2
    single = [pvs_losses([o], LossOptions())["total"] * len(o.objects) for o in outcomes]
    assert float(total["total"].detach()) == pytest.approx(float(sum(single).detach()) / 4, rel=1e-5)


def test_features_given_beforehand_change_nothing() -> None:
    model = tiny()
    batch = Batch(*disks(2))
    results = []
    for known in (False, True):
        torch.manual_seed(1)
        features = encode_pictures(model, batch.images) if known else None
        outcomes = interact(model, batch, PvsOptions(clicks=1), features)
        results.append(pvs_losses(outcomes, LossOptions())["total"].detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("bf16", [False, True])
def test_frames_between_are_followed_and_not_learnt_from(bf16: bool) -> None:
    model = tiny()
    batch = Batch(*disks(2, frames=6))
    pvs = {"mask": 0, "click": 0, "box": 1, "clicks": 0, "init_frames": 1}
    found = {}
    for learnt in (0, 3):
        model.zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            (outcome,) = interact(model, batch, PvsOptions(**pvs, learnt=learnt))
        assert [bool(steps) for steps in outcome.frames] == [not learnt or t in (0, 4, 5) for t in range(6)]
        outcome.frames[5][0].logits.float().square().mean().backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found[learnt] = outcome.frames[5][0].logits.detach().float(), grads
    assert torch.allclose(found[0][0], found[3][0], atol=0.05 if bf16 else 1e-4)
    assert found[0][1].keys() == found[3][1].keys(), "what is learnt from few frames is the whole model"
    apart = [n for n, g in found[0][1].items() if not torch.allclose(g, found[3][1][n], rtol=1e-2, atol=1e-9)]
    assert any("memory_encoder" in name for name in apart)


def test_too_few_frames_to_learn_from_are_named() -> None:
    for learnt in (-1, 1):
        with pytest.raises(ValueError, match=f"learnt is {learnt}"):
            PvsOptions(learnt=learnt)


def test_correction_clicks_on_thin_and_absent_objects() -> None:
    model = tiny()
    images, masks, picture = disks(0, frames=2)
    masks[:, 0] = False
    masks[:, 0, 10, 10:40] = True  # a line one pixel high, no cell of four is half full
    masks[:, 1] = False
    outcomes = interact(model, Batch(images, masks, picture), PvsOptions(clicks=2))
    losses = pvs_losses(outcomes, LossOptions())
    assert bool(torch.isfinite(losses["total"].detach()))
    counts = pvs_metrics(outcomes)
    assert int(counts["presence_right_n"]) == sum(len(o.objects) * sum(map(bool, o.frames)) for o in outcomes)


def test_pictures_of_another_size_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(32, 32\) but the model's input is 64"):
        interact(tiny(), Batch(*disks(0, size=32)), PvsOptions())


def test_bad_shares_are_named() -> None:
    with pytest.raises(ValueError, match="click and box not both 0"):
        PvsOptions(mask=1, click=0, box=0)
    with pytest.raises(ValueError, match="loss_stride is 2"):
        PvsOptions(loss_stride=2)


@pytest.mark.parametrize("centre", [0.0, 1.0])
def test_clicks_in_the_middle(centre: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    decode, clicks = model.decode, []

    def watched(embedding, high_res, points, *args):
        clicks.append(points["point_coords"])
        return decode(embedding, high_res, points, *args)

    monkeypatch.setattr(model, "decode", watched)
    batch = Batch(*disks(0, frames=1))
    interact(model, batch, PvsOptions(click=1, box=0, clicks=1, from_truth=0, centre=centre, loss_stride=1))
    middle, _ = sample_one_point_from_error_center(batch.masks[0][:, None], None)
    assert torch.equal(clicks[0], middle) is (centre == 1)


def test_what_only_a_mask_points_at_is_prompted_by_it() -> None:
    images, masks, picture = disks(3, frames=3)
    only = torch.arange(len(picture)) % 2 == 0
    torch.manual_seed(0)
    outcomes = interact(tiny(), Batch(images, masks, picture, only), PvsOptions(mask=0, clicks=0))
    kind = {int(n): outcome.kind for outcome in outcomes for n in outcome.objects}
    assert all((kind[n] == "mask") == bool(only[n]) for n in range(len(picture)))


def test_a_batch_moves_with_all_it_holds() -> None:
    batch = Batch(*disks(0), torch.tensor([True]))
    assert batch.to(torch.device("cpu")).by_mask is not None
    assert Batch(*disks(0)).to(torch.device("cpu")).by_mask is None
