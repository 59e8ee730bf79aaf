"""Adapters that change nothing until they learn; a masked autoencoder around the deployed trunk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_helpers import TINY, tiny_model, toy_data, toy_run

from sam2.config import instantiate, load_config
from sam2.training.lora import LoraLinear, LoraOptions, add_lora, merge_lora, merged_copy
from sam2.training.mae import MaeOptions, MaskedAutoencoder, from_units, to_units
from sam2.training.options import ModelOptions, RunOptions, read_options
from sam2.training.pretrain import MaeTask, PretrainOptions, pretrain
from sam2.training.run import PvsTask, build_model, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_data()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def features(model: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = model.eval().encode_image(images).embedding
    return out


def test_adapters_start_silent_and_merge_exactly() -> None:
    model = tiny_model()
    images = torch.randn(1, 3, 64, 64)
    names = set(model.state_dict())
    before = features(model, images)
    adapted = add_lora(model, LoraOptions(rank=2))
    assert "image_encoder.trunk.blocks.0.attn.qkv" in adapted
    assert "memory_attention.layers.0.cross_attn_image.k_proj" in adapted
    assert torch.equal(features(model, images), before)
    for module in model.modules():
        if isinstance(module, LoraLinear):
            torch.nn.init.normal_(module.lora_b, std=0.3)
    after = features(model, images)
    assert not torch.allclose(after, before, atol=1e-3)
    copy = merged_copy(model)
    assert set(copy.state_dict()) == names
    torch.testing.assert_close(features(copy, images), after, rtol=1e-4, atol=1e-5)
    merge_lora(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(features(model, images), after, rtol=1e-4, atol=1e-5)
    assert merged_copy(model) is model


def test_only_adapters_and_what_is_named_learn() -> None:
    model = tiny_model()
    add_lora(model, LoraOptions(targets=("image_encoder.trunk.*.attn.*",), train=("obj_ptr_proj.*",)))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name or name.startswith("obj_ptr_proj")), name
    with pytest.raises(ValueError, match="no linear layer fits the targets nothing"):
        add_lora(model, LoraOptions(targets=("nothing",)))
    with pytest.raises(ValueError, match="rank of an adapter is 0"):
        LoraOptions(rank=0)


def test_a_run_with_adapters_exports_plain_weights(tmp_path: Path) -> None:
    model = {"overrides": list(TINY), "lora": {"rank": 2}}
    run = read_options(RunOptions, toy_run(tmp_path, steps=3, model=model, optim={"lr": 1e-2, "warmup": 0}))
    task = PvsTask(run)
    start = {n: v.clone() for n, v in task.model.state_dict().items()}
    train(run)
    exported = load_file(tmp_path / "model.safetensors")
    assert set(exported) == set(instantiate(load_config("mini", TINY)).state_dict())
    moved = {n for n, v in exported.items() if not torch.equal(v, start[n])}
    assert "image_encoder.trunk.blocks.0.attn.qkv.weight" in moved
    assert all(n.rpartition(".")[2] == "weight" for n in moved)
    assert not any("mlp" in n for n in moved)


def test_units_round_trip() -> None:
    x = torch.randn(2, 6, 9, 4)
    units = to_units(x, 3)
    assert units.shape == (2, 6, 3, 3, 4)
    assert torch.equal(units[0, 1], x[0, :3, 3:6])
    assert torch.equal(from_units(units, 2), x)


@pytest.fixture
def autoencoder() -> MaskedAutoencoder:
    # windows of 8, 4, 2 tokens keep to their unit in three stages; the global block does not
    overrides = [o for o in TINY if "window_spec" not in o and "image_size" not in o]
    spec = ["model.image_size=96", "model.image_encoder.trunk.window_spec=[8,4,2,2]"]
    torch.manual_seed(0)
    model = build_model(ModelOptions(overrides=(*overrides, *spec)))
    return MaskedAutoencoder(model.image_encoder.trunk, MaeOptions(width=32, depth=1))


def test_hidden_pixels_do_not_reach_what_is_painted(autoencoder: MaskedAutoencoder) -> None:
    images = torch.randn(2, 3, 96, 96)
    torch.manual_seed(5)
    first = autoencoder(images)
    assert first.hidden.sum(1).tolist() == [5, 5]
    cover = from_units(first.hidden[..., None, None, None].expand(-1, -1, 32, 32, 1), 3).permute(0, 3, 1, 2)
    changed = torch.where(cover, torch.randn_like(images), images)
    torch.manual_seed(5)
    again = autoencoder(changed)
    assert torch.equal(again.painted, first.painted)
    assert not torch.equal(again.loss, first.loss)
    torch.manual_seed(5)
    seen = autoencoder(torch.where(cover, images, torch.randn_like(images)))
    assert not torch.equal(seen.painted, first.painted)


def test_sparse_blocks_equal_the_deployed_trunk(autoencoder: MaskedAutoencoder) -> None:
    assert autoencoder.first_dense == 3
    images = torch.randn(1, 3, 96, 96)
    hidden = torch.zeros(1, 9, dtype=torch.bool)
    outputs: dict[str, Tensor] = {}
    for name, run in (
        ("sparse", lambda: autoencoder._encode(images, hidden, torch.arange(9)[None])),
        ("dense", lambda: autoencoder.trunk(images)),
    ):
        last = autoencoder.trunk.blocks[-1]
        hook = last.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out}))
        run()
        hook.remove()
    torch.testing.assert_close(outputs["sparse"], outputs["dense"], rtol=1e-5, atol=1e-5)


def test_every_part_of_the_trunk_learns(autoencoder: MaskedAutoencoder) -> None:
    autoencoder(torch.randn(2, 3, 96, 96)).loss.backward()
    for name, parameter in autoencoder.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_pretraining_lowers_the_error_and_its_trunk_is_taken_up(tmp_path: Path) -> None:
    run = toy_run(
        tmp_path, steps=30, accumulate=1, log_steps=5, picture_steps=30, mae={"width": 32, "depth": 1}
    )
    run = {k: v for k, v in run.items() if k not in ("pvs", "loss")} | {
        "optim": {"lr": 3e-3, "warmup": 3},
        "data": [{"source": "toy.toy_clip", "batch": 4}],
        "ema": 0.5,
    }
    options = read_options(PretrainOptions, run)
    summary = pretrain(options)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    first = dict(zip(rows[0].split(","), rows[1].split(",")))
    assert summary.last["total"] < 0.9 * float(first["total"])
    assert (tmp_path / "pictures" / "0000030.png").exists()
    weights = load_file(tmp_path / "model.safetensors")
    own = {f"image_encoder.trunk.{n}" for n in MaeTask(options).model.trunk.state_dict()}
    assert set(weights) == own
    init = ModelOptions(overrides=TINY, init=str(tmp_path / "model.safetensors"), init_partial=True)
    state = build_model(init).state_dict()
    assert all(torch.equal(state[n], v) for n, v in weights.items())


def test_half_precision_pretrains_too(autoencoder: MaskedAutoencoder) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = autoencoder(torch.randn(1, 3, 96, 96)).loss
    loss.backward()
    assert bool(torch.isfinite(loss.detach()))


def test_bad_pretraining() -> None:
    with pytest.raises(ValueError, match=r"hidden units is 1\.5"):
        MaeOptions(hidden=1.5)
    trunk = tiny_model().image_encoder.trunk
    with pytest.raises(ValueError, match="48x64; both sides must be multiples of 32"):
        MaskedAutoencoder(trunk, MaeOptions(width=32))(torch.zeros(1, 3, 64, 48))
