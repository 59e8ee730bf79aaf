"""Help for a model that starts from random weights: a loss that teaches from every pixel, and a good start.

Two things keep a promptable model from learning at first. Its trunk hears only of the few pixels that prompts
name; and prompts are not heard at all, because position encodings are drowned by features whose scale has
grown. The first is mended by same-object affinity of pixel pairs on the image features, the second by
`start_weights`, `rebalance` and `scale_penalty`.

Shapes: B pictures, C channels of the model, E of the affinity embedding, A anchors a picture, P pixels of
stride 4, H and W the map of stride 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.modeling.sam2_base import SAM2Base
from sam2.training.losses import balanced_cross_entropy, dice_loss, mask_iou

FEATURE_STD = (0.5, 0.7, 0.25)
"""Wanted deviation of the feature maps of strides 4, 8 and 16: that of stride 16 leaves position encodings,
whose norm is 8 at 128 channels, louder than what they are added to."""


@dataclass(frozen=True)
class Labels:
    """Which object every pixel shows.

    whole: int64 [B, H, W] at stride 4; ground: bool [B, H, W], pixels of no object.
    """

    whole: Tensor
    ground: Tensor


class AffinityHead(nn.Module):
    """Judges which pixels belong together, from the feature maps the decoder reads; dropped after training.

    Args:
        width: channels C of the model.
        embedding: channels E.
    """

    def __init__(self, width: int, embedding: int = 64) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, embedding, 1) for c in (width // 8, width // 4, width))
        self.norm = nn.GroupNorm(1, embedding)
        self.mix = nn.Conv2d(embedding, embedding, 1)
        self.query = nn.Sequential(
            nn.Linear(embedding, embedding), nn.GELU(), nn.Linear(embedding, embedding)
        )
        self.edge = nn.Conv2d(embedding, 1, 3, padding=1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(6.0)))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps of strides 4, 8, 16 -> [B, E, H, W]."""
        size = maps[0].shape[-2:]
        parts = [
            F.interpolate(lateral(m), size=size, mode="bilinear", align_corners=False)
            for lateral, m in zip(self.lateral, maps, strict=True)
        ]
        return self.mix(F.gelu(self.norm(torch.stack(parts).sum(0))))

    def losses(self, maps: list[Tensor], labels: Labels, anchors: int) -> dict[str, Tensor]:
        """`affinity`, `edge`, and `affinity_iou`: how well thresholded affinity fits the anchor's object."""
        embedding_BEHW = self(maps)
        pixels_BEP = embedding_BEHW.flatten(2)
        label_BP = labels.whole.flatten(1)
        index_BA = _draw_anchors(label_BP, labels.ground.flatten(1), anchors)
        at_anchor = pixels_BEP.gather(2, index_BA[:, None].expand(-1, pixels_BEP.shape[1], -1))
        query_BAE = F.normalize(self.query(at_anchor.transpose(1, 2)).float(), dim=-1)
        key_BEP = F.normalize(pixels_BEP.float(), dim=1)
        logits = self.log_scale.exp() * (query_BAE @ key_BEP) + self.bias
        same = (label_BP.gather(1, index_BA)[..., None] == label_BP[:, None]).float()
        # the losses want two spatial dimensions
        logits, same = logits[..., None], same[..., None]
        affinity = balanced_cross_entropy(logits, same) + dice_loss(logits, same)
        edges = F.binary_cross_entropy_with_logits(
            self.edge(embedding_BEHW)[:, 0].float(), _edges(labels.whole), pos_weight=logits.new_tensor(3.0)
        )
        return {"affinity": affinity.mean(), "edge": edges, "affinity_iou": mask_iou(logits, same).mean()}


def _draw_anchors(label_BP: Tensor, ground_BP: Tensor, anchors: int) -> Tensor:
    """Pixels [B, A], drawn by the root of their object's size, those of the ground less often."""
    size = torch.zeros(len(label_BP), int(label_BP.max()) + 1, device=label_BP.device)
    size = size.scatter_add_(1, label_BP, torch.ones_like(label_BP, dtype=torch.float32))
    weight = size.gather(1, label_BP).clamp(min=4).rsqrt() * torch.where(ground_BP, 0.4, 1.0)
    return torch.multinomial(weight, anchors, replacement=True)


