"""Phases from random weights: the dense loss, the start, the weights of rivals, the recipe."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2.config import instantiate, load_config
from sam2.data.pool import write_pool
from sam2.data.recipe import Recipe
from sam2.modeling.position_encoding import rotate
from sam2.modeling.sam2_base import SAM2Base
from sam2.training.dense import (
    FEATURE_STD,
    AffinityHead,
    Labels,
    raise_layer_scales,
    rebalance,
    scale_penalty,
    set_dropout,
    spread_masks,
    start_weights,
)
from sam2.training.pretrain_dense import _rival_weight, main, read_phases
from sam2.training.pvs import encode_pictures
from sam2.training.scenes import SceneBatch, SceneBatches, SceneOptions

RECIPE = Path(__file__).parents[2] / "sam2/training/recipes/mini.yaml"


@pytest.fixture(scope="module")
def model() -> SAM2Base:
    torch.manual_seed(0)
    sam: SAM2Base = instantiate(load_config("mini", ["model.image_size=128"]))
    start_weights(sam)
    return sam.eval()


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> SceneBatches:
    pool = write_pool(tmp_path_factory.mktemp("pool"), Recipe(128, 1, (0.0, 0.3)), 8)
    return SceneBatches([pool], [SceneOptions(batch=2, objects=4)], 64, seed=1, total=10)


def test_micro_batches_follow_from_seed_and_number(batches: SceneBatches) -> None:
    first, again, other = (batches[k].batch for k in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, other.images)


def test_labels_agree_with_masks(batches: SceneBatches) -> None:
    for k in range(6):
        batch = batches[k].batch
        assert isinstance(batch, SceneBatch)
        assert batch.images.shape == (1, 2, 3, 64, 64)
        for mask, b in zip(batch.masks[0], batch.picture.tolist(), strict=True):
            assert mask.any()
            inside = batch.labels[0, b][mask]
            # a whole object or piece of ground has one label; a part lies within one
            assert len(inside.unique()) == 1


def test_perfect_features_cost_little() -> None:
    torch.manual_seed(0)
    head = AffinityHead(64, 32)
    label = torch.randint(0, 3, (2, 16, 16)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    maps = [torch.nn.functional.one_hot(label, 8).permute(0, 3, 1, 2).float() * 4]
    maps += [torch.zeros(2, 16, 16, 16), torch.zeros(2, 64, 8, 8)]
    labels = Labels(label, label == 0)
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    before = head.losses(maps, labels, 16)
    for _ in range(60):
        losses = head.losses(maps, labels, 16)
        optimizer.zero_grad()
        losses["affinity"].backward()
        optimizer.step()
    assert losses["affinity"] < 0.3 * before["affinity"]
    assert losses["affinity_iou"] > 0.9


def test_rebalance_sets_the_scale_and_keeps_the_head(model: SAM2Base) -> None:
    torch.manual_seed(1)
    head = AffinityHead(model.hidden_dim)
    pictures = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        before = encode_pictures(model, pictures).maps
        judged = head(before)
        rebalance(model, head, before)
        after = encode_pictures(model, pictures).maps
        assert scale_penalty(after) < 1e-4 < scale_penalty(before)
        for m, std in zip(after, FEATURE_STD, strict=True):
            assert float((m - m.mean((0, 2, 3), keepdim=True)).std()) == pytest.approx(std, rel=1e-3)
        torch.testing.assert_close(head(after), judged, atol=2e-3, rtol=1e-3)


def test_layer_scales_are_raised_and_no_further(model: SAM2Base) -> None:
    changed = copy.deepcopy(model)
    scales = {n: p for n, p in changed.memory_encoder.named_parameters() if n.endswith("gamma")}
    assert scales
    with torch.no_grad():
        for p in scales.values():
            p[:3] = torch.tensor([-1e-3, 0.5, -0.7])
    raise_layer_scales(changed, 0.1)
    for p in scales.values():
        assert p[:4].tolist() == pytest.approx([-0.1, 0.5, -0.7, 0.1])
    for name, p in model.named_parameters():
        if not name.endswith("gamma"):
            assert torch.equal(p, changed.get_parameter(name)), name


def test_without_dropout_a_model_in_training_repeats_itself(model: SAM2Base) -> None:
    changed = copy.deepcopy(model).train()
    layer = changed.memory_attention
    tokens, memory = torch.randn(64, 1, 128), torch.randn(64, 1, 64)

    def run() -> torch.Tensor:
        return layer(tokens, memory, torch.zeros_like(tokens), torch.zeros_like(memory))

    with torch.no_grad():
        assert not torch.equal(run(), run())
        set_dropout(changed, 0.0)
        assert torch.equal(run(), run())


def test_a_new_models_click_attends_to_its_place(model: SAM2Base) -> None:
    prompts, block = model.sam_prompt_encoder, model.sam_mask_decoder.transformer.layers[0]  # type: ignore[union-attr, index]
    attention = block.cross_attn_token_to_image
    points = torch.tensor([[[8.0, 8.0]], [[100.0, 40.0]], [[60.0, 120.0]]])
    with torch.no_grad():
        sparse, _ = prompts((points, torch.ones(3, 1)), None, None)
        keys = attention.k_proj(prompts.get_dense_pe().flatten(2).transpose(1, 2))
        q, k = attention._split(attention.q_proj(sparse[:, :1])), attention._split(keys)
        cell = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)[:, 0].argmax(-1)
    wanted = (points[:, 0, 1] // 16) * 8 + points[:, 0, 0] // 16
    assert torch.equal(cell, wanted.long())


def test_a_new_models_memory_is_read_at_the_same_place(model: SAM2Base) -> None:
    attention = model.memory_attention.layers[0].cross_attn_image  # type: ignore[union-attr, index]
    with torch.no_grad():
        rotation = attention.rotation(64, torch.device("cpu"))
        q = rotate(attention.q_proj.bias.expand(1, 1, 64, -1), rotation)
        k = rotate(attention.k_proj.bias.expand(1, 1, 64, -1), rotation)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)[0, 0]
    assert torch.equal(weights.argmax(-1), torch.arange(64))


def test_spread_masks_are_near_copies(model: SAM2Base) -> None:
    spread_masks(model)
    tokens = model.sam_mask_decoder.mask_tokens.weight
    for i in (1, 2, 3):
        assert not torch.equal(tokens[0], tokens[i])
        assert torch.nn.functional.cosine_similarity(tokens[0], tokens[i], dim=0) > 0.5


def test_rivals_weigh_more_than_the_ground() -> None:
    truth, objects = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    truth[0, :2] = 1
    objects[0, :3] = 1
    weight = _rival_weight(truth, objects, 0.3)[0]
    assert float(weight.sum()) == pytest.approx(1)
    assert float(weight[:2].sum()) == pytest.approx(0.5)
    assert float(weight[2].sum()) == pytest.approx(0.3)
    alone = _rival_weight(truth, truth, 0.3)[0]
    assert float(alone[2:].sum()) == pytest.approx(0.5)


def test_the_packaged_recipes_read() -> None:
    phases = read_phases(RECIPE)
    assert phases[0].size == 128
    assert phases[0].prompts is False
    assert phases[-1].pools[0].length > 1
    assert len({p.out for p in phases}) == len(phases)
    more = read_phases(RECIPE.with_name("mini_more.yaml"))
    assert [phase.start for phase in more] == ["mini", None]
    assert {phase.size for phase in more} == {256}
    (clips,) = read_phases(RECIPE.with_name("mini_clips.yaml"))
    assert clips.start == "mini"
    assert clips.pvs.mistakes == 0.3
    assert clips.pools[1].take.follow == 0.7
    memory, together, longer = read_phases(RECIPE.with_name("mini_memory.yaml"))
    assert memory.start == "mini"
    assert "sam.sam_mask_decoder.*" in memory.optim.freeze
    assert memory.pools[0].take.anything == 0.5
    assert together.pools[0].cutouts == ("runs/cutouts/fluent", "runs/cutouts/openclipart")
    assert [pool.take.frames for pool in together.pools] == [4, 4, 4, 4, 1, 1]
    assert [pool.take.frames for pool in longer.pools] == [6, 6, 6, 6, 1, 1]
    assert longer.optim.schedule == "cosine"


def test_wrong_recipes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RECIPE.read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("rebalance:", "rebalanced:"), encoding="utf-8")
    assert main([str(wrong)]) == 1
    assert "did you mean 'rebalance'?" in capsys.readouterr().err
    wrong.write_text(text.replace("pools: {easy: {batch: 12", "pools: {easie: {batch: 12"), encoding="utf-8")
    assert main([str(wrong)]) == 1
    assert "'easie'" in capsys.readouterr().err
    wrong.write_text("out: here\n", encoding="utf-8")
    assert main([str(wrong)]) == 1


def test_a_run_may_begin_with_other_weights() -> None:
    recipe = RECIPE.with_name("mini_more.yaml")
    first, second = read_phases(recipe, "own.safetensors")
    assert first.start == "own.safetensors"
    assert second.start is None
    assert read_phases(recipe)[0].start == "mini"


@pytest.mark.slow
def test_phases_follow_one_another_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"""
out: {tmp_path}/run
pools:
  stills: {{folder: {tmp_path}/stills, count: 8, size: 128, difficulty: [0.0, 0.3]}}
  clips: {{folder: {tmp_path}/clips, count: 4, size: 128, length: 3, difficulty: [0.1, 0.3]}}
