"""Prompts and passes of one session as functions of its document: what goes in decides what comes out.

The tracking state is made anew for each of them from prompts and recorded results: undo, a restart and
a replay meet the same numbers. Only frames and their features are kept in between.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2.close_tracker import CloseResult, CloseTracker, follows_closely
from sam2.masks import rle
from sam2.memory import MemoryEntry
from sam2.memory.named import make_policy
from sam2.memory.records import pack, unpack
from sam2.memory.tree import PathwayTree, Step
from sam2.modeling.outputs import enlarge
from sam2.preprocess import LazyFrames
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.studio.document import Document, Prompt, Result, Track
from sam2.studio.eventlog import EventLog
from sam2.studio.models import Model
from sam2.tracking import FeatureBudget, FeatureCache, ObjectMask, ObjectTrack, VideoSession
from sam2.tracking.passes import Direction, look_next, mask_iou, planned, track_run
from sam2.tracking.prompting import checked_mask, checked_points
from sam2.tracking.track import PendingMask
from sam2.video import VideoReader

FEATURES = FeatureBudget(device_frames=4, host_bytes=32 * 2**20)
PAINTED_LOGIT = 10.0
"""Logit of a painted mask that points then correct."""
MEMORIES = 64
"""Memories of prompted frames kept at hand."""
FAR = 120
"""Frames around the start of a pass whose memories are loaded for policies that look back without limit."""


@dataclass(frozen=True)
class Offer:
    """One of the masks offered for an ambiguous prompt; `counts` as in `Result`."""

    counts: str
    iou: float


@dataclass(frozen=True)
class Answer:
    """What the model answered to a prompt."""

    result: Result
    offers: list[Offer]


@dataclass(frozen=True)
class Recalled:
    """What was recorded of one object on one frame."""

    mask: ObjectMask
    pointer: Tensor | None
    """None of frames tracked from near, whose memories are not kept."""
    memory: Tensor | None
    """Spatial memory, of tracked frames."""
    judgement: dict[str, bool]
    """What a policy thought of the frame: fields of `MemoryEntry`."""


class Bench:
    """A medium under a model: frames as model inputs, and their features.

    Args:
        reader: of the medium; closed with the bench.
        log: where results are recorded.
        policy: which memories a frame reads, by name (`sam2.memory.named`).
    """

    def __init__(self, model: Model, reader: VideoReader, log: EventLog, policy: str = "fifo") -> None:
        self.model = model
        self.engine = model.predictor.engine
        self._log = log
        self._size = (reader.height, reader.width)
        sam = model.predictor
        self._reader = reader
        self._pictures = SAM2ImagePredictor(sam, dtype=sam.dtype)
        self._pictured: int | None = None
        self._frames = LazyFrames(reader, sam.image_size, sam.device, cache_size=2, close_reader=True)
        self._features = FeatureCache(FEATURES)
        self._memories: OrderedDict[tuple[int, int, int], MemoryEntry] = OrderedDict()
        self._policy = make_policy(policy, sam.memory_policy)
        looks_far = self._policy.new_follower() is not None
        self._reach = max(self._policy.horizon(), FAR if looks_far else 0)

    def close(self) -> None:
        """Lets frames and features go."""
        self._pictures.reset_predictor()
        self._features.clear()
        self._memories.clear()
        self._frames.close()

    def is_embedded(self, frame: int) -> bool:
        """Whether a prompt on this frame needs no encoding."""
        return frame in self._features and (not self.model.predictor.zoom or self._pictured == frame)

    @torch.inference_mode()
    def embed(self, frame: int) -> None:
        """Encodes a frame."""
        self.engine.features(self._state(), frame)
        if self.model.predictor.zoom:
            self._look_at(frame)

    def _look_at(self, frame: int) -> None:
        """Has the frame ready for prompts from near."""
        if self._pictured != frame:
            self._pictured = None
            self._pictures.set_image(self._reader[frame])
            self._pictured = frame

    def _state(self) -> VideoSession:
        device = self.model.predictor.device
        return VideoSession(
            self._frames, *self._size, device, device, features=self._features, policy=self._policy
        )

    # ------------------------------------------------------------------ prompts

    @torch.inference_mode()
    def prompt(self, track: Track, frame: int, prompt: Prompt, keep: bool = True) -> Answer:
        """The mask for a prompt of one object.

        Args:
            track: the object as it is.
            keep: record what the model needs to go on.

        Raises:
            ValueError: a prompt that does not fit the medium.
        """
        if self.model.predictor.zoom and (prompt.points or prompt.box is not None):
            return self._prompt_from_near(track, frame, prompt, keep)
        state, sam = self._state(), self.model.predictor
        height, width = self._size
        points = painted = logits = selection = None
        prior = track.prior(frame, prompt)
        if prior is not None:
            logits = self._recall(prior).mask.logits.to(sam.device).clamp(-32.0, 32.0)
        if prompt.mask is not None:
            given = torch.from_numpy(rle.decode({"size": [height, width], "counts": prompt.mask}))
            painted = checked_mask(given, height, width, sam.image_size, sam.device)
        if prompt.points or prompt.box is not None:
            asked = np.array(prompt.points, dtype=np.float64).reshape(-1, 3)
            coords, labels = checked_points(
                asked[:, :2] if len(asked) else None,
                asked[:, 2] if len(asked) else None,
                prompt.box,
                True,
                (width, height),
                sam.image_size,
            )
            points = {
                "point_coords": coords[None].to(sam.device),
                "point_labels": labels[None].to(sam.device),
            }
            if painted is not None:
                side = sam.sam_prompt_encoder.mask_input_size
                shrunk = F.interpolate(
                    painted, size=side, mode="bilinear", align_corners=False, antialias=True
                )
                logits, painted = (shrunk * 2 - 1) * PAINTED_LOGIT, None
        # painted masks under a model that zooms come here, and what they say needs no memory
        is_first = sam.zoom or frame not in track.tracked
        if not is_first:
            others = track.without_prompt(frame)
            live = self._load(state, 1, others, (frame,))
            self._commit(state, {1: others})
            backwards = bool(track.tracked[frame].reverse)
            selection = [self.engine.policy(state).select(live.bank, frame, backwards, state.length)]
        features = self.engine.features(state, frame)
        if painted is not None:
            logits = None
        out = sam.step(features, selection, points, painted, logits, is_first)
        offers = []
        if out.low_res_multimasks.shape[1] > 1:
            offers = [
                Offer(self._counts(out.low_res_multimasks[:, i : i + 1]), round(float(out.ious[0, i]), 4))
                for i in range(out.low_res_multimasks.shape[1])
            ]
            if prompt.choice is not None and prompt.choice < len(offers):
                out = sam.choose(out, torch.tensor([prompt.choice], device=sam.device))
        mask = self.engine.shown(out, state.storage_device)[0]
        record = pack({}, [mask.logits, mask.predicted_iou, mask.object_score_logits, out.obj_ptr])
        return Answer(self._result(mask, record if keep else b"", None, 0.0), offers)

    def _prompt_from_near(self, track: Track, frame: int, prompt: Prompt, keep: bool) -> Answer:
        """`prompt` for points and boxes where the model zooms: the mask comes from crops of the frame, and is
        then adopted for the memory as if it had been painted."""
        state, sam = self._state(), self.model.predictor
        height, width = self._size
        asked = np.array(prompt.points, dtype=np.float64).reshape(-1, 3)
        coords = asked[:, :2] if len(asked) else None
        labels = asked[:, 2] if len(asked) else None
        checked_points(coords, labels, prompt.box, True, (width, height), sam.image_size)
        self._look_at(frame)
        prior = track.prior(frame, prompt)
        before = prompt.mask if prompt.mask is not None else None if prior is None else prior.counts
        logits = None
        if before is not None:
            logits = self._pictures.mask_to_input(rle.decode({"size": [height, width], "counts": before}))
        several = prompt.box is None and logits is None and len(asked) == 1
        box = None if prompt.box is None else np.array(prompt.box)
        masks, ious, _ = self._pictures.predict(coords, labels, box, logits, multimask_output=several)
        found = [str(rle.encode_compressed(mask > 0)["counts"]) for mask in masks]
        offers = [Offer(counts, round(float(iou), 4)) for counts, iou in zip(found, ious)] if several else []
        best = int(ious.argmax())
        if prompt.choice is not None and prompt.choice < len(found):
            best = prompt.choice
        painted = checked_mask(torch.from_numpy(masks[best] > 0), height, width, sam.image_size, sam.device)
        out = sam.step(self.engine.features(state, frame), None, None, painted, None, True)
        (mask,) = self.engine.shown(out, state.storage_device)
        record = pack({}, [mask.logits, mask.predicted_iou, mask.object_score_logits, out.obj_ptr])
        result = self._result(mask, record if keep else b"", None, 0.0)
        presence = float(self._pictures.presence[0])
        return Answer(
            replace(result, counts=found[best], iou=round(float(ious[best]), 4), presence=round(presence, 4)),
            offers,
        )

    def _counts(self, logits: Tensor) -> str:
        return _counts(enlarge(logits, self._size)[0, 0] > 0)

    def _result(
        self,
        mask: ObjectMask,
        record: bytes,
        reverse: bool | None,
        apart: float,
        counts: str | None = None,
    ) -> Result:
        """counts: of the mask at the size of the medium, where its low-resolution logits do not say all."""
        presence = float(mask.object_score_logits.sigmoid())
        place = self._log.put_record(record) if record else (0, 0, 0)
        iou = float(mask.predicted_iou)
        return Result(
            self._counts(mask.logits) if counts is None else counts,
            round(iou, 4) if math.isfinite(iou) else 0.0,
            round(presence, 4),
            place,
            reverse,
            round(apart, 4),
        )

    # ------------------------------------------------------------------ what was found before

    def _recall(self, result: Result) -> Recalled:
        values, tensors = unpack(self._log.get_record(result.record))
        device = self.model.predictor.device
        logits, iou, presence, pointer, *memory = (None if t is None else t.to(device) for t in tensors)
        assert logits is not None
        assert iou is not None
        assert presence is not None
        return Recalled(ObjectMask(logits, iou, presence), pointer, memory[0] if memory else None, values)

    def _load(self, state: VideoSession, obj: int, track: Track, around: tuple[int, ...]) -> ObjectTrack:
        """Puts an object into a tracking state: all prompted frames, and tracked ones near some frames."""
        live = state.track_for(obj)
        state.tracks[obj] = live
        for frame, result in track.asked.items():
            known = self._memories.get(result.record)
            found = self._recall(result)
            if known is None:
                assert found.pointer is not None
                live.pending[frame] = PendingMask(found.mask, found.pointer, is_conditioning=True)
            else:
                self._memories.move_to_end(result.record)
                live.bank.add(known)
                live.found[frame] = found.mask
        for frame, result in track.tracked.items():
            near = any(abs(frame - centre) <= self._reach for centre in around)
            if frame in track.asked or not near:
                continue
            found = self._recall(result)
            if found.pointer is None:
                continue
            presence = found.mask.object_score_logits
            live.bank.add(MemoryEntry(frame, False, found.memory, found.pointer, presence, **found.judgement))
            live.found[frame] = found.mask
            live.tracked[frame] = bool(result.reverse)
        return live

    def _commit(self, state: VideoSession, tracks: dict[int, Track]) -> None:
        """Lets prompted frames enter memory, and keeps what that gave."""
        self.engine.commit(state)
        for obj, track in tracks.items():
            for frame, result in track.asked.items():
                self._memories[result.record] = state.tracks[obj].bank.conditioning[frame]
        while len(self._memories) > MEMORIES:
            self._memories.popitem(last=False)

    # ------------------------------------------------------------------ passes

    def track(
        self,
        document: Document,
        start: int,
        direction: Direction,
        limit: int | None,
        stop: Callable[[], bool],
    ) -> Iterator[tuple[int, bool, dict[int, Result]]]:
        """Follows all prompted objects: (frame, backwards, results by object), a frame a step.

        A policy that changes its mind gives frames again, before the frame that made it do so.

        Args:
            start: the first frame.
            limit: frames after the first, in each direction; None for all.
            stop: asked before each frame.
        """
        asked = {obj: track for obj, track in document.tracks.items() if track.prompts}
        if follows_closely(self.model.predictor, len(asked), self._policy):
            yield from self._track_closely(asked, start, direction, limit, stop)
            return
        with torch.inference_mode():
            state = self._state()
            for obj, track in asked.items():
                self._load(state, obj, track, (start,))
            self._commit(state, asked)
        news = {obj: _News(state.tracks[obj], track) for obj, track in asked.items()}
        for frames, reverse in planned(len(self._frames), start, limit, direction):
            steps = track_run(self.engine, state, frames, reverse)
            for frame in frames:
                if stop():
                    return
                with torch.inference_mode():
                    next(steps)
                    results: dict[int, dict[int, Result]] = {frame: {}}
                    for obj, track in asked.items():
                        for at, mask, entry in news[obj].of(frame):
                            result = self._tracked(track.tracked.get(at), mask, entry, reverse)
                            results.setdefault(at, {})[obj] = result
                    state.forget_tracked((start, frame), self._reach)
                for at in sorted(results, key=lambda at: at == frame):
                    yield at, reverse, results[at]

    def _track_closely(
        self,
        asked: dict[int, Track],
        start: int,
        direction: Direction,
        limit: int | None,
        stop: Callable[[], bool],
    ) -> Iterator[tuple[int, bool, dict[int, Result]]]:
        """`track` with each object in windows of its own: all it knows are the masks of prompted frames, and
        the one that a pass gave on the first."""
        with CloseTracker(self.model.predictor, self._reader, policy=self._policy) as tracker:
            for obj, track in asked.items():
                known = {**{t: r for t, r in track.tracked.items() if t == start}, **track.asked}
                for frame, result in sorted(known.items(), key=lambda item: -abs(item[0] - start)):
                    mask = rle.decode({"size": list(self._size), "counts": result.counts})
                    if frame in track.asked or mask.any():
                        tracker.prompt(frame, obj, mask=mask)
            for frames, reverse in planned(len(self._frames), start, limit, direction):
                if not frames:
                    continue
                steps = tracker.propagate(start, abs(frames[-1] - start), reverse)
                with closing(steps):  # type: ignore[type-var]
                    while not stop():
                        found = next(steps, None)
                        if found is None:
                            break
                        if found.frame_idx in frames:
                            drawn = [
                                obj
                                for obj in tracker.reached(found.frame_idx)
                                if found.frame_idx not in tracker.prompted(obj)
                            ]
                            yield found.frame_idx, reverse, self._drawn(found, drawn, asked, reverse)
                        tracker.forget_tracked((start, found.frame_idx))
                    else:
                        return

    @torch.inference_mode()
    def _drawn(
        self, found: CloseResult, drawn: list[int], asked: dict[int, Track], reverse: bool
    ) -> dict[int, Result]:
        """What a frame followed from near brought, by object."""
        results = {}
        side = self.model.predictor.image_size // 4
        for obj, logits, presence, iou in zip(
            found.obj_ids, found.logits, found.object_score_logits, found.predicted_iou
        ):
            if obj not in drawn:
                continue
            small = F.interpolate(logits[None], (side, side), mode="bilinear", antialias=True)
            mask = ObjectMask(small, iou[None], presence[None, None])
            former = asked[obj].tracked.get(found.frame_idx)
            apart = 0.0
            if former is not None:
                apart = 1 - mask_iou(self._recall(former).mask.logits, small)
            record = pack({}, [small, mask.predicted_iou, mask.object_score_logits, None, None])
            results[obj] = self._result(mask, record, reverse, apart, _counts(logits[0] > 0))
        return results

    def _tracked(self, former: Result | None, mask: ObjectMask, entry: MemoryEntry, reverse: bool) -> Result:
        apart = 0.0
        if former is not None:
            apart = 1 - mask_iou(self._recall(former).mask.logits.to(mask.logits.device), mask.logits)
        tensors = [mask.logits, mask.predicted_iou, mask.object_score_logits, entry.obj_ptr, entry.features]
        judgement = {"trusted": entry.trusted, "anchor": entry.anchor}
        return self._result(mask, pack(judgement, tensors), reverse, apart)


def _counts(mask: Tensor) -> str:
    """Compressed RLE counts of a mask bool [H, W]."""
    return str(rle.encode_compressed(mask.cpu().numpy())["counts"])


class _News:
    """What a frame brought for one object: its mask there, and earlier ones that a tree changed."""

    def __init__(self, live: ObjectTrack, track: Track) -> None:
        self._live = live
        self._asked = track.asked
        self._told: dict[int, Step] = {}

    def of(self, frame: int) -> Iterator[tuple[int, ObjectMask, MemoryEntry]]:
        """(frame, mask, memory)"""
        if frame in self._asked:
            return
        tree = self._live.follower
        if isinstance(tree, PathwayTree):
            told, self._told = self._told, dict(tree.best.steps)
            for at, step in self._told.items():
                if step.mask is not None and told.get(at) is not step:
                    yield at, step.mask, step.entry
            return
        entry = self._live.bank.get(frame)
        assert entry is not None
        yield frame, self._live.found[frame], entry


def doubts(document: Document, log: EventLog) -> list[tuple[int, int, float]]:
    """Frames that a person should look at: (frame, object, score), worst first."""
    state = VideoSession([], 1, 1, torch.device("cpu"), torch.device("cpu"))
    for obj, track in document.tracks.items():
        live = state.tracks[obj] = state.track_for(obj)
        for frame in sorted(track.frames()):
            shown = track.shown(frame)
            assert shown is not None
            _, tensors = unpack(log.get_record(shown.record))
            live.found[frame] = ObjectMask(*tensors[:3])  # type: ignore[arg-type]
            if frame in track.prompts:
                live.points[frame] = {}
    return [(one.frame_idx, one.obj_id, one.score) for one in look_next(state)]