def _edges(label_BHW: Tensor) -> Tensor:
    """1.0 at pixels beside one of another object."""
    edge = torch.zeros_like(label_BHW, dtype=torch.bool)
    across = label_BHW[:, :, 1:] != label_BHW[:, :, :-1]
    down = label_BHW[:, 1:] != label_BHW[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge.float()


def scale_penalty(maps: list[Tensor]) -> Tensor:
    """Squared logarithm of each map's mean square over the wanted one, summed."""
    terms = [
        (m.float().square().mean() / s**2).log().square() for m, s in zip(maps, FEATURE_STD, strict=True)
    ]
    return torch.stack(terms).sum()


@torch.no_grad()
def rebalance(model: SAM2Base, head: AffinityHead, maps: list[Tensor]) -> None:
    """Moves the model's feature maps to mean 0 and `FEATURE_STD`; the affinity head's outputs stay.

    maps: what the model makes of some pictures, to measure on.
    """
    decoder: Any = model.sam_mask_decoder
    neck: Any = model.image_encoder.neck
    sources = (
        [decoder.conv_s0],
        [decoder.conv_s1],
        [neck.convs[1].conv, neck.convs[0].conv],
    )
    for m, std, convs, lateral in zip(maps, FEATURE_STD, sources, head.lateral, strict=True):
        mean = m.mean((0, 2, 3))
        factor = std / (m - mean[:, None, None]).std()
        assert isinstance(lateral, nn.Conv2d)
        assert lateral.bias is not None
        lateral.bias += lateral.weight[:, :, 0, 0] @ mean
        lateral.weight /= factor
        convs[0].bias -= mean
        for conv in convs:
            conv.weight *= factor
            conv.bias *= factor


@torch.no_grad()
def start_weights(model: SAM2Base) -> None:
    """Random weights from which prompts are heard early, drawn from torch's global generator.

    Glorot's draw everywhere; sine tables for the trunk's positions; in the mask decoder small token
    embeddings and norms, and equal query and key projections between tokens and image, so that at
    the very start a click's token attends to the place of the click; and memory attention at the scale of
    the features it replaces, each place attending first to the same place in memory.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            nn.init.kaiming_uniform_(module.weight, a=1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    trunk: Any = model.image_encoder.trunk
    for table in (trunk.pos_embed, trunk.pos_embed_window):
        table.copy_(0.1 * _sine_table(*table.shape[1:]))
    decoder: Any = model.sam_mask_decoder
    prompts: Any = model.sam_prompt_encoder
    tokens = [decoder.iou_token, decoder.mask_tokens, decoder.obj_score_token]
    for embedding in [*prompts.point_embeddings, prompts.not_a_point_embed, prompts.no_mask_embed, *tokens]:
        embedding.weight.mul_(0.05)
    decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)
    for mlp in decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.mul_(0.3)
    for layer in decoder.transformer.layers:
        for norm, size in ((layer.norm1, 0.2), (layer.norm3, 0.4), (layer.norm4, 0.4)):
            norm.weight.fill_(size)
    memory: Any = model.memory_attention
    memory.norm.weight.fill_(FEATURE_STD[2])
    for layer in memory.layers:
        layer.self_attn.out_proj.weight.mul_(0.3)
        layer.linear2.weight.mul_(0.3)
        across = layer.cross_attn_image
        for bias in (across.q_proj.bias, across.k_proj.bias):
            bias.zero_()
            for first in (0, across.internal_dim // 2):  # the fastest turning pairs of x, then of y
                bias[first : first + 12 : 2] = 3.1
    for name, attention in decoder.transformer.named_modules():
        if name.endswith(("attn_token_to_image", "attn_image_to_token")):
            attention.q_proj.weight.mul_(2.0)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def _sine_table(channels: int, height: int, width: int) -> Tensor:
    """[1, channels, height, width] of sines and cosines, from half a wave across the map upwards."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    octaves = torch.linspace(-1, math.log2(max(height, 2)) - 1, channels // 4)
    angle = (math.pi * 2**octaves)[:, None, None]
    return torch.cat([wave(v * angle) for v in (x, y) for wave in (torch.sin, torch.cos)])[None]


@torch.no_grad()
def spread_masks(model: SAM2Base) -> None:
    """Makes the three masks of an ambiguous prompt near copies of the single mask, once it is learnt."""
    decoder: Any = model.sam_mask_decoder
    first = decoder.output_hypernetworks_mlps[0]
    tokens = decoder.mask_tokens.weight
    noise = 0.5 * tokens.std()
    iou = decoder.iou_prediction_head.layers[-1]
    for i in range(1, decoder.num_mask_tokens):
        for own, source in zip(
            decoder.output_hypernetworks_mlps[i].parameters(), first.parameters(), strict=True
        ):
            own.copy_(source)
            if source.ndim > 1:
                own.add_(0.2 * source.std() * torch.randn_like(source))
        tokens[i] = tokens[0] + noise * torch.randn_like(tokens[0])
        iou.weight[i] = iou.weight[0]
        iou.bias[i] = iou.bias[0]


def set_dropout(model: nn.Module, share: float) -> None:
    """Of every layer and attention that has one."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        elif hasattr(module, "dropout_p"):
            setattr(module, "dropout_p", share)  # noqa: B010 - a plain number beside modules


@torch.no_grad()
def raise_layer_scales(model: SAM2Base, least: float) -> None:
    """Layer scales of the memory encoder that are smaller than `least` become that, their sign kept."""
    for name, p in model.memory_encoder.named_parameters():
        if name.endswith(".gamma"):
            p.copy_(torch.where(p < 0, -1.0, 1.0) * p.abs().clamp(min=least))