common: {{device: cpu, size: 64, muon: 6.0e-3, picture_steps: 0, log_steps: 1, optim: {{warmup: 1}}}}
phases:
  - {{pools: {{stills: {{batch: 2, objects: 1}}}}, prompts: false, steps: 1}}
  - {{pools: {{stills: {{batch: 2, objects: 2}}}}, rebalance: true, single_mask: true, steps: 1}}
  - pools: {{clips: {{batch: 1, frames: 3, objects: 2}}}}
    dense: 0.0
    optim: {{freeze: ["sam.image_encoder.*"]}}
    steps: 1
  - start: {tmp_path}/run/phase1/model.safetensors
    pools: {{stills: {{batch: 2, objects: 1}}}}
    prompts: false
    steps: 1
""",
        encoding="utf-8",
    )
    assert main([str(recipe)]) == 0
    trunk = "image_encoder.trunk.blocks.3.mlp.layers.0.weight"
    states = [
        torch.load(tmp_path / f"run/phase{n}/state.pt", weights_only=True)["weights"] for n in (1, 2, 3, 4)
    ]
    assert not torch.equal(states[0][f"sam.{trunk}"], states[1][f"sam.{trunk}"])
    assert not np.isnan(states[2][f"sam.{trunk}"].numpy()).any()
    assert (tmp_path / "run/phase4/model.safetensors").is_file()
    # the fourth starts from the first one's weights, and one step leads not far
    near, far = ((states[3][f"sam.{trunk}"] - states[n][f"sam.{trunk}"]).abs().max() for n in (0, 1))
    assert near < far
    assert main([str(recipe)]) == 0
    assert "finished at step 1" in capsys.readouterr().out
