"""Prompting and tracking objects frame by frame: the loop around the model's pure steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.memory.judges import Judge, decide
from sam2.memory.policies import FifoPolicy
from sam2.memory.tree import TreePolicy
from sam2.modeling.outputs import NO_OBJ_SCORE, FrameFeatures, FrameOutput
from sam2.modeling.sam2_base import SAM2Base
from sam2.tracking.branching import track_pathways
from sam2.tracking.prompting import ObjectPrompt, checked_mask, checked_points
from sam2.tracking.results import FrameResult, keep_strongest
from sam2.tracking.session import VideoSession
from sam2.tracking.steps import MEMORY_DTYPE, Steps
from sam2.tracking.track import ObjectMask, ObjectTrack, PendingMask
from sam2.tracking.undo import Before
from sam2.utils.misc import concat_points, fill_holes_in_mask_scores

__all__ = ["FrameResult", "TrackingEngine", "keep_strongest"]

PREVIOUS_LOGIT_BOUND = 32.0
"""Previous logits are clamped to this magnitude before they are corrected."""
MOVED_TOGETHER = 16
"""Frames whose memories leave a device other than the CPU at a time."""


class TrackingEngine:
    """Runs the model on the objects of one session.

    Objects that `steps` may run together run as one batch; each reads only its own memories. All work is done
    in inference mode.

    Args:
        model: the weights, in evaluation mode.
        fill_hole_area: fill holes of at most this many pixels of the low-resolution mask; 0 for none.
        non_overlap_masks: a pixel belongs to one object at most in results.
        clear_non_cond_mem_around_input: forget tracked memories near a newly prompted frame.
        max_batch: most objects in one batch.
        steps: how the model runs: in which precision, with shapes that vary or that are fixed; None for
            `Steps(model)`.
    """

    def __init__(
        self,
        model: SAM2Base,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        max_batch: int = 16,
        steps: Steps | None = None,
    ) -> None:
        self.model = model
        self.steps = steps or Steps(model)
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.max_batch = max_batch

    def policy(self, session: VideoSession) -> FifoPolicy:
        """The session's own choice of memories, or the model's."""
        return session.policy or self.model.memory_policy

    def features(self, session: VideoSession, frame_idx: int) -> FrameFeatures:
        """Features of a frame, batch 1, encoded at most once while they are held."""

        def encode() -> FrameFeatures:
            image = session.images[frame_idx].to(session.device, torch.float32)
            return self.steps.encode_image(image)

        return session.features.get(frame_idx, encode)

    # ------------------------------------------------------------------ prompts

    @torch.inference_mode()
    def ask(
        self,
        session: VideoSession,
        frame_idx: int,
        prompt: ObjectPrompt,
        *,
        correct_as_conditioning: bool = True,
        normalized: bool = False,
    ) -> None:
        """Prompts an object, a new one where its id is new; the result waits for propagation.

        Args:
            correct_as_conditioning: a correction of a tracked frame conditions others, and stands when the
                frame is tracked again.
            normalized: coordinates are shares of the frame's size, not pixels.

        Raises:
            ValueError: no such frame, or a prompt that does not fit it; nothing has changed then.
        """
        with session.lock:
            session.check_frame(frame_idx)
            self.features(session, frame_idx)  # a stream may no longer have the frame
            height, width = session.video_height, session.video_width
            track = session.track_for(prompt.obj_id)
            before = Before.of(track, frame_idx, prompt.obj_id not in session.tracks)
            if prompt.mask is not None:
                track.masks_given[frame_idx] = checked_mask(
                    prompt.mask, height, width, self.model.image_size, session.device
                )
                track.points.pop(frame_idx, None)
            else:
                coords, kinds = checked_points(
                    prompt.points,
                    prompt.labels,
                    prompt.box,
                    prompt.clear_old_points,
                    (1, 1) if normalized else (width, height),
                    self.model.image_size,
                )
                track.points[frame_idx] = concat_points(
                    None if prompt.clear_old_points else track.points.get(frame_idx),
                    coords[None].to(session.device),
                    kinds[None].to(session.device),
                )
                track.masks_given.pop(frame_idx, None)
            try:
                self.prompt(session, track, frame_idx, correct_as_conditioning=correct_as_conditioning)
            except BaseException:
                before.restore()
                raise
            session.undo_log.append(before)
            session.tracks[prompt.obj_id] = track

    def prompt(
        self,
        session: VideoSession,
        track: ObjectTrack,
        frame_idx: int,
        *,
        correct_as_conditioning: bool,
    ) -> None:
        """Segments an object on the frame whose prompt was just stored; the result waits in `pending`."""
        is_init = frame_idx not in track.tracked
        reverse = track.tracked.get(frame_idx, False)
        points = track.points.get(frame_idx)
        prev_logits = None
        if points is not None and (before := track.latest(frame_idx)) is not None:
            prev_logits = before.logits.to(session.device).clamp(-PREVIOUS_LOGIT_BOUND, PREVIOUS_LOGIT_BOUND)
        selection = None
        if not is_init:
            selection = self.policy(session).select(track.bank, frame_idx, reverse, session.length)
        out = self.steps.prompt(
            self.features(session, frame_idx),
            selection,
            points,
            track.masks_given.get(frame_idx),
            prev_logits,
        )
        track.pending[frame_idx] = PendingMask(
            self.shown(out, session.storage_device)[0],
            out.obj_ptr.to(session.storage_device),
            is_conditioning=is_init or correct_as_conditioning,
        )

    @torch.inference_mode()
    def commit(self, session: VideoSession) -> None:
        """Lets the results of prompts enter memory."""
        with session.lock:
            self._commit(session)

    def _commit(self, session: VideoSession) -> None:
        for track in session.tracks.values():
            # corrections before conditioning frames, so that a frame's last word conditions
            for frame_idx, waiting in sorted(track.pending.items(), key=lambda item: item[1].is_conditioning):
                self._remember_prompted(session, track, frame_idx, waiting)
            if track.pending:
                track.stop_following()
            track.pending.clear()

    def _remember_prompted(
        self, session: VideoSession, track: ObjectTrack, frame_idx: int, waiting: PendingMask
    ) -> None:
        features = None
        if self.model.num_maskmem > 0:
            features = self.steps.encode_memory(
                self.features(session, frame_idx).embedding,
                waiting.mask.logits.to(session.device),
                waiting.mask.object_score_logits.to(session.device),
                is_mask_from_pts=True,
            ).to(session.storage_device, MEMORY_DTYPE)
        track.bank.add(
            MemoryEntry(
                frame_idx,
                waiting.is_conditioning,
                features,
                waiting.obj_ptr,
                waiting.mask.object_score_logits,
            )
        )
        track.found[frame_idx] = waiting.mask
        if self.clear_non_cond_mem_around_input:
            self._forget_around(track, frame_idx)

    def _forget_around(self, track: ObjectTrack, frame_idx: int) -> None:
        reach = self.model.memory_temporal_stride_for_eval * self.model.num_maskmem
        for near in [t for t in track.bank.recent if t != frame_idx and abs(t - frame_idx) <= reach]:
            track.forget_frame(near)

    # ------------------------------------------------------------------ tracking

    @torch.inference_mode()
    def track_frame(self, session: VideoSession, frame_idx: int, reverse: bool) -> FrameResult:
        """Follows every object to a frame; prompted frames keep the masks that they were given."""
        with session.lock:
            self._track_frame(session, frame_idx, reverse)
            self._tidy(session, frame_idx)
            return self.result(session, frame_idx)

    def _track_frame(self, session: VideoSession, frame_idx: int, reverse: bool) -> None:
        policy = self.policy(session)
        if self.clear_non_cond_mem_around_input:
            for track in session.tracks.values():
                if frame_idx in track.bank.conditioning:
                    self._forget_around(track, frame_idx)
        tracks = [t for t in session.tracks.values() if frame_idx not in t.bank.conditioning]
        if isinstance(policy, TreePolicy):
            track_pathways(self, session, policy, tracks, frame_idx, reverse)
        else:
            self._track_greedily(session, policy, tracks, frame_idx, reverse)
        for track in session.tracks.values():
            track.tracked[frame_idx] = reverse

    def _track_greedily(
        self,
        session: VideoSession,
        policy: FifoPolicy,
        tracks: Sequence[ObjectTrack],
        frame_idx: int,
        reverse: bool,
    ) -> None:
        groups: dict[Hashable, list[tuple[ObjectTrack, MemorySelection]]] = defaultdict(list)
        for track in tracks:
            selection = policy.select(track.bank, frame_idx, reverse, session.length)
            groups[self.steps.batch_key(selection)].append((track, selection))
        for group in groups.values():
            for start in range(0, len(group), self.max_batch):
                batch = group[start : start + self.max_batch]
                judges = [self._judge(policy, track, frame_idx, reverse) for track, _ in batch]
                self._track_batch(session, frame_idx, [t for t, _ in batch], [s for _, s in batch], judges)

    def _tidy(self, session: VideoSession, frame_idx: int) -> None:
        """Puts away, or drops, what no coming frame reads."""
        policy = self.policy(session)
        for track in session.tracks.values():
            track.dropped.pop(frame_idx, None)

            def expired(frame: int, track: ObjectTrack = track) -> bool:
                return policy.expired(track.bank, frame_idx, frame)

            if session.storage.history == "all":
                # from another device in lumps: each move waits for it
                if session.storage_device.type == "cpu" or frame_idx % MOVED_TOGETHER == 0:
                    track.put_away(expired)
            else:
                track.drop(expired)
                if session.endless and policy.max_cond_frames > 0:
                    track.drop_conditioning(policy.max_cond_frames, expired)

    def _track_batch(
        self,
        session: VideoSession,
        frame_idx: int,
        tracks: Sequence[ObjectTrack],
        selections: Sequence[MemorySelection],
        judges: Sequence[Judge | None],
    ) -> None:
        features = self.features(session, frame_idx)
        out = self.steps.track(features, selections)
        offered = zip(judges, out.low_res_multimasks, out.ious, out.object_score_logits, strict=True)
        verdicts = [decide(judge, frame_idx, *offer) for judge, *offer in offered]
        if any(judges):
            choice = [verdict.choice for verdict in verdicts]
            out = self.steps.choose(out, torch.tensor(choice, device=out.ious.device))
        remembered: Sequence[bool] = [True] * len(tracks)
        if session.review is not None:
            out, remembered = session.review(tracks, out)
        memory = self.encode_tracked(session, features.embedding, out)
        shown = self.shown(out, session.storage_device)
        for i, (track, mask) in enumerate(zip(tracks, shown, strict=True)):
            track.found[frame_idx] = mask
            if not remembered[i]:
                track.bank.discard(frame_idx)  # nor what an earlier pass remembered of it
                continue
            track.bank.add(
                MemoryEntry(
                    frame_idx,
                    False,
                    None if memory is None else memory[i : i + 1].clone(),
                    out.obj_ptr[i : i + 1].to(session.storage_device, copy=True),
                    mask.object_score_logits,
                    verdicts[i].trusted,
                    verdicts[i].anchor,
                )
            )

    def encode_tracked(self, session: VideoSession, embedding: Tensor, out: FrameOutput) -> Tensor | None:
        """The spatial memories of a tracked frame's objects; None where the model has no memory."""
        if self.model.num_maskmem == 0:
            return None
        return self.steps.encode_memory(
            embedding,
            out.low_res_masks,
            out.object_score_logits,
            is_mask_from_pts=False,
        ).to(session.storage_device, MEMORY_DTYPE)

    def _judge(self, policy: FifoPolicy, track: ObjectTrack, frame_idx: int, reverse: bool) -> Judge | None:
        judge = track.following(frame_idx, reverse)
        if judge is None and (judge := policy.new_follower()) is not None:
            before = frame_idx + 1 if reverse else frame_idx - 1
            shown = track.found.get(before) if before >= 0 else None  # below 0: another video's
            cast(Judge, judge).begin(before, shown)
        track.follow(judge, frame_idx)
        return cast("Judge | None", judge)

    def shown(self, out: FrameOutput, device: torch.device) -> list[ObjectMask]:
        """The objects of a step's output as they are stored: copies, with their holes filled."""
        logits = out.low_res_masks
        if self.fill_hole_area > 0:
            logits = fill_holes_in_mask_scores(logits, self.fill_hole_area)
        parts = (logits, out.ious.amax(dim=-1), out.object_score_logits)
        rows = zip(*(part.split(1) for part in parts), strict=True)
        return [ObjectMask(*(part.to(device, copy=True) for part in row)) for row in rows]

    # ------------------------------------------------------------------ results

    def result(self, session: VideoSession, frame_idx: int) -> FrameResult:
        """The latest masks of all objects on a frame; an object not seen there yet is absent."""
        side = self.model.image_size // self.model.backbone_stride * 4
        with session.device:
            absent = ObjectMask(
                torch.full((1, 1, side, side), NO_OBJ_SCORE), torch.zeros(1), torch.full((1, 1), -10.0)
            )
        with session.lock:
            obj_ids = session.obj_ids
            shown = [track.latest(frame_idx) or absent for track in session.tracks.values()]

        def gather(parts: Iterable[Tensor], nothing: Tensor) -> Tensor:
            return torch.cat([part.to(session.device) for part in (*parts, nothing[:0])])

        return FrameResult(
            frame_idx,
            obj_ids,
            gather((m.logits for m in shown), absent.logits),
            gather((m.predicted_iou for m in shown), absent.predicted_iou),
            gather((m.object_score_logits[:, 0] for m in shown), absent.predicted_iou),
            (session.video_height, session.video_width),
            self.non_overlap_masks,
        )
