"""The model's steps in a few fixed shapes: compilers and CUDA graphs meet nothing new after warming up.

Objects come in batches of 1, 2, 4, ... (the rest of a batch repeats its first object), memories in places for
1, 2, 4, ... conditioning frames beside the recent ones (empty places are hidden from attention), and points
with the prompt encoder's padding in 2, 4, 8, ... tokens (the rest is hidden likewise). On a GPU, what runs
once a frame is recorded as one CUDA graph for each shape; elsewhere the same code runs plainly.

Nothing in a frame waits for the device.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.compile import run_stages
from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.pool import SlotPool
from sam2.modeling.memory_tokens import FixedMemories
from sam2.modeling.outputs import FrameFeatures, FrameOutput
from sam2.modeling.sam2_base import SAM2Base
from sam2.ops.graphs import GraphedCall, GraphPool, Recorder
from sam2.ops.precision import precision, resolved
from sam2.ops.transfer import upload
from sam2.tracking.steps import MEMORY_DTYPE, Steps

POINTER_PLACES = 16
"""Places for pointers come in multiples of this: a bias of keys whose number 16 divides is taken by attention
kernels as it is, not copied for every query."""


def bucket(count: int) -> int:
    """The next power of two."""
    return 1 << max(count - 1, 0).bit_length()


class StaticSteps(Steps):
    """`Steps` in fixed shapes; results differ from theirs by the order of sums alone.

    Args:
        model: the weights, in evaluation mode, with a memory; its modules may be compiled
            (`sam2.compile.compile_model`).
        dtype: as of `Steps`.
        slots: memories that are held side by side to begin with; more are made when a frame reads more.
        recorder: what records; None for CUDA graphs on a GPU, and plain calls elsewhere.

    Raises:
        ValueError: another dtype; a model without memory.
    """

    def __init__(
        self,
        model: SAM2Base,
        dtype: torch.dtype | None = None,
        slots: int = 64,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(model, dtype)
        if model.num_maskmem == 0:
            raise ValueError("fixed shapes are for tracking with memories: this model has num_maskmem=0")
        device, side = model.device, model.image_size // model.backbone_stride
        self._recent = model.num_maskmem - 1
        self._pointers_read = model.max_obj_ptrs_in_encoder if model.use_obj_ptrs_in_encoder else 0
        self._spatial = SlotPool(_cells, (side * side, model.mem_dim), slots, device, MEMORY_DTYPE)
        self._pointers = SlotPool(_pointer, (model.hidden_dim,), 2 * slots, device, torch.float32)
        self._lock = threading.RLock()
        self._encodings: dict[torch.dtype, list[Tensor]] = {}
        self._met: set[Hashable] = set()
        if recorder is None and device.type == "cuda":
            recorder = GraphPool(device)
        self._encode_graph = GraphedCall(self._encode, recorder)
        self._track_graph = GraphedCall(self._track, recorder)
        self._remember_graph = GraphedCall(partial(self._remember, is_mask_from_pts=False), recorder)

    @property
    def recorded(self) -> int:
        """CUDA graphs recorded so far; 0 where there are none."""
        return sum(map(len, (self._encode_graph, self._track_graph, self._remember_graph)))

    def _precision(self) -> AbstractContextManager:
        # explicit, whoever asked for it: what a caller's autocast keeps would not outlive it
        return precision(self.model.device, resolved(self.model.device, self.dtype))

    @property
    def _variant(self) -> tuple[torch.dtype, bool]:
        """What graphs depend on beside shapes."""
        return resolved(self.model.device, self.dtype), self.model.memory_pooling

    def batch_key(self, selection: MemorySelection) -> Hashable:
        return selection.is_empty

    # ------------------------------------------------------------------ steps

    @torch.inference_mode()
    def encode_image(self, image: Tensor) -> FrameFeatures:
        with self._lock:
            dtype = self._variant[0]
            if dtype not in self._encodings:
                with eagerly():
                    self._encodings[dtype] = super().encode_image(image).encodings
            maps = self._encode_graph(_made_here(image)[None], variant=self._variant)
            return FrameFeatures(list(maps), self._encodings[dtype])

    @torch.inference_mode()
    def track(self, features: FrameFeatures, selections: Sequence[MemorySelection]) -> FrameOutput:
        count = len(selections)
        padded = [*selections, *[selections[0]] * (bucket(count) - count)]
        with self._lock:
            if selections[0].is_empty:
                parts = _parts(super().track(features, padded))
            else:
                memories = self._memories(padded)
                inputs = (features.encodings[-1], *memories, *map(_made_here, features.maps))
                self._meet(("track", memories.times.shape), partial(self._track, *inputs))
                parts = self._track_graph(*inputs, variant=self._variant)
        return FrameOutput(**{name: part[:count] for name, part in zip(_PARTS, parts, strict=True)})

    @torch.inference_mode()
    def prompt(
        self,
        features: FrameFeatures,
        selection: MemorySelection | None,
        point_inputs: Mapping[str, Tensor] | None = None,
        mask_input: Tensor | None = None,
        prev_logits: Tensor | None = None,
    ) -> FrameOutput:
        features = FrameFeatures([_made_here(level) for level in features.maps], features.encodings)
        if point_inputs is None:
            assert mask_input is not None
            return super().prompt(features, selection, None, _made_here(mask_input), prev_logits)
        with self._lock:
            memories = None
            if selection is not None and not selection.is_empty:
                memories = self._memories([selection])
            points = _filled_points(point_inputs)
            multimask = self.model._use_multimask(selection is None, point_inputs)
            before = None if prev_logits is None else _made_here(prev_logits)

            def run() -> FrameOutput:
                with self._precision():
                    embedding = self.model.condition(features, memories).contiguous()
                    return self.model.decode(embedding, features.high_res, points, before, multimask)

            self._meet(("prompt", None if memories is None else memories.times.shape), run)
            return run().in_float32()

    @torch.inference_mode()
    def encode_memory(
        self, embedding: Tensor, logits: Tensor, object_score_logits: Tensor, is_mask_from_pts: bool
    ) -> Tensor:
        count = len(logits)
        more = bucket(count) - count
        inputs = (
            _made_here(embedding),
            F.pad(logits, (0, 0, 0, 0, 0, 0, 0, more)),
            F.pad(object_score_logits, (0, 0, 0, more)),
        )
        with self._lock:
            self._meet(("remember",), partial(self._remember, *inputs, is_mask_from_pts=is_mask_from_pts))
            if is_mask_from_pts:
                return self._remember(*inputs, is_mask_from_pts=True)[0][:count]
            return self._remember_graph(*inputs, variant=self._variant)[0][:count]

    def _meet(self, shape: Hashable, run: Callable[[], object]) -> None:
        """Has tables for a new shape made before a compiler or a graph sees them."""
        if (shape, self._variant) not in self._met:
            with eagerly():
                run()
            self._met.add((shape, self._variant))

    # ------------------------------------------------------------------ functions of tensors alone

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        with self._precision():
            return tuple(self.model.encode_image(images).maps)

    def _track(
        self, encoding: Tensor, spatial: Tensor, pointers: Tensor, times: Tensor, *maps: Tensor
    ) -> tuple[Tensor, ...]:
        features = FrameFeatures(list(maps), [encoding])
        with self._precision():
            embedding = self.model.condition(features, FixedMemories(spatial, pointers, times))
            multimask = self.model._use_multimask(False, None)
            out = self.model.decode(embedding, features.high_res, multimask_output=multimask).in_float32()
        return _parts(out)

    def _remember(
        self, embedding: Tensor, logits: Tensor, object_score_logits: Tensor, is_mask_from_pts: bool
    ) -> tuple[Tensor]:
        return (super().encode_memory(embedding, logits, object_score_logits, is_mask_from_pts),)

    # ------------------------------------------------------------------ memories

    def _memories(self, selections: Sequence[MemorySelection]) -> FixedMemories:
        """What objects read, in the least places that hold all of it."""
        spare = max(
            max(len(s.spatial) - self._recent, len(s.pointers) - self._pointers_read + 1) for s in selections
        )
        places = self._recent + bucket(spare)
        pointer_places = 0
        if self._pointers_read:
            pointer_places = -(-(self._pointers_read - 1 + bucket(spare)) // POINTER_PLACES) * POINTER_PLACES
        spatial = [_ends_apart(s.spatial, places) for s in selections]
        pointers = [_ends_apart(s.pointers, pointer_places) for s in selections]
        times = [
            [math.nan if part is None else float(part[0]) for part in near]
            + [math.nan if part is None else part[0] / s.pointer_span for part in far]
            for s, near, far in zip(selections, spatial, pointers, strict=True)
        ]
        return FixedMemories(
            self._spatial.read([[part and part[1] for part in row] for row in spatial]),
            self._pointers.read([[part and part[1] for part in row] for row in pointers]),
            upload(torch.tensor(times, dtype=torch.float32), self.model.device),
        )

    # ------------------------------------------------------------------ warming up

    def warm_up(
        self,
        objects: Sequence[int] = (1,),
        conditioning: Sequence[int] = (1,),
        points: Sequence[int] = (1, 2),
        progress: bool = True,
    ) -> None:
        """Compiles and records for the shapes to come; others cost their time when they are first met.

        Args:
            objects: numbers of objects followed at a time.
            conditioning: numbers of prompted frames of one object.
            points: numbers of points on one frame, two for each box.
            progress: tell on standard error what is under way.

        Raises:
            CompileError: the model's modules are compiled, and cannot be.
        """
        model = self.model
        image = torch.zeros(3, model.image_size, model.image_size, device=model.device)
        side = model.image_size // model.backbone_stride
        entry = MemoryEntry(
            0,
            True,
            torch.zeros(1, model.mem_dim, side, side, device=model.device, dtype=MEMORY_DTYPE),
            torch.zeros(1, model.hidden_dim, device=model.device),
            torch.zeros(1, 1, device=model.device),
        )
        batches, spares = sorted({bucket(n) for n in objects}), sorted({bucket(n) for n in conditioning})
        selections = [MemorySelection(((0, entry),) * (self._recent + spare)) for spare in spares]

        @functools.cache
        def frame() -> FrameFeatures:
            return self.encode_image(image)

        def follow(batch: int, selection: MemorySelection) -> None:
            features = frame()
            out = self.track(features, [selection] * batch)
            self.encode_memory(features.embedding, out.low_res_masks, out.object_score_logits, False)

        def ask(count: int) -> None:
            features = frame()
            given = {
                "point_coords": torch.zeros(1, count, 2, device=model.device),
                "point_labels": torch.ones(1, count, dtype=torch.int32, device=model.device),
            }
            logits = torch.zeros(1, 1, 4 * side, 4 * side, device=model.device)
            for before in (None, logits):
                for selection in (None, *selections):
                    out = self.prompt(features, selection, given, prev_logits=before)
            self.encode_memory(features.embedding, out.low_res_masks, out.object_score_logits, True)

        def draw() -> None:
            self.prompt(frame(), None, mask_input=torch.zeros(1, 1, *image.shape[1:], device=model.device))

        stages: list[tuple[str, Callable[[], object]]] = [("image encoder", frame)]
        stages += [
            (f"{batch} objects, {spare} prompted frames", partial(follow, batch, selection))
            for batch in batches
            for spare, selection in zip(spares, selections, strict=True)
        ]
        stages += [(f"prompts of {count} points", partial(ask, count)) for count in sorted(_least(points))]
        run_stages([*stages, ("mask prompts", draw)], progress)


_PARTS = ("low_res_multimasks", "ious", "low_res_masks", "obj_ptr", "object_score_logits", "tokens")


def _parts(out: FrameOutput) -> tuple[Tensor, ...]:
    return tuple(getattr(out, name) for name in _PARTS)


def _cells(entry: MemoryEntry) -> Tensor:
    assert entry.features is not None
    return entry.features.flatten(2).transpose(1, 2)


def _pointer(entry: MemoryEntry) -> Tensor:
    return entry.obj_ptr


def _ends_apart(
    parts: Sequence[tuple[int, MemoryEntry]], places: int
) -> list[tuple[int, MemoryEntry] | None]:
    """The first in the first place, the others in the last ones."""
    return [*parts[:1], *[None] * (places - len(parts)), *parts[1:]]


def _filled_points(point_inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Points of one object, with hidden ones up to a fixed number."""
    coords, labels = point_inputs["point_coords"], point_inputs["point_labels"]
    count = labels.shape[1]
    more = bucket(count + 1) - 1 - count
    return {
        "point_coords": _made_here(F.pad(coords, (0, 0, 0, more))),
        "point_labels": _made_here(F.pad(labels, (0, more), value=-1)),
        "point_mask": F.pad(torch.ones_like(labels, dtype=torch.bool), (0, more)),
    }


def _made_here(x: Tensor) -> Tensor:
    """`x`, made in inference mode: compiled code tells such tensors from others."""
    return x if x.is_inference() else x.clone()


def _least(points: Sequence[int]) -> set[int]:
    """One number of points for each shape; one point by itself, as it may ask for three masks."""
    return {1 if count == 1 else max(2, bucket(count + 1) // 2) for count in points}


def eagerly() -> AbstractContextManager:
    """Compiled modules run as they are written."""
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")
