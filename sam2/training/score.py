"""A quick held-out score for use while training: one click, a box, and following through a short clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam2.memory.bank import MemoryBank
from sam2.memory.entry import MemoryEntry
from sam2.modeling.outputs import FrameFeatures
from sam2.modeling.sam2_base import SAM2Base
from sam2.prompts.simulate import mask_boxes, sample_one_point_from_error_center
from sam2.training.batches import Sample
from sam2.training.losses import mask_iou
from sam2.training.pvs import encode_pictures


@dataclass(frozen=True)
class Score:
    """Mean IoU over objects, at the size of the model's input."""

    click: float
    """From one click at the middle."""
    box: float
    """From the box."""
    track: float | None
    """On the frames after the first, from a box on it; None for stills."""

    @property
    def mean(self) -> float:
        """Of what there is: what fine-tuning tries to raise."""
        values = [v for v in (self.click, self.box, self.track) if v is not None]
        return sum(values) / len(values)

    def __str__(self) -> str:
        tracked = "" if self.track is None else f", followed {100 * self.track:.1f}"
        return f"IoU from a click {100 * self.click:.1f}, a box {100 * self.box:.1f}{tracked}"


def _frame(features: FrameFeatures, t: int) -> FrameFeatures:
    return FrameFeatures([m[t : t + 1] for m in features.maps], [e[:1] for e in features.encodings])


def _repeated(features: FrameFeatures, count: int) -> FrameFeatures:
    return FrameFeatures([m.expand(count, -1, -1, -1) for m in features.maps], features.encodings)


def _followed(
    model: SAM2Base, features: FrameFeatures, masks: Tensor, corners: Tensor, labels: Tensor
) -> Tensor:
    """IoUs [T - 1, n] of the frames after the first, NaN where an object is absent."""
    count = masks.shape[1]
    bank = MemoryBank()
    ious = []
    for t in range(len(masks)):
        frame = _repeated(_frame(features, t), count)
        points = {"point_coords": corners, "point_labels": labels} if t == 0 else None
        selections = None if t == 0 else [model.memory_policy.select(bank, t, False, len(masks))]
        output = model.step(frame, selections, points, is_init_cond_frame=t == 0)
        logits = output.high_res_masks(model.image_size)
        score = output.object_score_logits
        memory = model.encode_memory(frame.embedding, logits, score, t == 0)
        bank.add(MemoryEntry(t, t == 0, memory, output.obj_ptr, score))
        if t:
            iou = mask_iou(logits[:, 0], masks[t].float())
            present = masks[t].flatten(1).any(dim=1)
            ious.append(torch.where(present, iou, torch.nan))
    return torch.stack(ious)


@torch.no_grad()
def held_out_score(
    model: SAM2Base, samples: Sequence[Sample], features: Sequence[FrameFeatures] | None = None
) -> Score:
    """Scores a model on samples; features: of their frames, where they are known already."""
    training = model.training
    model.eval()
    device = model.device
    clicks: list[Tensor] = []
    boxes: list[Tensor] = []
    tracks: list[Tensor] = []
    for i, sample in enumerate(samples):
        masks = sample.masks.to(device)
        if features is None:
            known = encode_pictures(model, sample.frames[:, None].to(device))
        else:
            maps = [m.to(device, torch.float32) for m in features[i].maps]
            known = FrameFeatures(maps, [e.to(device) for e in features[i].encodings])
        first = _frame(known, 0)
        truth = masks[0][:, None]
        coords, labels = sample_one_point_from_error_center(truth, None)
        corners = mask_boxes(truth).reshape(-1, 2, 2)
        kinds = torch.tensor([[2, 3]], dtype=torch.int32, device=device).expand(len(truth), 2)
        for found, points in ((clicks, (coords, labels)), (boxes, (corners, kinds))):
            prompt = {"point_coords": points[0], "point_labels": points[1]}
            output = model.step(first, None, prompt, is_init_cond_frame=True)
            found.append(mask_iou(output.high_res_masks(model.image_size), truth.float())[:, 0])
        if len(masks) > 1:
            tracks.append(_followed(model, known, masks, corners, kinds).flatten())
    model.train(training)
    track = float(torch.cat(tracks).nanmean()) if tracks else None
    return Score(float(torch.cat(clicks).mean()), float(torch.cat(boxes).mean()), track)
