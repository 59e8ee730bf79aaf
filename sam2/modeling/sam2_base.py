"""The model under its published name: what code written against the published package calls.

Every method here is an adapter over a step of `SAM2Model`, whose docstring has the shapes. No step calls an
adapter: whoever overrides one changes what its callers get, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.modeling.model import MASK_LOGIT, SAM2Model
from sam2.modeling.outputs import NO_OBJ_SCORE, FrameFeatures, FrameOutput, enlarge

__all__ = ["MASK_LOGIT", "NO_OBJ_SCORE", "SAM2Base"]


class SAM2Base(SAM2Model):
    """`SAM2Model` with the published methods beside its steps; arguments as there."""

    def _prepare_backbone_features(
        self, backbone_out: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor], list[tuple[int, int]]]:
        """Features and encodings as [H * W, B, C] a level, with the levels' (height, width)."""
        maps = backbone_out["backbone_fpn"][-self.num_feature_levels :]
        encodings = backbone_out["vision_pos_enc"][-self.num_feature_levels :]
        sizes = [(e.shape[-2], e.shape[-1]) for e in encodings]
        flat = [x.flatten(2).permute(2, 0, 1) for x in maps]
        return dict(backbone_out), flat, [x.flatten(2).permute(2, 0, 1) for x in encodings], sizes

    def _frame_features(
        self,
        vision_feats: list[Tensor],
        vision_pos_embeds: list[Tensor] | None,
        feat_sizes: list[tuple[int, int]],
    ) -> FrameFeatures:
        """Undoes the flattening of `_prepare_backbone_features`."""

        def unflatten(levels: list[Tensor]) -> list[Tensor]:
            return [x.permute(1, 2, 0).unflatten(-1, tuple(s)) for x, s in zip(levels, feat_sizes)]

        return FrameFeatures(unflatten(vision_feats), unflatten(vision_pos_embeds or []))

    def _forward_sam_heads(
        self,
        backbone_features: Tensor,
        point_inputs: Mapping[str, Tensor] | None = None,
        mask_inputs: Tensor | None = None,
        high_res_features: list[Tensor] | None = None,
        multimask_output: bool = False,
    ) -> tuple[Tensor, ...]:
        """`decode` with the published result: low and high resolution multimasks, IoUs, low and high
        resolution best masks, object pointers, presence logits."""
        out = self.decode(backbone_features, high_res_features, point_inputs, mask_inputs, multimask_output)
        return self._published_outputs(out)

    def _use_mask_as_output(
        self, backbone_features: Tensor, high_res_features: list[Tensor] | None, mask_inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """`adopt_masks` with the published result."""
        return self._published_outputs(self.adopt_masks(backbone_features, high_res_features, mask_inputs))

    def _published_outputs(self, out: FrameOutput) -> tuple[Tensor, ...]:
        best = out.high_res_masks(self.image_size)
        single = out.low_res_multimasks.shape[1] == 1
        return (
            out.low_res_multimasks,
            best if single else enlarge(out.low_res_multimasks, self.image_size),
            out.ious,
            out.low_res_masks,
            best,
            out.obj_ptr,
            out.object_score_logits,
        )

    def _select_memories(
        self,
        frame_idx: int,
        output_dict: Mapping[str, Mapping[int, Mapping[str, Any]]],
        num_frames: int,
        reverse: bool,
    ) -> MemorySelection:
        """The policy's choice from a published output dictionary."""

        def entries(kind: str) -> dict[int, MemoryEntry]:
            return {
                t: MemoryEntry(
                    t,
                    kind == "cond_frame_outputs",
                    out.get("maskmem_features"),
                    out["obj_ptr"],
                    out.get("object_score_logits", out["obj_ptr"][:, :1]),
                )
                for t, out in output_dict[kind].items()
            }

        memories = SimpleNamespace(
            conditioning=entries("cond_frame_outputs"), recent=entries("non_cond_frame_outputs")
        )
        return self.memory_policy.select(memories, frame_idx, reverse, num_frames)

    def _prepare_memory_conditioned_features(
        self,
        frame_idx: int,
        is_init_cond_frame: bool,
        current_vision_feats: list[Tensor],
        current_vision_pos_embeds: list[Tensor],
        feat_sizes: list[tuple[int, int]],
        output_dict: Mapping[str, Mapping[int, Mapping[str, Any]]],
        num_frames: int,
        track_in_reverse: bool = False,
    ) -> Tensor:
        """`condition` on the memories in a published output dictionary: [B, C, H, W]."""
        features = self._frame_features(
            current_vision_feats[-1:], current_vision_pos_embeds[-1:], feat_sizes[-1:]
        )
        if is_init_cond_frame:
            return self.condition(features, None)
        selection = self._select_memories(frame_idx, output_dict, num_frames, track_in_reverse)
        return self.condition(features, [selection])

    def _encode_new_memory(
        self,
        current_vision_feats: list[Tensor],
        feat_sizes: list[tuple[int, int]],
        pred_masks_high_res: Tensor,
        object_score_logits: Tensor,
        is_mask_from_pts: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """`encode_memory` with the published arguments: the memory and a list of its encoding."""
        features = self._frame_features(current_vision_feats[-1:], None, feat_sizes[-1:])
        if self.non_overlap_masks_for_mem_enc and not self.training:
            pred_masks_high_res = self._apply_non_overlapping_constraints(pred_masks_high_res)
        memory = self.encode_memory(
            features.embedding, pred_masks_high_res, object_score_logits, is_mask_from_pts
        )
        position_encoding = self.memory_encoder.position_encoding
        assert callable(position_encoding)
        return memory, [position_encoding(memory).to(memory.dtype)]

    def track_step(
        self,
        frame_idx: int,
        is_init_cond_frame: bool,
        current_vision_feats: list[Tensor],
        current_vision_pos_embeds: list[Tensor],
        feat_sizes: list[tuple[int, int]],
        point_inputs: Mapping[str, Tensor] | None,
        mask_inputs: Tensor | None,
        output_dict: Mapping[str, Mapping[int, Mapping[str, Any]]],
        num_frames: int,
        track_in_reverse: bool = False,
        run_mem_encoder: bool = True,
        prev_sam_mask_logits: Tensor | None = None,
    ) -> dict[str, Any]:
        """`step`, then `encode_memory`, on published arguments.

        Returns:
            `pred_masks`, `pred_masks_high_res`, `obj_ptr`, `object_score_logits`,
            `maskmem_features` and `maskmem_pos_enc` (None where the memory encoder did not run).
        """
        features = self._frame_features(current_vision_feats, current_vision_pos_embeds, feat_sizes)
        selection = None
        if not is_init_cond_frame:
            selection = [self._select_memories(frame_idx, output_dict, num_frames, track_in_reverse)]
        embedding_batch = features.embedding.shape[0]
        out = self.step(
            features, selection, point_inputs, mask_inputs, prev_sam_mask_logits, is_init_cond_frame
        )
        assert out.low_res_masks.shape[0] == embedding_batch
        high_res_masks = out.high_res_masks(self.image_size)
        current_out: dict[str, Any] = {
            "point_inputs": point_inputs,
            "mask_inputs": mask_inputs,
            "pred_masks": out.low_res_masks,
            "pred_masks_high_res": high_res_masks,
            "obj_ptr": out.obj_ptr,
            "object_score_logits": out.object_score_logits,
            "maskmem_features": None,
            "maskmem_pos_enc": None,
        }
        if run_mem_encoder and self.num_maskmem > 0:
            current_out["maskmem_features"], current_out["maskmem_pos_enc"] = self._encode_new_memory(
                current_vision_feats,
                feat_sizes,
                high_res_masks,
                out.object_score_logits,
                is_mask_from_pts=point_inputs is not None,
            )
        return current_out

    def _apply_non_overlapping_constraints(self, pred_masks: Tensor) -> Tensor:
        """Keeps the strongest of B masks [B, 1, h, w] at each pixel, the others at -10 or less."""
        if pred_masks.shape[0] == 1:
            return pred_masks
        winner = pred_masks.argmax(dim=0, keepdim=True)
        index = torch.arange(pred_masks.shape[0], device=pred_masks.device)[:, None, None, None]
        return torch.where(winner == index, pred_masks, pred_masks.clamp(max=-MASK_LOGIT))
