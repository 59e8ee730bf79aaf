"""The mask decoder's arithmetic in the order that suits a CPU: the twin of `MaskDecoder`'s own layers.

Few tokens read a large picture and are read by it, so products are taken in the cheaper order: with q the
projected tokens, `q (W x)` is computed as `(q W) x`, and `P (W x)` as `(P x) W`. The picture is never
projected, which halves the work. Prompts are decoded one by one, so that a picture's 4 MB stay in the cache;
what no prompt changes, the first layer's projections of the picture, is computed once for all of them.
Upscaling works on rows (a transposed convolution whose stride is its kernel is a linear layer), and only the
finished masks are brought into raster order. Sums are those of the plain layers in another order.

Shapes: B prompts, T tokens a prompt, C channels, M = H * W picture cells, G heads, D channels of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.modeling.layers import LayerNorm2d
from sam2.modeling.sam.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer
from sam2.ops.linear import fusable, is_plain, product

if TYPE_CHECKING:
    from sam2.modeling.sam.mask_decoder import MaskDecoder

MOST_TOKENS = 16
"""With more tokens a prompt, projecting the picture is the cheaper order."""
ROWS_AT_A_TIME = 1024
"""Picture cells that are upscaled together."""


def _plain_attention(module: nn.Module) -> bool:
    return type(module) is Attention and all(
        is_plain(layer) for layer in (module.q_proj, module.k_proj, module.v_proj, module.out_proj)
    )


def suits(decoder: MaskDecoder, picture: Tensor, num_tokens: int) -> bool:
    """Whether this order of computation may serve: see `fusable`; no replaced layers; few tokens."""
    transformer = decoder.transformer
    # `fusable` first: a compiler that saw the comparison would be bound to it
    if not fusable(picture) or num_tokens > MOST_TOKENS or type(transformer) is not TwoWayTransformer:
        return False
    attentions: list[nn.Module] = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]  # type: ignore[list-item]
    up1, norm, _, up2, _ = decoder.output_upscaling
    return (
        all(_plain_attention(attention) for attention in attentions)
        and type(up1) is nn.ConvTranspose2d
        and type(up2) is nn.ConvTranspose2d
        and type(norm) is LayerNorm2d
        and up1.bias is not None
        and up2.bias is not None
    )


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """Rows of a projection's weight [G * D, C] by head: [G, D, C]."""
    return weight.unflatten(0, (heads, -1))


def _split(x: Tensor, heads: int) -> Tensor:
    """[T, G * D] to [G, T, D]."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def _tokens_read(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Tokens [T, C] attend to picture cells `keys` and `values` [M, C]: [T, C].

    The bias of the key projection adds the same to all scores of a token, which softmax cancels.
    """
    heads = attention.num_heads
    q = _split(attention.q_proj(queries), heads)
    q = q * q.shape[-1] ** -0.5
    scores = F.linear(torch.bmm(q, _by_head(attention.k_proj.weight, heads)).flatten(0, 1), keys)
    seen = torch.mm(scores.softmax(-1), values).unflatten(0, (heads, -1))
    out = torch.bmm(seen, _by_head(attention.v_proj.weight, heads).transpose(1, 2))
    out = out + attention.v_proj.bias.unflatten(0, (heads, 1, -1))
    return attention.out_proj(out.transpose(0, 1).flatten(1))


def _picture_reads(
    attention: Attention,
    picture: Tensor,
    placed: Tensor,
    token_keys: Tensor,
    tokens: Tensor,
    projected: Tensor | None,
) -> Tensor:
    """`picture` [M, C] plus what its cells `placed` [M, C] read of the tokens [T, C].

    Args:
        projected: the cells' queries by head [G, D, M], where they are known.
    """
    heads = attention.num_heads
    k = _split(attention.k_proj(token_keys), heads)
    k = k * k.shape[-1] ** -0.5
    if projected is None:
        weight = _by_head(attention.q_proj.weight, heads)
        offsets = torch.bmm(k, attention.q_proj.bias.unflatten(0, (heads, -1, 1)))
        scores = F.linear(torch.bmm(k, weight).flatten(0, 1), placed).unflatten(0, (heads, -1)).add_(offsets)
    else:
        scores = torch.bmm(k, projected)
    shares = scores.softmax(1).flatten(0, 1)
    v = _split(attention.v_proj(tokens), heads)
    out_weight = attention.out_proj.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)
    return torch.addmm(picture, shares.t(), torch.bmm(v, out_weight).flatten(0, 1)).add_(
        attention.out_proj.bias
    )


