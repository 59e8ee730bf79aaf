"""Promptable segmentation of clips with a simulated user (SAM 2, arXiv 2408.00714, appendix D.2).

Each picture is encoded once and serves all its objects. Objects are split by the kind of their first prompt
(mask, click, box), and each such group is tracked as one batch: the initial conditioning frames first, then
the others in time; correction clicks on a frame turn it into a conditioning frame.

Shapes: T frames, B pictures a frame, N objects of all pictures, S the input size, M masks a prompt, P points.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.memory.bank import MemoryBank
from sam2.memory.entry import MemoryEntry
from sam2.modeling.outputs import FrameFeatures, FrameOutput
from sam2.modeling.sam2_base import SAM2Base
from sam2.prompts.simulate import get_next_point, sample_box_points, sample_points_from_mask
from sam2.training.losses import LossOptions, StepOutput, mask_iou, training_losses
from sam2.training.mistakes import with_mistakes

LOGIT_BOUND = 32.0
"""Logits fed back with a correction are clamped to this, as the predictors do."""
KINDS = ("mask", "click", "box")


@dataclass(frozen=True)
class PvsOptions:
    """How the simulated user prompts; the defaults are the paper's."""

    mask: float = 0.5
    """Share of objects prompted by their mask; none in stills, where nothing would be left to learn."""
    click: float = 0.25
    """Share of objects prompted by one click on the object."""
    box: float = 0.25
    """Share of objects prompted by a box."""
    init_frames: int = 2
    """At most so many frames hold a first prompt."""
    correct_frames: int = 2
    """At most so many frames get correction clicks."""
    clicks: int = 7
    """Correction clicks on each of those."""
    from_truth: float = 0.1
    """Share of correction clicks taken anywhere on the object, not from the error."""
    centre: float = 0.0
    """Share of clicks, first ones too, in the middle of the object or error, as people and benchmarks click;
    the others fall anywhere in it, as in the paper."""
    box_noise: float = 0.1
    """Noise of box corners, as a share of the box's size."""
    box_noise_bound: float = 20.0
    """Noise of box corners, at most so many pixels of the model's input."""
    mistakes: float = 0.0
    """Share of remembered masks that are spoilt on frames without a prompt (`sam2.training.mistakes`)."""
    learnt: int = 0
    """Of a longer clip only so many frames are learnt from, the first and the last ones: those between are
    followed without gradients, for memories as they become after a while (0: all)."""
    loss_stride: int = 4
    """Supervise logits at the input size (1) or as the decoder gives them (4: sixteen times cheaper)."""

    def __post_init__(self) -> None:
        if min(self.mask, self.click, self.box) < 0 or self.click + self.box <= 0:
            raise ValueError(
                f"prompt shares are mask {self.mask}, click {self.click}, box {self.box}:"
                " none may be negative, and click and box not both 0"
            )
        if self.init_frames < 1 or self.correct_frames < 0 or self.clicks < 0:
            raise ValueError("init_frames must be at least 1, correct_frames and clicks at least 0")
        for name, share in (("centre", self.centre), ("mistakes", self.mistakes)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it must be between 0 and 1")
        if self.learnt < 0 or self.learnt == 1:
            raise ValueError(f"learnt is {self.learnt}; it must be 0 (all frames) or at least 2")
        if self.loss_stride not in (1, 4):
            raise ValueError(f"loss_stride is {self.loss_stride}; it must be 1 or 4")


@dataclass(frozen=True)
class Batch:
    """Clips of equal length with the masks of their objects.

    images: uint8 [T, B, 3, S, S]; masks: bool [T, N, S, S]; picture: int64 [N], to which of the B clips an
    object belongs; by_mask: bool [N], objects that nothing but their mask can point at, None where there are
    none.
    """

    images: Tensor
    masks: Tensor
    picture: Tensor
    by_mask: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        images, masks, picture = (
            x.to(device, non_blocking=True) for x in (self.images, self.masks, self.picture)
        )
        by_mask = None if self.by_mask is None else self.by_mask.to(device, non_blocking=True)
        return Batch(images, masks, picture, by_mask)


@dataclass(frozen=True)
class Plan:
    """When the user acts, by frame: where the first prompts stand, and which frames get corrections."""

    initial: tuple[int, ...]
    corrected: tuple[int, ...]

    def order(self, num_frames: int) -> list[int]:
        """Frames in the order of their processing."""
        return [*self.initial, *(t for t in range(num_frames) if t not in self.initial)]


@dataclass
class Outcome:
    """Predictions for one group of objects: for each frame its steps, and the truth at their resolution.

    frames: frame by frame (none for those adopted from a mask prompt or not learnt from);
    targets: float [T, n, h, w]; kind: the first prompt; plan: when the user acted;
    objects: int64 [n], their places in the batch.
    """

    frames: list[list[StepOutput]]
    targets: Tensor
    kind: str
    plan: Plan
    objects: Tensor


def _randint(low: int, high: int) -> int:
    """Uniform in [low, high]."""
    return int(torch.randint(low, high + 1, ()))


def draw_plan(num_frames: int, kind: str, options: PvsOptions) -> Plan:
    """Draws frames for prompts and corrections from torch's global generator.

    The first frame always has a prompt. Where the prompt is a mask there is nothing to correct; else every
    prompted frame is corrected, and perhaps another.
    """
    initial = 1 if num_frames == 1 else _randint(1, min(options.init_frames, num_frames))
    order = [0, *(1 + torch.randperm(num_frames - 1)).tolist()]
    if kind == "mask" or not options.correct_frames or not options.clicks:
        return Plan(tuple(sorted(order[:initial])), ())
    corrected = max(initial, _randint(1, min(options.correct_frames, num_frames)))
    return Plan(tuple(sorted(order[:initial])), tuple(sorted(order[:corrected])))


def draw_kinds(count: int, num_frames: int, options: PvsOptions) -> list[str]:
    """Draws the first prompt of each of `count` objects."""
    mask = options.mask if num_frames > 1 else 0.0
    shares = torch.tensor([mask, options.click, options.box], dtype=torch.float32)
    return [KINDS[i] for i in torch.multinomial(shares, count, replacement=True).tolist()]


def learnt_frames(num_frames: int, options: PvsOptions) -> list[bool]:
    """Whether each frame is learnt from (`PvsOptions.learnt`)."""
    rest = num_frames - options.learnt
    return [not options.learnt or t == 0 or t > rest for t in range(num_frames)]


@contextmanager
def _without_gradients() -> Iterator[None]:
    """As `torch.no_grad`, and without casts of weights that autocast may have kept of it: they bear none."""
    with torch.no_grad():
        yield
    torch.clear_autocast_cache()


class _Targets:
    """The truth of one group of objects at the resolution of the losses, and clicks on it."""

    def __init__(self, masks: Tensor, options: PvsOptions) -> None:
        """masks: bool [T, n, S, S]."""
        self.full = masks
        self.stride = stride = options.loss_stride
        self.from_truth, self.centre = options.from_truth, options.centre
        self.soft = masks.float() if stride == 1 else F.avg_pool2d(masks.float(), stride)
        hard = self.soft > 0.5
        # an object thinner than the cells keeps those it touches
        self.hard = torch.where(hard.flatten(2).any(-1)[..., None, None], hard, self.soft > 0)

    def click(self, frame: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        """A correction of each object's mask (logits [n, 1, h, w]): points [n, 1, 2], labels [n, 1]."""
        truth = self.hard[frame][:, None]
        if float(torch.rand(())) < self.from_truth:
            points, labels = sample_points_from_mask(truth)
        else:
            points, labels = self._draw(truth, logits > 0)
        return self._inside(frame, points, labels), labels

    def first_click(self, frame: int) -> tuple[Tensor, Tensor]:
        """A click on each object, off it where it is absent."""
        points, labels = self._draw(self.hard[frame][:, None], None)
        return self._inside(frame, points, labels), labels

    def _draw(self, truth: Tensor, found: Tensor | None) -> tuple[Tensor, Tensor]:
        """In the middle of each error, or anywhere in it."""
        central = self.centre > 0 and float(torch.rand(())) < self.centre
        return get_next_point(truth, found, "center" if central else "uniform")

    def _inside(self, frame: int, cells: Tensor, labels: Tensor) -> Tensor:
        """From cells to a pixel in them, one that carries the click's label where there is one."""
        if self.stride == 1:
            return cells
        s = self.stride
        x, y = cells[:, 0].long().unbind(-1)
        steps = torch.arange(s, device=cells.device)
        rows = (y * s)[:, None, None] + steps[None, :, None]
        columns = (x * s)[:, None, None] + steps[None, None, :]
        index = torch.arange(len(x), device=cells.device)[:, None, None]
        patch = self.full[frame][index, rows, columns].flatten(1)
        right = patch == labels.bool()
        draw = torch.rand(patch.shape, device=cells.device) + right
        best = draw.argmax(dim=1)
        pixel = torch.stack([x * s + best % s, y * s + best // s], dim=-1)
        return pixel[:, None].float()


def _features_of(features: FrameFeatures, index: Tensor) -> FrameFeatures:
    return FrameFeatures([m[index] for m in features.maps], [e[:1] for e in features.encodings])


class _Interaction:
    """One group of objects, prompted alike, over all frames of its clips."""

    def __init__(
        self,
        model: SAM2Base,
        features: FrameFeatures,
        batch: Batch,
        objects: Tensor,
        kind: str,
        options: PvsOptions,
    ) -> None:
        """features: of frames and pictures in one batch, frame by frame [T * B, ...]."""
        self.model = model
        self.features = features
        self.kind = kind
        self.options = options
        self.objects = objects
        self.picture = batch.picture[objects]
        self.num_frames, self.num_pictures = batch.images.shape[:2]
        self.targets = _Targets(batch.masks[:, objects], options)
        self.plan = draw_plan(self.num_frames, kind, options)
        self.bank = MemoryBank()

    def run(self) -> Outcome:
        frames: list[list[StepOutput]] = [[] for _ in range(self.num_frames)]
        learnt = learnt_frames(self.num_frames, self.options)
        for t in self.plan.order(self.num_frames):
            if learnt[t]:
                frames[t] = self._frame(t)
            else:
                with _without_gradients():
                    self._frame(t)
        return Outcome(frames, self.targets.soft, self.kind, self.plan, self.objects)

    def _frame(self, t: int) -> list[StepOutput]:
        model = self.model
        features = _features_of(self.features, self.picture + t * self.num_pictures)
        initial = t in self.plan.initial
        adopted = initial and self.kind == "mask" and model.use_mask_input_as_output_without_sam
        if adopted:
            masks = self.targets.full[t][:, None].float()
            output = model.adopt_masks(features.embedding, features.high_res, masks)
            steps: list[StepOutput] = []
        else:
            output, steps = self._decode(t, features, initial)
        prompted = initial or t in self.plan.corrected
        if self.num_frames > 1 and model.num_maskmem > 0:
            self._remember(t, features, output, prompted)
        return steps

    def _decode(self, t: int, features: FrameFeatures, initial: bool) -> tuple[FrameOutput, list[StepOutput]]:
        model = self.model
        selections = None
        if not initial and model.num_maskmem > 0:
            selections = [model.memory_policy.select(self.bank, t, False, self.num_frames)]
        embedding = model.condition(features, selections)
        points, masks = self._first_prompt(t) if initial else (None, None)
        multimask = model._use_multimask(initial, points)
        output = model.decode(embedding, features.high_res, points, masks, multimask)
        steps = [self._step_output(output)]
        if t not in self.plan.corrected:
            return output, steps
        for _ in range(self.options.clicks):
            logits = self._shown(output.low_res_masks.detach())
            coords, labels = self.targets.click(t, logits)
            if points is not None:
                coords = torch.cat([points["point_coords"], coords], dim=1)
                labels = torch.cat([points["point_labels"], labels], dim=1)
            points = {"point_coords": coords, "point_labels": labels}
            previous = output.low_res_masks.clamp(-LOGIT_BOUND, LOGIT_BOUND)
            multimask = model._use_multimask(initial, points)
            output = model.decode(embedding, features.high_res, points, previous, multimask)
            steps.append(self._step_output(output))
        return output, steps

    def _first_prompt(self, t: int) -> tuple[dict[str, Tensor] | None, Tensor | None]:
        if self.kind == "mask":
            return None, self.targets.full[t][:, None].float()
        coords, labels = self.targets.first_click(t)
        if self.kind == "box":
            truth = self.targets.full[t][:, None]
            corners, kinds = sample_box_points(truth, self.options.box_noise, self.options.box_noise_bound)
            # an absent object has no box: a click off it instead, the second place left empty
            absent = ~truth.flatten(1).any(dim=1)[:, None]
            empty = torch.cat([labels, torch.full_like(labels, -1)], dim=1)
            coords = torch.where(absent[..., None], coords.expand(-1, 2, -1), corners)
            labels = torch.where(absent, empty, kinds)
        return {"point_coords": coords, "point_labels": labels}, None

    def _shown(self, logits: Tensor) -> Tensor:
        """Low-resolution logits at the resolution of the losses."""
        if self.options.loss_stride == 4:
            return logits
        size = self.model.image_size
        return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)

    def _step_output(self, output: FrameOutput) -> StepOutput:
        logits = output.raw_multimasks
        assert logits is not None, "the model must be in training mode"
        return StepOutput(self._shown(logits), output.ious, output.object_score_logits)

    def _remember(self, t: int, features: FrameFeatures, output: FrameOutput, prompted: bool) -> None:
        masks = output.high_res_masks(self.model.image_size)
        if self.options.mistakes and not prompted:
            masks = with_mistakes(masks, self.options.mistakes)
        score = output.object_score_logits
        memory = self.model.encode_memory(features.embedding, masks, score, prompted)
        self.bank.add(MemoryEntry(t, prompted, memory, output.obj_ptr, score))


def encode_pictures(model: SAM2Base, images: Tensor) -> FrameFeatures:
    """Features of uint8 pictures [..., 3, S, S], all in one batch."""
    mean = images.new_tensor((123.675, 116.28, 103.53), dtype=torch.float32)[:, None, None]
    std = images.new_tensor((58.395, 57.12, 57.375), dtype=torch.float32)[:, None, None]
    return model.encode_image((images.flatten(0, -4).float() - mean) / std)


def encode_clips(model: SAM2Base, images: Tensor, options: PvsOptions) -> FrameFeatures:
    """Features of clips uint8 [T, B, 3, S, S], [T * B, ...] by frame; gradients for frames learnt from."""
    learnt = torch.tensor(learnt_frames(len(images), options))
    if learnt.all():
        return encode_pictures(model, images)
    known = encode_pictures(model, images[learnt])
    with _without_gradients():
        passed = encode_pictures(model, images[~learnt])
    order = torch.cat([learnt.nonzero()[:, 0], (~learnt).nonzero()[:, 0]]).argsort().to(images.device)
    by_frame = (-1, images.shape[1])
    maps = [
        torch.cat([a.unflatten(0, by_frame), b.unflatten(0, by_frame)])[order].flatten(0, 1)
        for a, b in zip(known.maps, passed.maps, strict=True)
    ]
    encodings = [torch.cat(pair) for pair in zip(known.encodings, passed.encodings, strict=True)]
    return FrameFeatures(maps, encodings)


def interact(
    model: SAM2Base, batch: Batch, options: PvsOptions, features: FrameFeatures | None = None
) -> list[Outcome]:
    """Plays the simulated user over a batch; randomness comes from torch's global generators.

    features: of the batch's pictures where they are known already (a frozen trunk). Returns one outcome for
    each kind of first prompt that was drawn.
    """
    size = model.image_size
    if batch.images.shape[-2:] != (size, size):
        raise ValueError(f"pictures are {tuple(batch.images.shape[-2:])} but the model's input is {size}")
    if features is None:
        features = encode_clips(model, batch.images, options)
    kinds = draw_kinds(len(batch.picture), len(batch.images), options)
    if batch.by_mask is not None:
        kinds = ["mask" if only else kind for only, kind in zip(batch.by_mask.tolist(), kinds, strict=True)]
    outcomes = []
    for kind in KINDS:
        chosen = [i for i, k in enumerate(kinds) if k == kind]
        if chosen:
            objects = torch.tensor(chosen, device=batch.picture.device)
            outcomes.append(_Interaction(model, features, batch, objects, kind, options).run())
    return outcomes


def pvs_losses(outcomes: list[Outcome], options: LossOptions) -> dict[str, Tensor]:
    """Terms and `total` of a batch, divided by its number of objects."""
    count = sum(outcome.targets.shape[1] for outcome in outcomes)
    parts = [training_losses(o.frames, o.targets, options, count) for o in outcomes]
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


@torch.no_grad()
def pvs_metrics(outcomes: list[Outcome]) -> dict[str, Tensor]:
    """What to watch: sums and counts of IoUs (chosen mask and best mask), and of right presences.

    Keys come in pairs, `NAME` and `NAME_n`: `click_iou` and `box_iou` after the first prompt of a frame,
    `best_iou` the best of the masks then offered, `last_iou` after the last correction, `track_iou` on frames
    that only memory serves, `presence_right` on all.
    """
    sums: dict[str, Tensor] = {}

    def add(name: str, values: Tensor, valid: Tensor) -> None:
        for key, part in ((name, (values * valid).sum()), (f"{name}_n", valid.sum())):
            sums[key] = sums[key] + part if key in sums else part

    for outcome in outcomes:
        for t, steps in enumerate(outcome.frames):
            truth = outcome.targets[t][:, None]
            present = (truth > 0.5).flatten(1).any(dim=1).float()
            for number, step in enumerate(steps):
                last = number == len(steps) - 1
                if number and not last:
                    continue
                ious = mask_iou(step.logits, truth.expand_as(step.logits))
                chosen = ious.gather(1, step.iou.argmax(dim=1, keepdim=True))[:, 0]
                if number:
                    add("last_iou", chosen, present)
                    continue
                right = (step.object_score[:, 0] > 0) == (present > 0)
                add("presence_right", right.float(), torch.ones_like(present))
                if t not in outcome.plan.initial:
                    add("track_iou", chosen, present)
                elif outcome.kind != "mask":
                    add(f"{outcome.kind}_iou", chosen, present)
                    add("best_iou", ious.amax(dim=1), present)
    return sums
