"""The orders of computation for a CPU give what the plain layers give; pooled cells weigh right.

Without gradients the faster path runs, with them the plain one: the same call is its own twin.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
from sam2.modeling.sam2_base import SAM2Base
from sam2.ops.attention import attention
from sam2.ops.linear import fusable, linear

TOLERANCE = 2e-5


def both(call: Callable[[], tuple[Tensor, ...]]) -> None:
    """Asserts that `call` gives the same with gradients and without."""
    plain = [t.detach() for t in call()]
    with torch.no_grad():
        fast = call()
    assert len(plain) == len(fast) > 0
    for a, b in zip(plain, fast):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= TOLERANCE * max(1.0, a.abs().max().item())


def test_the_faster_path_is_for_inference_in_float32() -> None:
    x = torch.ones(2, 3)
    assert not fusable(x)
    with torch.no_grad():
        if not fusable(x):
            pytest.skip("this machine has no fused kernels")
        assert not fusable(x.half())
        assert not fusable(x.to("meta"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not fusable(x)


@pytest.mark.parametrize("rows", [1, 5, 200])
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), torch.relu])
def test_linear_layers_with_activations(rows: int, activation: Callable[[Tensor], Tensor] | None) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 40)
    x = 3 * torch.randn(2, rows, 48)
    expected = layer(x) if activation is None else activation(layer(x))
    with torch.no_grad():
        assert (linear(layer, x, activation) - expected).abs().max() < TOLERANCE


def test_hooks_and_subclasses_of_linear_layers_are_heeded() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    torch.manual_seed(0)
    x = torch.randn(64, 48)
    for layer in (Doubled(48, 40), nn.Linear(48, 40)):
        if type(layer) is nn.Linear:
            layer.register_forward_hook(lambda _module, _inputs, output: 3 * output)
        expected = layer(x)
        with torch.no_grad():
            assert (linear(layer, x) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("size", "windows"),
    [
        ((128, 128), (8, 4, 14, 7)),
        ((128, 192), (8, 4, 8, 4)),
        ((96, 80), (8, 4, 14, 7)),
        ((64, 64), (4, 2, 4, 2)),
    ],
)
def test_trunk(size: tuple[int, int], windows: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("sam2.modeling.backbones.hieradet.WINDOW_TOKENS", 192)
    trunk = Hiera(
        embed_dim=16,
        stages=(1, 2, 3, 1),
        window_spec=windows,
        global_att_blocks=(4,),
        window_pos_embed_bkg_spatial_size=(7, 7),
    )
    nn.init.normal_(trunk.pos_embed)
    nn.init.normal_(trunk.pos_embed_window)
    picture = torch.randn(2, 3, *size)
    block_by_block = trunk(picture)  # in training mode
    trunk.eval()
    both(lambda: tuple(trunk(picture)))
    for a, b in zip(block_by_block, trunk(picture)):
        assert (a - b).abs().max() < TOLERANCE * max(1.0, a.abs().max().item())


@pytest.mark.parametrize(("queries", "keys"), [(300, 256), (256, 700), (256, 30), (5, 256)])
def test_attention_over_many_keys(queries: int, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam2.ops.attention.LEAST_KEYS", 256)
    torch.manual_seed(0)
    q, k, v = (3 * torch.randn(2, n, 4, 24).transpose(1, 2) for n in (queries, keys, keys))
    both(lambda: (attention(q.clone().requires_grad_(), k, v).contiguous(),))
    with torch.no_grad():
        assert attention(q, k, v).shape == q.shape


@pytest.mark.parametrize("top_down", [[2, 3], [1, 2], None])
def test_joined_convolutions_of_the_neck(top_down: list[int] | None) -> None:
    torch.manual_seed(0)
    neck = FpnNeck(
        PositionEmbeddingSine(32),
        32,
        [48, 24, 12, 6],
        fpn_interp_model="nearest",
        fpn_top_down_levels=top_down,
    )
    finish = [nn.Conv2d(32, 4, 1), nn.Conv2d(32, 8, 1)]
    levels = [torch.randn(2, 6 * 2**i, 32 >> i, 32 >> i) for i in range(4)]
    features, _ = neck(levels)
    finished = [layer(x) for layer, x in zip(finish, features)] + features[2:]
    both(lambda: tuple(neck(levels, finish)[0]))
    for a, b in zip(finished, neck(levels, finish)[0]):
        assert torch.equal(a, b)


def test_position_table_is_bicubic_and_tiled() -> None:
    trunk = Hiera(embed_dim=16, stages=(1, 1, 1, 1), window_pos_embed_bkg_spatial_size=(7, 5))
    for table in (trunk.pos_embed, trunk.pos_embed_window):
        nn.init.normal_(table)
    spread = nn.functional.interpolate(trunk.pos_embed, size=(20, 28), mode="bicubic")
    expected = (spread + trunk.pos_embed_window.tile(1, 1, 3, 4)[..., :20, :28]).permute(0, 2, 3, 1)
    table = trunk.position_embedding(20, 28)
    assert (table - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("points", [1, 3, 30])
@pytest.mark.parametrize("high_res", [True, False])
@pytest.mark.parametrize("pictures", ["shared", "shared with masks", "own"])
def test_mask_decoder(points: int, high_res: bool, pictures: str) -> None:
    torch.manual_seed(0)
    prompts, width, side = 3, 64, 6
    decoder = MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(2, width, 4, 128),
        use_high_res_features=high_res,
        pred_obj_scores=high_res,
        dynamic_multimask_via_stability=True,
    ).eval()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 1.2 * parameter[0].numel() ** -0.5)
    image = torch.randn(prompts if pictures == "own" else 1, width, side, side)
    dense = torch.randn(1, width, 1, 1).expand(prompts, -1, side, side)
    if pictures == "shared with masks":
        dense = torch.randn(prompts, width, side, side)
    levels = [torch.randn(1, width // 8, 24, 24), torch.randn(1, width // 4, 12, 12)]
    encoding, sparse = torch.randn(1, width, side, side), torch.randn(prompts, points, width)
    for multimask in (True, False):
        both(
            lambda multimask=multimask: decoder(
                image, encoding, sparse, dense, multimask, pictures != "own", levels if high_res else None
            )
        )


def memory_reader(heads: int = 1) -> RoPEAttention:
    torch.manual_seed(0)
    return RoPEAttention(64, heads, kv_in_dim=16, rope_k_repeat=True).eval()


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("pool_keys", [False, True])
@pytest.mark.parametrize("pointers", [0, 5])
def test_reading_memory(heads: int, pool_keys: bool, pointers: int) -> None:
    reader = memory_reader(heads)
    q, k, v = torch.randn(2, 196, 64), torch.randn(2, 784 + pointers, 16), torch.randn(2, 784 + pointers, 16)
    both(lambda: (reader(3 * q, 3 * k, v, pointers, pool_keys),))


def test_pooled_cells_weigh_four_times_a_pointer() -> None:
    reader = memory_reader()
    with torch.no_grad():
        reader.k_proj.weight.zero_()
        reader.k_proj.bias.zero_()  # every key is equal, so each token is read alike
        q, memory = torch.randn(1, 16, 64), torch.randn(1, 48 + 3, 16)
        exact, pooled = (reader(q, memory, memory, 3, pool_keys) for pool_keys in (False, True))
    assert (exact - pooled).abs().max() < 1e-6


def test_pooling_differs_but_little_for_smooth_memories() -> None:
    reader = memory_reader()
    coarse = torch.randn(4, 16, 3, 3)
    memory = nn.functional.interpolate(coarse, (12, 12), mode="bicubic").flatten(2).permute(0, 2, 1)
    memory = memory.flatten(0, 1)[None]
    q = torch.randn(1, 144, 64)
    with torch.no_grad():
        exact, pooled = (reader(q, memory, memory, 0, pool_keys) for pool_keys in (False, True))
    assert not torch.equal(exact, pooled)
    assert (exact - pooled).abs().max() < 0.1 * exact.abs().max()


def test_memory_pooling_needs_an_even_grid() -> None:
    with pytest.raises(ValueError, match="32 divides, got 336"):
        SAM2Base(nn.Identity(), nn.Identity(), nn.Identity(), image_size=336, memory_pooling=True)


def test_a_prepared_picture_saves_work_and_changes_nothing() -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(transformer_dim=64, transformer=TwoWayTransformer(2, 64, 4, 128)).eval()
    image, encoding = torch.randn(1, 64, 6, 6), torch.randn(1, 64, 6, 6)
    sparse, dense = torch.randn(2, 3, 64), torch.randn(1, 64, 1, 1).expand(2, -1, 6, 6)
    assert decoder.prepare(image, encoding, dense[:1], []) is None  # gradients are wanted
    with torch.no_grad():
        picture = decoder.prepare(image, encoding, dense[:1], [])
        if picture is None:
            pytest.skip("this machine has no fused kernels")
        once = decoder(image, encoding, sparse, dense, True, True)
        again = decoder(torch.zeros_like(image), encoding, sparse, dense, True, True, picture=picture)
    assert all(torch.equal(a, b) for a, b in zip(once, again))
