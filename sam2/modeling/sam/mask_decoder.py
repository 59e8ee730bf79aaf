"""Image embedding and prompt embeddings to masks, their quality, and the object's presence.

Shapes: B prompts, C channels, H x W the image embedding (stride 16), M masks a prompt.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.modeling.layers import MLP, LayerNorm2d
from sam2.modeling.sam import cpu_decoder
from sam2.ops.linear import fusable_in_bfloat16


class MaskDecoder(nn.Module):
    """Predicts one mask, or three for an ambiguous prompt (SAM 2, arXiv 2408.00714, section 4).

    Args:
        transformer_dim: channels C of image embedding and tokens.
        transformer: the two-way transformer.
        num_multimask_outputs: masks offered for an ambiguous prompt.
        iou_head_depth, iou_head_hidden_dim: the MLP that predicts each mask's IoU.
        use_high_res_features: add features of strides 4 and 8 while upscaling.
        iou_prediction_use_sigmoid: bound the predicted IoU to (0, 1).
        dynamic_multimask_via_stability: when one mask is asked for and it is unstable, give the best
            of the three instead (not in training).
        dynamic_multimask_stability_delta: logits within this of 0 count as undecided.
        dynamic_multimask_stability_thresh: least stability of a mask that is kept.
        pred_obj_scores, pred_obj_scores_mlp: predict presence, from a linear layer or an MLP.
        use_multimask_token_for_obj_ptr: hand back the tokens of the three masks, not of the one.
    """

    def __init__(
        self,
        *,
        transformer_dim: int,
        transformer: nn.Module,
        num_multimask_outputs: int = 3,
        activation: type[nn.Module] = nn.GELU,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        use_high_res_features: bool = False,
        iou_prediction_use_sigmoid: bool = False,
        dynamic_multimask_via_stability: bool = False,
        dynamic_multimask_stability_delta: float = 0.05,
        dynamic_multimask_stability_thresh: float = 0.98,
        pred_obj_scores: bool = False,
        pred_obj_scores_mlp: bool = False,
        use_multimask_token_for_obj_ptr: bool = False,
    ) -> None:
        super().__init__()
        self.transformer_dim = transformer_dim
        self.transformer = transformer
        self.num_multimask_outputs = num_multimask_outputs
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, transformer_dim)
        self.pred_obj_scores = pred_obj_scores
        if pred_obj_scores:
            self.obj_score_token = nn.Embedding(1, transformer_dim)
        self.use_multimask_token_for_obj_ptr = use_multimask_token_for_obj_ptr

        quarter, eighth = transformer_dim // 4, transformer_dim // 8
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(transformer_dim, quarter, kernel_size=2, stride=2),
            LayerNorm2d(quarter),
            activation(),
            nn.ConvTranspose2d(quarter, eighth, kernel_size=2, stride=2),
            activation(),
        )
        self.use_high_res_features = use_high_res_features
        if use_high_res_features:
            self.conv_s0 = nn.Conv2d(transformer_dim, eighth, kernel_size=1)
            self.conv_s1 = nn.Conv2d(transformer_dim, quarter, kernel_size=1)

        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(transformer_dim, transformer_dim, eighth, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(
            transformer_dim,
            iou_head_hidden_dim,
            self.num_mask_tokens,
            iou_head_depth,
            sigmoid_output=iou_prediction_use_sigmoid,
        )
        if pred_obj_scores:
            self.pred_obj_score_head: nn.Module = (
                MLP(transformer_dim, transformer_dim, 1, 3)
                if pred_obj_scores_mlp
                else nn.Linear(transformer_dim, 1)
            )
        self.dynamic_multimask_via_stability = dynamic_multimask_via_stability
        self.dynamic_multimask_stability_delta = dynamic_multimask_stability_delta
        self.dynamic_multimask_stability_thresh = dynamic_multimask_stability_thresh

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        repeat_image: bool,
        high_res_features: list[Tensor] | None = None,
        picture: cpu_decoder.Picture | None = None,
        prompt_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decodes B prompts.

        Args:
            image_embeddings: [B, C, H, W], or [1, C, H, W] with `repeat_image`.
            image_pe: [1, C, H, W].
            sparse_prompt_embeddings: [B, N, C].
            dense_prompt_embeddings: [B, C, H, W].
            multimask_output: three masks instead of one.
            repeat_image: all prompts are of the one picture given.
            high_res_features: features of stride 4 [1 or B, C / 8, 4 H, 4 W] and
                stride 8 [1 or B, C / 4, 2 H, 2 W].
            picture: what `prepare` made of the same picture, to save making it again.
            prompt_mask: which of the sparse embeddings are there, bool [B, N]; None for all. Others change
                nothing: they fill prompts up to one shape.

        Returns:
            Mask logits [B, M, 4 H, 4 W], predicted IoU [B, M], mask tokens [B, M or 1, C],
            presence logits [B, 1].
        """
        if fusable_in_bfloat16(image_embeddings):
            with torch.autocast("cpu", enabled=False):  # with few tokens float32 is faster, in its own order
                return self.forward(
                    image_embeddings.float(),
                    image_pe.float(),
                    sparse_prompt_embeddings.float(),
                    dense_prompt_embeddings.float(),
                    multimask_output,
                    repeat_image,
                    high_res_features and [level.float() for level in high_res_features],
                    picture,
                    prompt_mask,
                )
        masks, iou_pred, mask_tokens, object_score_logits = self.predict_masks(
            image_embeddings,
            image_pe,
            sparse_prompt_embeddings,
            dense_prompt_embeddings,
            repeat_image,
            high_res_features,
            picture,
            prompt_mask,
        )
        if multimask_output:
            masks, iou_pred = masks[:, 1:], iou_pred[:, 1:]
        elif self.dynamic_multimask_via_stability and not self.training:
            masks, iou_pred = self._stable_mask(masks, iou_pred)
        else:
            masks, iou_pred = masks[:, :1], iou_pred[:, :1]
        if multimask_output and self.use_multimask_token_for_obj_ptr:
            mask_tokens = mask_tokens[:, 1:]
        else:
            mask_tokens = mask_tokens[:, :1]
        return masks, iou_pred, mask_tokens, object_score_logits

    def prepare(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        dense_prompt_embeddings: Tensor,
        high_res_features: list[Tensor],
    ) -> cpu_decoder.Picture | None:
        """What no prompt changes of one picture, for `forward`; None where the plain layers will run.

        Args: as of `forward`, each of batch 1.
        """
        if fusable_in_bfloat16(image_embeddings):
            with torch.autocast("cpu", enabled=False):
                return self.prepare(
                    image_embeddings.float(),
                    image_pe.float(),
                    dense_prompt_embeddings.float(),
                    [level.float() for level in high_res_features],
                )
        if not cpu_decoder.suits(self, image_embeddings, 0):
            return None
        high_res = high_res_features if self.use_high_res_features else None
        return cpu_decoder.prepare(self, image_embeddings + dense_prompt_embeddings, image_pe, high_res)

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        repeat_image: bool,
        high_res_features: list[Tensor] | None = None,
        picture: cpu_decoder.Picture | None = None,
        prompt_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All masks (the single one first) with IoU, mask tokens and presence; shapes as in `forward`."""
        batch = sparse_prompt_embeddings.shape[0]
        output_tokens = [self.iou_token.weight, self.mask_tokens.weight]
        if self.pred_obj_scores:
            output_tokens.insert(0, self.obj_score_token.weight)
        tokens = torch.cat(output_tokens)[None].expand(batch, -1, -1)
        tokens = torch.cat((tokens, sparse_prompt_embeddings), dim=1)

        if not repeat_image and image_embeddings.shape[0] != batch:
            raise ValueError(
                f"{image_embeddings.shape[0]} image embeddings for {batch} prompts: "
                "give one for each prompt, or one with repeat_image=True"
            )
        if self.use_high_res_features and high_res_features is None:
            raise ValueError(
                "this decoder was built with use_high_res_features: high_res_features must be given"
            )
        high_res = high_res_features if self.use_high_res_features else None
        first = 1 if self.pred_obj_scores else 0
        if prompt_mask is None and cpu_decoder.suits(self, image_embeddings, tokens.shape[1]):
            if picture is None:
                shared = repeat_image and dense_prompt_embeddings.stride(0) == 0
                dense = dense_prompt_embeddings[:1] if shared else dense_prompt_embeddings
                picture = cpu_decoder.prepare(self, image_embeddings + dense, image_pe, high_res)
            masks, hidden = cpu_decoder.predict_masks(self, picture, tokens)
            mask_tokens = hidden[:, first + 1 : first + 1 + self.num_mask_tokens]
        else:
            src = image_embeddings + dense_prompt_embeddings
            height, width = src.shape[-2:]
            bias = None
            if prompt_mask is not None:
                prompt_bias = torch.where(prompt_mask, 0.0, float("-inf")).to(tokens.dtype)
                bias = F.pad(prompt_bias, (tokens.shape[1] - prompt_mask.shape[1], 0))
            hidden, src = self.transformer(src, image_pe.expand(src.shape[0], -1, -1, -1), tokens, bias)
            mask_tokens = hidden[:, first + 1 : first + 1 + self.num_mask_tokens]
            upscaled = self._upscale(src.transpose(1, 2).unflatten(-1, (height, width)), high_res)
            hyper = torch.stack(
                [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
            )
            masks = (hyper @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:])
        iou_token = hidden[:, first]
        iou_pred = self.iou_prediction_head(iou_token)
        if self.pred_obj_scores:
            object_score_logits = self.pred_obj_score_head(hidden[:, 0])
        else:
            object_score_logits = iou_pred.new_full((batch, 1), 10.0)  # always present
        return masks, iou_pred, mask_tokens, object_score_logits

    def _upscale(self, src: Tensor, high_res_features: list[Tensor] | None) -> Tensor:
        """[B, C, H, W] to [B, C / 8, 4 H, 4 W]."""
        if high_res_features is None:
            return self.output_upscaling(src)
        feat_s0, feat_s1 = high_res_features
        up1, norm1, act1, up2, act2 = self.output_upscaling
        x = act1(norm1(up1(src) + feat_s1))
        return act2(up2(x) + feat_s0)

    def _stability(self, logits: Tensor) -> Tensor:
        """Area above +delta over area above -delta, over the last two axes; 1 where both are empty."""
        delta = self.dynamic_multimask_stability_delta
        inner = (logits > delta).sum((-2, -1)).float()
        outer = (logits > -delta).sum((-2, -1)).float()
        return torch.where(outer > 0, inner / outer.clamp(min=1), 1.0)

    def _stable_mask(self, masks: Tensor, iou_pred: Tensor) -> tuple[Tensor, Tensor]:
        """The single mask where it is stable, otherwise the best of the others: [B, 1, ...]."""
        row = torch.arange(masks.shape[0], device=masks.device)
        best = iou_pred[:, 1:].argmax(dim=-1) + 1
        stable = self._stability(masks[:, 0]) >= self.dynamic_multimask_stability_thresh
        chosen = torch.where(stable, 0, best)
        return masks[row, chosen][:, None], iou_pred[row, chosen][:, None]