def _one_prompt(
    transformer: TwoWayTransformer,
    tokens: Tensor,
    queries: Tensor,
    picture: Tensor,
    placed: Tensor,
    projected: Tensor,
    encoding: Tensor,
) -> tuple[Tensor, Tensor]:
    """The rest of the transformer for one prompt, after its tokens read the picture in the first layer.

    Args:
        tokens: as they entered [T, C].
        queries: after that reading and its normalisation [T, C].
        picture, placed: picture cells without and with their encoding [M, C].
        projected: the cells' queries in the first layer [G, D, M].
        encoding: of the cells [M, C].
    """
    for i, layer in enumerate(transformer.layers):
        assert isinstance(layer, TwoWayAttentionBlock)
        if i > 0:
            at = queries + tokens
            queries = layer.norm1(queries + layer.self_attn(at[None], at[None], queries[None])[0])
            read = _tokens_read(layer.cross_attn_token_to_image, queries + tokens, placed, picture)
            queries = layer.norm2(queries + read)
        queries = layer.norm3(queries + layer.mlp(queries))
        picture = layer.norm4(
            _picture_reads(
                layer.cross_attn_image_to_token,
                picture,
                placed,
                queries + tokens,
                queries,
                projected if i == 0 else None,
            )
        )
        placed = picture + encoding
    read = _tokens_read(transformer.final_attn_token_to_image, queries + tokens, placed, picture)
    return transformer.norm_final_attn(queries + read), picture


