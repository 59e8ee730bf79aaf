"""SAM 2: one step of segmenting and tracking objects (arXiv 2408.00714).

`SAM2Model` holds every parameter and offers pure steps on tensors: `encode_image`, `condition`,
`decode`, `adopt_masks`, `step`, `encode_memory`.

Shapes: B objects, C channels of the model, K of a memory, H x W the image embedding (stride 16),
S the input size, M masks an object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2.memory.entry import MemorySelection
from sam2.memory.policies import FifoPolicy
from sam2.modeling.backbones.image_encoder import ImageEncoder
from sam2.modeling.layers import MLP
from sam2.modeling.memory_tokens import FixedMemories, fixed_tokens, memory_tokens
from sam2.modeling.outputs import NO_OBJ_SCORE, FrameFeatures, FrameOutput
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer

MASK_LOGIT = 10.0
"""Magnitude of the logits given to a mask that is adopted as it is."""


class SAM2Model(nn.Module):
    """The whole model.

    Args:
        image_encoder: picture to features of strides 4, 8 and 16.
        memory_attention: conditions features on memories.
        memory_encoder: features and a mask to a memory.
        num_maskmem: spatial memories a frame reads; 0 for no memory at all.
        image_size: side S of the square input in pixels; 16 divides it.
        backbone_stride: stride of the image embedding.
        sigmoid_scale_for_mem_enc, sigmoid_bias_for_mem_enc: scale and shift of mask probabilities
            before the memory encoder.
        binarize_mask_from_pts_for_mem_enc: threshold prompted masks there (not in training).
        use_mask_input_as_output_without_sam: a mask prompt is itself the frame's mask.
        max_cond_frames_in_attn: most conditioning frames read, -1 for all.
        directly_add_no_mem_embed: a frame without memory adds an embedding instead of attending
            to one. Every published model does, and only this is supported.
        use_high_res_features_in_sam: features of strides 4 and 8 in the mask decoder.
        multimask_output_in_sam, multimask_min_pt_num, multimask_max_pt_num,
            multimask_output_for_tracking: when three masks are predicted, by the number of points.
        use_multimask_token_for_obj_ptr: the object pointer comes from the chosen mask's token.
        iou_prediction_use_sigmoid: bound predicted IoUs.
        memory_temporal_stride_for_eval: frames between recent memories (not in training).
        non_overlap_masks_for_mem_enc: published name; masks of a batch do not overlap in memory.
        use_obj_ptrs_in_encoder, max_obj_ptrs_in_encoder: object pointers in memory attention.
        add_tpos_enc_to_obj_ptrs, proj_tpos_enc_in_obj_ptrs, use_signed_tpos_enc_to_obj_ptrs,
            only_obj_ptrs_in_the_past_for_eval: their temporal encoding.
        pred_obj_scores, pred_obj_scores_mlp: predict presence.
        fixed_no_obj_ptr, soft_no_obj_ptr: the pointer of an absent object.
        use_mlp_for_obj_ptr_proj: an MLP makes the pointer.
        no_obj_embed_spatial: mark the memory of an absent object.
        sam_mask_decoder_extra_args: further options of `MaskDecoder`.
        sam_mlp_dim: inner width of the mask decoder's transformer.
        compile_image_encoder: published name; read by the builders.
        memory_pooling: read spatial memories, but for the first and the latest, in means of 2 x 2 cells: less
            work, and other masks (`bench/results/cpu.md`). May be switched between frames.
        zoom: read by predictors: whether they look again at crops around objects (`sam2.zoom`).
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        memory_attention: nn.Module,
        memory_encoder: nn.Module,
        num_maskmem: int = 7,
        image_size: int = 512,
        backbone_stride: int = 16,
        sigmoid_scale_for_mem_enc: float = 1.0,
        sigmoid_bias_for_mem_enc: float = 0.0,
        binarize_mask_from_pts_for_mem_enc: bool = False,
        use_mask_input_as_output_without_sam: bool = False,
        max_cond_frames_in_attn: int = -1,
        directly_add_no_mem_embed: bool = True,
        use_high_res_features_in_sam: bool = False,
        multimask_output_in_sam: bool = False,
        multimask_min_pt_num: int = 1,
        multimask_max_pt_num: int = 1,
        multimask_output_for_tracking: bool = False,
        use_multimask_token_for_obj_ptr: bool = False,
        iou_prediction_use_sigmoid: bool = False,
        memory_temporal_stride_for_eval: int = 1,
        non_overlap_masks_for_mem_enc: bool = False,
        use_obj_ptrs_in_encoder: bool = False,
        max_obj_ptrs_in_encoder: int = 16,
        add_tpos_enc_to_obj_ptrs: bool = True,
        proj_tpos_enc_in_obj_ptrs: bool = False,
        use_signed_tpos_enc_to_obj_ptrs: bool = False,
        only_obj_ptrs_in_the_past_for_eval: bool = False,
        pred_obj_scores: bool = False,
        pred_obj_scores_mlp: bool = False,
        fixed_no_obj_ptr: bool = False,
        soft_no_obj_ptr: bool = False,
        use_mlp_for_obj_ptr_proj: bool = False,
        no_obj_embed_spatial: bool = False,
        sam_mask_decoder_extra_args: dict[str, Any] | None = None,
        sam_mlp_dim: int = 2048,
        compile_image_encoder: bool = False,
        memory_pooling: bool = False,
        zoom: bool = False,
    ) -> None:
        super().__init__()
        if image_size <= 0 or image_size % backbone_stride:
            raise ValueError(
                f"image_size is {image_size}: it must be a positive multiple of {backbone_stride}"
            )
        if memory_pooling and image_size // backbone_stride % 2:
            raise ValueError(
                f"memory_pooling needs an image_size that {2 * backbone_stride} divides, got {image_size}"
            )
        if not directly_add_no_mem_embed:
            raise ValueError(
                "directly_add_no_mem_embed=False is not supported: set it to true, as published models do"
            )
        if fixed_no_obj_ptr and not (pred_obj_scores and use_obj_ptrs_in_encoder):
            raise ValueError("fixed_no_obj_ptr needs pred_obj_scores and use_obj_ptrs_in_encoder")

        self.image_encoder = image_encoder
        self.memory_attention = memory_attention
        self.memory_encoder = memory_encoder
        self.hidden_dim: int = image_encoder.neck.d_model  # type: ignore[union-attr, assignment]
        self.mem_dim: int = memory_encoder.out_dim  # type: ignore[assignment]
        if self.hidden_dim % self.mem_dim:
            raise ValueError(f"memories of {self.mem_dim} channels cannot hold pointers of {self.hidden_dim}")

        self.num_maskmem = num_maskmem
        self.image_size = image_size
        self.backbone_stride = backbone_stride
        self.sigmoid_scale_for_mem_enc = sigmoid_scale_for_mem_enc
        self.sigmoid_bias_for_mem_enc = sigmoid_bias_for_mem_enc
        self.binarize_mask_from_pts_for_mem_enc = binarize_mask_from_pts_for_mem_enc
        self.use_mask_input_as_output_without_sam = use_mask_input_as_output_without_sam
        self.max_cond_frames_in_attn = max_cond_frames_in_attn
        self.directly_add_no_mem_embed = directly_add_no_mem_embed
        self.use_high_res_features_in_sam = use_high_res_features_in_sam
        self.num_feature_levels = 3 if use_high_res_features_in_sam else 1
        self.multimask_output_in_sam = multimask_output_in_sam
        self.multimask_min_pt_num = multimask_min_pt_num
        self.multimask_max_pt_num = multimask_max_pt_num
        self.multimask_output_for_tracking = multimask_output_for_tracking
        self.use_multimask_token_for_obj_ptr = use_multimask_token_for_obj_ptr
        self.iou_prediction_use_sigmoid = iou_prediction_use_sigmoid
        self.memory_temporal_stride_for_eval = memory_temporal_stride_for_eval
        self.non_overlap_masks_for_mem_enc = non_overlap_masks_for_mem_enc
        self.use_obj_ptrs_in_encoder = use_obj_ptrs_in_encoder
        self.max_obj_ptrs_in_encoder = max_obj_ptrs_in_encoder
        self.add_tpos_enc_to_obj_ptrs = add_tpos_enc_to_obj_ptrs
        self.proj_tpos_enc_in_obj_ptrs = proj_tpos_enc_in_obj_ptrs and add_tpos_enc_to_obj_ptrs
        self.use_signed_tpos_enc_to_obj_ptrs = use_signed_tpos_enc_to_obj_ptrs
        self.only_obj_ptrs_in_the_past_for_eval = only_obj_ptrs_in_the_past_for_eval
        self.pred_obj_scores = pred_obj_scores
        self.pred_obj_scores_mlp = pred_obj_scores_mlp
        self.fixed_no_obj_ptr = fixed_no_obj_ptr
        self.soft_no_obj_ptr = soft_no_obj_ptr
        self.use_mlp_for_obj_ptr_proj = use_mlp_for_obj_ptr_proj
        self.sam_mask_decoder_extra_args = dict(sam_mask_decoder_extra_args or {})
        self.compile_image_encoder = compile_image_encoder
        self.memory_pooling = memory_pooling
        self.zoom = zoom

        width = self.hidden_dim
        self.maskmem_tpos_enc = _embedding(num_maskmem, 1, 1, self.mem_dim)
        self.no_mem_embed = _embedding(1, 1, width)
        self.no_mem_pos_enc = _embedding(1, 1, width)  # read by no step, but part of every checkpoint
        if use_obj_ptrs_in_encoder:
            self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        if pred_obj_scores and use_obj_ptrs_in_encoder:
            self.no_obj_ptr = _embedding(1, width)
        self.no_obj_embed_spatial = _embedding(1, self.mem_dim) if no_obj_embed_spatial else None

        grid = image_size // backbone_stride
        self.sam_prompt_embed_dim = width
        self.sam_image_embedding_size = grid
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=width,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        )
        decoder_options: dict[str, Any] = {
            "num_multimask_outputs": 3,
            "transformer_dim": width,
            "iou_head_depth": 3,
            "iou_head_hidden_dim": 256,
            "use_high_res_features": use_high_res_features_in_sam,
            "iou_prediction_use_sigmoid": iou_prediction_use_sigmoid,
            "pred_obj_scores": pred_obj_scores,
            "pred_obj_scores_mlp": pred_obj_scores_mlp,
            "use_multimask_token_for_obj_ptr": use_multimask_token_for_obj_ptr,
        }
        self.sam_mask_decoder = MaskDecoder(
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=sam_mlp_dim, num_heads=8),
            **(decoder_options | self.sam_mask_decoder_extra_args),
        )
        self.obj_ptr_proj: nn.Module = nn.Identity()
        self.obj_ptr_tpos_proj: nn.Module = nn.Identity()
        if use_obj_ptrs_in_encoder:
            self.obj_ptr_proj = (
                MLP(width, width, width, 3) if use_mlp_for_obj_ptr_proj else nn.Linear(width, width)
            )
            if self.proj_tpos_enc_in_obj_ptrs:
                self.obj_ptr_tpos_proj = nn.Linear(width, self.mem_dim)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def memory_policy(self) -> FifoPolicy:
        """The published choice of memories, under this model's options and mode."""
        return FifoPolicy(
            num_maskmem=self.num_maskmem,
            stride=1 if self.training else self.memory_temporal_stride_for_eval,
            max_cond_frames=self.max_cond_frames_in_attn,
            max_obj_ptrs=self.max_obj_ptrs_in_encoder if self.use_obj_ptrs_in_encoder else 0,
            past_pointers_only=self.only_obj_ptrs_in_the_past_for_eval and not self.training,
            signed_distance=self.use_signed_tpos_enc_to_obj_ptrs,
        )

    # ------------------------------------------------------------------ pure steps

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Encodes normalised pictures [B, 3, S, S].

        Returns:
            `backbone_fpn` (the finer levels already through the decoder's convolutions),
            `vision_pos_enc` and `vision_features`, as the published package gives them.
        """
        finish: tuple[nn.Module, ...] = ()
        if self.use_high_res_features_in_sam:
            finish = (self.sam_mask_decoder.conv_s0, self.sam_mask_decoder.conv_s1)
        if isinstance(self.image_encoder, ImageEncoder) and not self.image_encoder._forward_hooks:
            return self.image_encoder(img_batch, finish)
        backbone_out = self.image_encoder(img_batch)
        for i, layer in enumerate(finish):
            backbone_out["backbone_fpn"][i] = layer(backbone_out["backbone_fpn"][i])
        return backbone_out

    def encode_image(self, images: Tensor) -> FrameFeatures:
        """Encodes normalised pictures [B, 3, S, S]."""
        out = self.forward_image(images)
        levels = self.num_feature_levels
        # one layout, so that features that were stored and fetched give the same bits
        maps = [m.contiguous() for m in out["backbone_fpn"][-levels:]]
        return FrameFeatures(maps, out["vision_pos_enc"][-levels:])

    def condition(
        self, features: FrameFeatures, selections: Sequence[MemorySelection] | FixedMemories | None
    ) -> Tensor:
        """The frame's embedding in the light of each object's memories.

        Args:
            features: of one frame (batch 1), or one for each remembered object.
            selections: what each object reads, of equal shape, or in a fixed one; None or empty ones for no
                memory.

        Returns:
            [B, C, H, W], with B = 1 where no memory distinguishes the objects of one frame.
        """
        embedding = features.embedding
        if self.num_maskmem == 0:
            return embedding
        encodings: tuple[Any, ...] = (
            self.maskmem_tpos_enc.flatten(1, 2),
            self.memory_encoder.position_encoding,
            self.obj_ptr_tpos_proj if self.add_tpos_enc_to_obj_ptrs else None,
            self.mem_dim,
        )
        if isinstance(selections, FixedMemories):
            tokens = fixed_tokens(selections, *encodings)
        elif not selections or selections[0].is_empty:
            return embedding + self.no_mem_embed.reshape(1, -1, 1, 1)
        else:
            tokens = memory_tokens(selections, *encodings)
        conditioned_TBC = self.memory_attention(
            curr=embedding.flatten(2).permute(2, 0, 1),
            curr_pos=features.encodings[-1].flatten(2).permute(2, 0, 1),
            memory=tokens.memory,
            memory_pos=tokens.pos,
            num_obj_ptr_tokens=tokens.num_pointer_tokens,
            memory_pooling=self.memory_pooling,
            key_bias=tokens.key_bias,
        )
        return conditioned_TBC.permute(1, 2, 0).unflatten(-1, embedding.shape[-2:])

    def decode(
        self,
        embedding: Tensor,
        high_res_features: list[Tensor] | None,
        point_inputs: Mapping[str, Tensor] | None = None,
        mask_inputs: Tensor | None = None,
        multimask_output: bool = False,
    ) -> FrameOutput:
        """Prompts to masks.

        Args:
            embedding: [B, C, H, W], or [1, C, H, W] for B prompts on one frame.
            high_res_features: of strides 4 and 8, batch B or 1.
            point_inputs: `point_coords` [B, N, 2] in pixels of the model's input and `point_labels` [B, N];
                `point_mask` bool [B, N] where some only fill the shape; None for tracking without a prompt.
            mask_inputs: mask logits [B, 1, h, w], resized to S / 4 where they are not.
            multimask_output: three masks, the best of which is chosen.
        """
        prompt_mask = None
        if point_inputs is not None:
            coords, labels = point_inputs["point_coords"], point_inputs["point_labels"]
            if (point_mask := point_inputs.get("point_mask")) is not None:
                prompt_mask = F.pad(point_mask, (0, 1), value=True)  # the prompt encoder's padding is there
        else:
            batch = embedding.shape[0] if mask_inputs is None else mask_inputs.shape[0]
            coords = embedding.new_zeros(batch, 1, 2)
            labels = torch.full((batch, 1), -1, dtype=torch.int32, device=embedding.device)
        if mask_inputs is not None:
            size = self.sam_prompt_encoder.mask_input_size
            if mask_inputs.shape[-2:] != size:
                mask_inputs = F.interpolate(
                    mask_inputs.float(), size=size, mode="bilinear", align_corners=False, antialias=True
                )
        sparse, dense = self.sam_prompt_encoder(points=(coords, labels), boxes=None, masks=mask_inputs)
        masks, ious, tokens, object_score_logits = self.sam_mask_decoder(
            image_embeddings=embedding,
            image_pe=self.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
            repeat_image=embedding.shape[0] != coords.shape[0],
            high_res_features=high_res_features,
            prompt_mask=prompt_mask,
        )
        raw = masks = masks.float()
        present = object_score_logits > 0
        if self.pred_obj_scores:
            masks = torch.where(present[..., None, None], masks, NO_OBJ_SCORE)
        token, best_masks = tokens[:, 0], masks
        if multimask_output:
            row = torch.arange(masks.shape[0], device=masks.device)
            best = ious.argmax(dim=-1)
            best_masks = masks[row, best][:, None]
            if tokens.shape[1] > 1:
                token = tokens[row, best]
        obj_ptr = self._pointer(token, object_score_logits)
        return FrameOutput(
            masks,
            ious,
            best_masks,
            obj_ptr,
            object_score_logits,
            raw_multimasks=raw if self.training else None,
            tokens=tokens,
        )

    def choose(self, out: FrameOutput, choice: Tensor) -> FrameOutput:
        """Takes other masks than those with the highest predicted IoU.

        Args:
            out: of `step`, on a tracked frame.
            choice: index of the mask of each object, int [B].
        """
        assert out.tokens is not None
        row = torch.arange(len(choice), device=choice.device)
        token = out.tokens[row, choice] if out.tokens.shape[1] > 1 else out.tokens[:, 0]
        masks, ious = out.low_res_multimasks[row, choice][:, None], out.ious[row, choice][:, None]
        obj_ptr = self._pointer(token, out.object_score_logits)
        return FrameOutput(masks, ious, masks, obj_ptr, out.object_score_logits)

    def _pointer(self, token: Tensor, object_score_logits: Tensor) -> Tensor:
        obj_ptr = self.obj_ptr_proj(token)
        if not self.pred_obj_scores:
            return obj_ptr
        present = (object_score_logits > 0).to(obj_ptr.dtype)
        presence = object_score_logits.sigmoid() if self.soft_no_obj_ptr else present
        return self._pointer_by_presence(obj_ptr, presence)

    def _pointer_by_presence(self, obj_ptr: Tensor, presence: Tensor) -> Tensor:
        if not self.use_obj_ptrs_in_encoder:
            return obj_ptr
        if self.fixed_no_obj_ptr:
            obj_ptr = presence * obj_ptr
        return obj_ptr + (1 - presence) * self.no_obj_ptr

    def adopt_masks(
        self, embedding: Tensor, high_res_features: list[Tensor] | None, mask_inputs: Tensor
    ) -> FrameOutput:
        """Takes given masks for the frame's masks; only the object pointer is predicted.

        Args:
            embedding: [B or 1, C, H, W], without memory.
            mask_inputs: [B, 1, S, S], 1 on the object and 0 elsewhere.
        """
        masks = mask_inputs.float()
        exact = masks * (2 * MASK_LOGIT) - MASK_LOGIT
        side = (masks.shape[-2] // self.backbone_stride * 4, masks.shape[-1] // self.backbone_stride * 4)
        low_res = F.interpolate(exact, size=side, mode="bilinear", align_corners=False, antialias=True)
        ious = masks.new_ones(masks.shape[0], 1)
        present = (masks.flatten(1) > 0).any(dim=1, keepdim=True).to(masks.dtype)
        if self.use_obj_ptrs_in_encoder:
            obj_ptr = self.decode(
                embedding, high_res_features, mask_inputs=self.mask_downsample(masks)
            ).obj_ptr
        else:
            obj_ptr = masks.new_zeros(masks.shape[0], self.hidden_dim)
        if self.pred_obj_scores:
            obj_ptr = self._pointer_by_presence(obj_ptr, present)
        object_score_logits = 2 * MASK_LOGIT * present - MASK_LOGIT
        return FrameOutput(low_res, ious, low_res, obj_ptr, object_score_logits, exact_masks=exact)

    def step(
        self,
        features: FrameFeatures,
        selections: Sequence[MemorySelection] | None = None,
        point_inputs: Mapping[str, Tensor] | None = None,
        mask_inputs: Tensor | None = None,
        prev_logits: Tensor | None = None,
        is_init_cond_frame: bool = False,
    ) -> FrameOutput:
        """Segments B objects on one frame.

        Args:
            features: of the frame.
            selections: each object's memories, of equal shape; not read on an initial conditioning frame.
            point_inputs: prompts, see `decode`; None where the objects are tracked.
            mask_inputs: mask prompts [B, 1, S, S]; either these or points.
            prev_logits: low-resolution logits to be corrected by the points.
            is_init_cond_frame: the frame is prompted before it was tracked.
        """
        if mask_inputs is not None and self.use_mask_input_as_output_without_sam:
            return self.adopt_masks(features.embedding, features.high_res, mask_inputs)
        embedding = self.condition(features, None if is_init_cond_frame else selections)
        if embedding.shape[0] == 1 and selections and point_inputs is None and mask_inputs is None:
            embedding = embedding.expand(len(selections), -1, -1, -1)
        return self.decode(
            embedding,
            features.high_res,
            point_inputs,
            mask_inputs if prev_logits is None else prev_logits,
            self._use_multimask(is_init_cond_frame, point_inputs),
        )

    def encode_memory(
        self, embedding: Tensor, masks: Tensor, object_score_logits: Tensor, is_mask_from_pts: bool
    ) -> Tensor:
        """The spatial memory of B objects on one frame.

        Args:
            embedding: the frame's features [B or 1, C, H, W], without memory.
            masks: logits [B, 1, S, S].
            object_score_logits: [B, 1].
            is_mask_from_pts: a person prompted the masks.

        Returns:
            [B, K, H, W].
        """
        if self.binarize_mask_from_pts_for_mem_enc and is_mask_from_pts and not self.training:
            weights = (masks > 0).to(masks.dtype)
        else:
            weights = masks.sigmoid()
        weights = weights * self.sigmoid_scale_for_mem_enc + self.sigmoid_bias_for_mem_enc
        memory = self.memory_encoder(embedding, weights, skip_mask_sigmoid=True)["vision_features"]
        if self.no_obj_embed_spatial is not None:
            absent = (object_score_logits <= 0).to(memory.dtype)
            memory = memory + (absent * self.no_obj_embed_spatial)[..., None, None]
        return memory

    def _use_multimask(self, is_init_cond_frame: bool, point_inputs: Mapping[str, Tensor] | None) -> bool:
        points = 0 if point_inputs is None else point_inputs["point_labels"].shape[1]
        return (
            self.multimask_output_in_sam
            and (is_init_cond_frame or self.multimask_output_for_tracking)
            and self.multimask_min_pt_num <= points <= self.multimask_max_pt_num
        )


def _embedding(*shape: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(*shape))
    nn.init.trunc_normal_(parameter, std=0.02)
    return parameter
