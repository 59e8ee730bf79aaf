"""Bfloat16 on a CPU: the fused kernels under autocast, the decoder that stays in float32, and --precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sam2.cli import main
from sam2.cli.load import choose_model
from sam2.evaluation.run import EvaluationOptions
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
from sam2.ops.attention import attention
from sam2.ops.linear import fusable_in_bfloat16, linear
from sam2.ops.precision import dtype_of
from sam2.studio.models import load_model

ROUGH = 0.02
"""What bfloat16, of 8 bits, may change, over the size of what it changes."""


def rough(call: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return call()


def off(found: Tensor, exact: Tensor) -> float:
    """Mean deviation over mean size."""
    assert found.shape == exact.shape
    return float((found.float() - exact).abs().mean() / exact.abs().mean())


@pytest.fixture
def native() -> None:
    if not rough(lambda: torch.tensor(fusable_in_bfloat16(torch.ones(1)))):
        pytest.skip("this processor does not compute in bfloat16")


def test_the_kernels_are_for_inference_under_autocast_to_bfloat16(native: None) -> None:
    x = torch.ones(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fusable_in_bfloat16(x)  # gradients are wanted
    with torch.no_grad():
        assert not fusable_in_bfloat16(x)
        with torch.autocast("cpu", dtype=torch.float16):
            assert not fusable_in_bfloat16(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert fusable_in_bfloat16(x)
            assert fusable_in_bfloat16(x.bfloat16())
            assert not fusable_in_bfloat16(x.half())
            assert not fusable_in_bfloat16(x.to("meta"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.GELU(), nn.SiLU()])
def test_linear_layers_are_as_near_as_pytorchs_own(
    activation: Callable[[Tensor], Tensor] | None, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 40, bias=bias)
    x = 3 * torch.randn(2, 200, 48)
    exact = (layer(x) if activation is None else activation(layer(x))).detach()
    own = rough(lambda: layer(x) if activation is None else activation(layer(x)))
    ours = rough(lambda: linear(layer, x, activation))
    assert ours.dtype == torch.bfloat16
    assert off(ours, exact) < max(1e-4, 1.2 * off(own, exact)) < ROUGH


@pytest.mark.parametrize(("queries", "keys"), [(300, 256), (256, 700), (256, 30)])
def test_attention_over_many_keys(queries: int, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam2.ops.attention.LEAST_KEYS", 256)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, 4, 24).transpose(1, 2) for n in (queries, keys, keys))
    found = rough(lambda: attention(q, k, v))
    assert off(found, nn.functional.scaled_dot_product_attention(q, k, v)) < ROUGH


def test_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("sam2.modeling.backbones.hieradet.WINDOW_TOKENS", 192)
    trunk = Hiera(embed_dim=16, stages=(1, 2, 3, 1), global_att_blocks=(4,)).eval()
    nn.init.normal_(trunk.pos_embed)
    picture = torch.randn(2, 3, 128, 128)
    exact = [level.detach() for level in trunk(picture)]
    for index, level in enumerate(exact):
        assert off(rough(lambda index=index: trunk(picture)[index]), level) < ROUGH


@pytest.mark.parametrize("heads", [1, 8])
def test_reading_memory(heads: int) -> None:
    torch.manual_seed(0)
    reader = RoPEAttention(64, heads, kv_in_dim=16, rope_k_repeat=True).eval()
    q, k, v = torch.randn(2, 196, 64), torch.randn(2, 789, 16), torch.randn(2, 789, 16)
    exact = reader(3 * q, 3 * k, v, 5, False).detach()
    assert off(rough(lambda: reader(3 * q, 3 * k, v, 5, False)), exact) < ROUGH


@pytest.mark.parametrize("prepared", [False, True])
def test_the_decoder_stays_in_float32(native: None, prepared: bool) -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(
        transformer_dim=64, transformer=TwoWayTransformer(2, 64, 4, 128), use_high_res_features=True
    ).eval()
    image, encoding = torch.randn(1, 64, 6, 6).bfloat16(), torch.randn(1, 64, 6, 6)
    sparse, dense = torch.randn(2, 3, 64), torch.randn(1, 64, 1, 1).expand(2, -1, 6, 6)
    levels = [torch.randn(1, 8, 24, 24).bfloat16(), torch.randn(1, 16, 12, 12).bfloat16()]

    def decoded(image: Tensor, levels: list[Tensor]) -> tuple[Tensor, ...]:
        picture = decoder.prepare(image, encoding, dense[:1], levels) if prepared else None
        assert (picture is not None) == prepared
        return decoder(image, encoding, sparse, dense, True, True, levels, picture)

    with torch.no_grad():
        exact = decoded(image.float(), [level.float() for level in levels])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = decoded(image, levels)
    for a, b in zip(exact, found):
        assert torch.equal(a, b)


def test_precision_of_the_command_line(tmp_path: Path) -> None:
    y, x = np.mgrid[:120, :160]
    disc = (x - 70) ** 2 + (y - 60) ** 2 < 30**2
    Image.fromarray(np.where(disc[..., None], (240, 200, 40), (40, 60, 90)).astype(np.uint8)).save(
        tmp_path / "disc.png"
    )
    masks = []
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        asked = ["segment", str(tmp_path / "disc.png"), "--point", "70,60", "--out", str(out)]
        assert main([*asked, "--device", "cpu", "--precision", precision]) == 0
        assert json.loads((out / "result.json").read_text())["model"]["precision"] == precision
        masks.append(np.array(Image.open(next((out / "png").iterdir()))) > 0)
    assert (masks[0] & masks[1]).sum() > 0.95 * (masks[0] | masks[1]).sum() > 0


def test_precision_reaches_every_predictor() -> None:
    choice = choose_model(None, "cpu", precision="bfloat16")
    assert choice.video_predictor().dtype == torch.bfloat16
    assert load_model("mini", "cpu", "bfloat16").predictor.dtype == torch.bfloat16
    assert load_model("mini", "cpu").predictor.dtype == torch.float32
    assert dtype_of("float16") == torch.float16
    for name in ("int8", "torch.float32", ""):
        with pytest.raises(ValueError, match="say float32, bfloat16 or float16"):
            dtype_of(name)
    with pytest.raises(ValueError, match="precision 'half' is unknown"):
        EvaluationOptions("data", "box", precision="half")
