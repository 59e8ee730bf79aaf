"""Trunk and neck: a picture to features of strides 4, 8 and 16 with one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.ops.linear import fusable, is_pointwise, pointwise_pair


class ImageEncoder(nn.Module):
    """A trunk and a neck.

    Args:
        scalp: how many of the coarsest levels to leave out of the result.
    """

    def __init__(self, trunk: nn.Module, neck: nn.Module, scalp: int = 0) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.scalp = scalp
        if trunk.channel_list != neck.backbone_channel_list:
            raise ValueError(
                f"the trunk gives channels {trunk.channel_list}, coarsest first, but the neck expects "
                f"{neck.backbone_channel_list}: set backbone_channel_list accordingly"
            )

    def forward(self, sample: Tensor, finish: Sequence[nn.Module] = ()) -> dict:
        """Normalised picture [B, 3, H, W].

        Args:
            finish: 1 x 1 convolutions through which the finest levels go last.

        Returns:
            `backbone_fpn`: features, finest first, [B, d_model, H / s, W / s];
            `vision_pos_enc`: their encodings; `vision_features`: the coarsest features.
        """
        features, pos = self.neck(self.trunk(sample), finish)
        if self.scalp:
            features, pos = features[: -self.scalp], pos[: -self.scalp]
        return {"vision_features": features[-1], "vision_pos_enc": pos, "backbone_fpn": features}


class FpnNeck(nn.Module):
    """A feature pyramid (arXiv 1612.03144) without output convolutions.

    Args:
        position_encoding: gives the encoding of each level.
        d_model: channels of every level.
        backbone_channel_list: channels of the trunk's levels, coarsest first.
        fpn_interp_model: how coarser levels are enlarged.
        fuse_type: `sum` or `avg` of lateral and coarser features.
        fpn_top_down_levels: levels (0 the finest) that receive coarser features; all by default.
    """

    def __init__(
        self,
        position_encoding: nn.Module,
        d_model: int,
        backbone_channel_list: Sequence[int],
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        fpn_interp_model: str = "bilinear",
        fuse_type: str = "sum",
        fpn_top_down_levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"fuse_type is {fuse_type!r}: use 'sum' or 'avg'")
        self.position_encoding = position_encoding
        self.d_model = d_model
        self.backbone_channel_list = list(backbone_channel_list)
        self.convs = nn.ModuleList()
        for channels in self.backbone_channel_list:
            level = nn.Sequential()
            level.add_module(
                "conv", nn.Conv2d(channels, d_model, kernel_size=kernel_size, stride=stride, padding=padding)
            )
            self.convs.append(level)
        self.fpn_interp_model = fpn_interp_model
        self.fuse_type = fuse_type
        levels = range(len(self.convs)) if fpn_top_down_levels is None else fpn_top_down_levels
        self.fpn_top_down_levels = list(levels)

    def forward(
        self, xs: list[Tensor], finish: Sequence[nn.Module] = ()
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features of the trunk, finest first -> features and encodings, finest first.

        Args:
            finish: 1 x 1 convolutions through which the finest levels go last.
        """
        features: list[Tensor] = []
        coarser: Tensor | None = None
        for level in range(len(self.convs) - 1, -1, -1):
            last = finish[level] if level < len(finish) else None
            if isinstance(last, nn.Conv2d) and self._joins(level, last, xs[level]):
                features.insert(0, pointwise_pair(self._lateral(level), last, xs[level]))
                continue
            lateral = self.convs[len(self.convs) - 1 - level](xs[level])
            if level in self.fpn_top_down_levels and coarser is not None:
                align = None if self.fpn_interp_model == "nearest" else False
                enlarged = F.interpolate(
                    coarser.to(torch.float32),
                    scale_factor=2.0,
                    mode=self.fpn_interp_model,
                    align_corners=align,
                )
                coarser = lateral + enlarged
                if self.fuse_type == "avg":
                    coarser = coarser / 2
            else:
                coarser = lateral
            features.insert(0, coarser if last is None else last(coarser))
        return features, [self.position_encoding(f).to(f.dtype) for f in features]

    def _lateral(self, level: int) -> nn.Conv2d:
        return self.convs[len(self.convs) - 1 - level].conv  # type: ignore[return-value]

    def _joins(self, level: int, last: nn.Module, x: Tensor) -> bool:
        """Whether a level's two convolutions, with nothing between them, may run as one."""
        alone = all(
            i not in self.fpn_top_down_levels for i in (level, level - 1)
        )  # takes nothing from above, and nobody below takes from it
        return alone and fusable(x) and is_pointwise(self._lateral(level)) and is_pointwise(last)
