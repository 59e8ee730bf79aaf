"""Rates, decay and averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_helpers import tiny_model

from sam2.training.ema import Ema
from sam2.training.optim import OptimOptions, freeze, make_optimizer, parameter_groups, rate_at, set_rate


def test_the_schedule_rises_then_falls() -> None:
    options = OptimOptions(warmup=10, final=0.1)
    rates = [rate_at(s, 110, options) for s in range(110)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1
    assert rates[60] == pytest.approx(0.55)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(110, 110, options) == pytest.approx(0.1)
    assert rate_at(80, 110, OptimOptions(warmup=10, schedule="constant")) == 1
    assert rate_at(89, 110, OptimOptions(warmup=10, schedule="trapezoid")) == 1
    assert rate_at(100, 110, OptimOptions(warmup=10, schedule="trapezoid", final=0)) == pytest.approx(0.5)


def test_layers_of_the_trunk_learn_at_their_own_rates() -> None:
    model = tiny_model()
    groups = parameter_groups(model, OptimOptions(lr=1.0, trunk_lr=0.5, layer_decay=0.5))
    rate = {name: g["lr"] for g in groups for name in g["names"]}
    assert rate["sam_mask_decoder.iou_token.weight"] == 1
    assert rate["image_encoder.neck.convs.0.conv.weight"] == 1
    assert rate["image_encoder.trunk.blocks.4.mlp.layers.0.weight"] == 0.5
    assert rate["image_encoder.trunk.blocks.3.mlp.layers.0.weight"] == 0.25
    assert rate["image_encoder.trunk.patch_embed.proj.weight"] == 0.5**6
    assert rate["image_encoder.trunk.pos_embed"] == 0.5**6


def test_only_weights_of_layers_decay() -> None:
    model = tiny_model()
    decay = {n: g["weight_decay"] for g in parameter_groups(model, OptimOptions()) for n in g["names"]}
    assert len(decay) == len(list(model.parameters()))
    for name in (
        "image_encoder.trunk.pos_embed",
        "image_encoder.trunk.blocks.0.norm1.weight",
        "sam_mask_decoder.mask_tokens.weight",
        "sam_mask_decoder.output_upscaling.1.weight",
        "maskmem_tpos_enc",
        "memory_attention.layers.0.linear1.bias",
    ):
        assert decay[name] == 0, name
    for name in ("image_encoder.trunk.patch_embed.proj.weight", "obj_ptr_proj.layers.0.weight"):
        assert decay[name] == 0.1, name


def test_freezing_by_pattern() -> None:
    model = tiny_model()
    frozen = freeze(model, ["image_encoder.trunk.*", "obj_ptr_proj.*.bias"])
    assert all(not model.get_parameter(n).requires_grad for n in frozen)
    assert model.obj_ptr_proj.layers[0].weight.requires_grad
    names = {n for g in parameter_groups(model, OptimOptions()) for n in g["names"]}
    assert not names & set(frozen)
    with pytest.raises(ValueError, match="no parameter is called 'trunk'"):
        freeze(model, ["trunk"])
    freeze(model, ["*"])
    with pytest.raises(ValueError, match="nothing is left to train"):
        make_optimizer(model, OptimOptions())


def test_rates_of_an_optimiser() -> None:
    model = tiny_model()
    options = OptimOptions(lr=1.0, layer_decay=0.5, warmup=0, schedule="linear", final=0)
    optimizer = make_optimizer(model, options)
    set_rate(optimizer, 50, 100, options)
    assert {g["lr"] for g in optimizer.param_groups} == {0.5 * 0.5**i for i in (0, 1, 2, 3, 4, 5)}


def test_the_average_forgets_the_start_and_gives_the_weights_back() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(100.0)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(40):
        ema.update(model)
    assert float(ema.average["weight"]) == pytest.approx(1, abs=1)
    kept = model.weight.detach().clone()
    with ema.applied(model):
        assert not torch.equal(model.weight, kept)
    assert torch.equal(model.weight, kept)
    other = Ema(nn.Linear(1, 1, bias=False), 0.9)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.average["weight"], ema.average["weight"])
    assert other.updates == 40


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"layer_decay": 1.5}, {"schedule": "step"}])
def test_bad_options(changes: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(changes.values())))):
        OptimOptions(**changes)