def _rows(weight: Tensor) -> Tensor:
    """Weight [C, C', 2, 2] of a transposed convolution as that of a linear layer: [2 * 2 * C', C]."""
    return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def _cells(level: Tensor, times: int) -> Tensor:
    """A map [C, 2^n H, 2^n W], n = `times`, in the order in which rows are upscaled: [4^n H W, C]."""
    x = level.permute(1, 2, 0)
    height, width, channels = x.shape
    side = 2**times
    x = x.reshape(height // side, *[2] * times, width // side, *[2] * times, channels)
    # rows, halves of rows ..., columns, halves of columns ... -> rows, columns, halves pairwise
    order = [0, times + 1]
    for i in range(1, times + 1):
        order += [i, times + 1 + i]
    return x.permute(*order, x.ndim - 1).reshape(-1, channels)


def _raster(masks: Tensor, height: int, width: int) -> Tensor:
    """Mask rows [n, 16 H W], upscaled twice, as [n, 4 H, 4 W]."""
    x = masks.reshape(-1, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(-1, 4 * height, 4 * width)


class Picture(NamedTuple):
    """What no prompt changes of one picture, or of each of B."""

    cells: Tensor
    """[n, M, C]"""
    placed: Tensor
    """`cells` with their encoding."""
    encoding: Tensor
    """[M, C]"""
    keys: Tensor
    """Of the first layer's tokens [n, M, G * D]; `values` likewise."""
    values: Tensor
    projected: Tensor
    """The cells' queries in the first layer [n, G, D, M]."""
    levels: list[list[Tensor]]
    """Features of strides 4 and 8 in the order of `_cells`, of one or B pictures; [] without them."""
    size: tuple[int, int]
    """(H, W)"""


def prepare(
    decoder: MaskDecoder, src: Tensor, image_pe: Tensor, high_res_features: list[Tensor] | None
) -> Picture:
    """Of a picture with dense prompts `src` [B, C, H, W], or [1, C, H, W] where all prompts share it.

    Args:
        image_pe: [1, C, H, W].
        high_res_features: of strides 4 and 8, batch B or 1; None for a decoder without them.
    """
    assert isinstance(decoder.transformer, TwoWayTransformer)
    first = decoder.transformer.layers[0]
    assert isinstance(first, TwoWayAttentionBlock)
    cells = src.flatten(2).transpose(1, 2).contiguous()
    encoding = image_pe[0].flatten(1).t().contiguous()
    placed = cells + encoding
    reader, projection = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    projected = projection.q_proj(placed).transpose(1, 2).unflatten(1, (projection.num_heads, -1))
    levels: list[list[Tensor]] = []
    if high_res_features is not None:
        levels = [[_cells(m, times) for m in level] for level, times in zip(high_res_features, (2, 1))]
    return Picture(
        cells,
        placed,
        encoding,
        reader.k_proj(placed),
        reader.v_proj(cells),
        projected.contiguous(),
        levels,
        (src.shape[-2], src.shape[-1]),
    )


def predict_masks(decoder: MaskDecoder, picture: Picture, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """All masks of B prompts, whose tokens are [B, T, C], and their tokens.

    Returns:
        Mask logits [B, num_mask_tokens, 4 H, 4 W] and tokens [B, T, C].
    """
    transformer = decoder.transformer
    assert isinstance(transformer, TwoWayTransformer)
    height, width = picture.size
    batch = len(tokens)
    pictures, placed, projected, encoding = (
        picture.cells,
        picture.placed,
        picture.projected,
        picture.encoding,
    )
    levels = picture.levels

    first = transformer.layers[0]
    assert isinstance(first, TwoWayAttentionBlock)
    queries = first.norm1(first.self_attn(tokens, tokens, tokens))
    reader = first.cross_attn_token_to_image
    at = queries + tokens
    if len(pictures) < batch:
        at = at.flatten(0, 1)[None]
    read = reader.attend(reader.q_proj(at), picture.keys, picture.values).reshape(queries.shape)
    queries = first.norm2(queries + read)

    up1, norm, act1, up2, act2 = decoder.output_upscaling
    assert isinstance(up1, nn.ConvTranspose2d)
    assert isinstance(up2, nn.ConvTranspose2d)
    assert isinstance(norm, LayerNorm2d)
    assert up1.bias is not None
    assert up2.bias is not None
    weight1, weight2 = _rows(up1.weight), _rows(up2.weight)
    bias1, bias2 = up1.bias.repeat(4), up2.bias.repeat(4)

    hidden, masks = [], []
    for b in range(batch):
        own = b if len(pictures) > 1 else 0
        done, cells = _one_prompt(
            transformer, tokens[b], queries[b], pictures[own], placed[own], projected[own], encoding
        )
        hidden.append(done)
        first_mask = 2 if decoder.pred_obj_scores else 1
        hyper = torch.cat(
            [mlp(done[None, first_mask + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        )
        rows = torch.empty(len(hyper), 16 * height * width)
        for start in range(0, len(cells), ROWS_AT_A_TIME):
            x = F.linear(cells[start : start + ROWS_AT_A_TIME], weight1, bias1)
            x = x.unflatten(1, (4, -1)).flatten(0, 1)
            if levels:
                fine = levels[1][b if len(levels[1]) > 1 else 0]
                x += fine[4 * start : 4 * start + len(x)]
            x = act1(F.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, norm.eps))
            x = product(x, weight2, bias2).unflatten(1, (4, -1)).flatten(0, 1)
            if levels:
                finest = levels[0][b if len(levels[0]) > 1 else 0]
                x += finest[16 * start : 16 * start + len(x)]
            rows[:, 16 * start : 16 * start + len(x)] = hyper @ act2(x).t()
        masks.append(_raster(rows, height, width))
    return torch.stack(masks), torch.stack(hidden)
