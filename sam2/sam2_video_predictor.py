"""The published video predictor over the tracking engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sam2.compile import compile_model
from sam2.memory import FifoPolicy, StorageOptions, make_policy
from sam2.modeling.outputs import FrameFeatures
from sam2.modeling.sam2_base import SAM2Base
from sam2.ops.precision import checked_dtype
from sam2.tracking.engine import FrameResult, TrackingEngine
from sam2.tracking.features import FeatureBudget, FeatureCache, default_budget
from sam2.tracking.passes import Direction, FusedResult, first_prompted, fuse, planned, track_run
from sam2.tracking.prompting import ObjectPrompt
from sam2.tracking.session import NothingToTrackError, VideoSession, VideoSource
from sam2.tracking.static import StaticSteps
from sam2.tracking.steps import Steps
from sam2.tracking.tracker import StreamingTracker

PublishedResult = tuple[int, list[int], Tensor]
"""Frame index, object ids, mask logits float32 [N, 1, H, W] at the size of the video."""


class SAM2VideoPredictor(SAM2Base):
    """Prompts on any frame of a video, and masks of every object on all frames.

    Args:
        fill_hole_area: fill holes of at most this many pixels of the low-resolution mask; 0 for none.
        non_overlap_masks: a pixel belongs to one object at most.
        clear_non_cond_mem_around_input: forget tracked memories near a newly prompted frame.
        add_all_frames_to_correct_as_cond: a frame corrected after tracking conditions others, and keeps its
            correction when tracked again. Off as published: streams and `TrackingEngine.ask` have it on.
        max_batch: most objects in one batch; 1 tracks them one by one, with equal results.
        dtype: precision in which the model runs: torch.float32 (also inside a caller's autocast),
            torch.bfloat16 or torch.float16; masks are enlarged in float32. None leaves a caller's autocast in
            force.
        static: run in a few fixed shapes, on a GPU as CUDA graphs; see `sam2.tracking.static`.
        kwargs: options of `SAM2Base`.
    """

    def __init__(
        self,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        max_batch: int = 16,
        dtype: torch.dtype | None = None,
        static: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}: at least one object is tracked at a time")
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond
        self.max_batch = max_batch
        self.dtype = dtype
        self.static = static
        self._steps: tuple[tuple, Steps] | None = None
        self._warm: Steps | None = None

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """The predictor with an official model of the hub, such as "facebook/sam2.1-hiera-large"."""
        from sam2.build_sam import build_sam2_video_predictor_hf

        return build_sam2_video_predictor_hf(model_id, **kwargs)

    @property
    def dtype(self) -> torch.dtype | None:
        """Precision in which the model runs; None for that of a caller's autocast."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: torch.dtype | None) -> None:
        self._dtype = checked_dtype(dtype)

    @property
    def engine(self) -> TrackingEngine:
        """The engine under this predictor's present options; compiled modules warm up when it is first asked
        for."""
        if self.compile_image_encoder and self._warm is not self.steps:
            self.warm_up()
        return TrackingEngine(
            self,
            self.fill_hole_area,
            self.non_overlap_masks,
            self.clear_non_cond_mem_around_input,
            max_batch=self.max_batch,
            steps=self.steps,
        )

    @property
    def steps(self) -> Steps:
        """How the model runs, under the present options and on the present device."""
        options = self.static, self.dtype, self.device
        if self._steps is None or self._steps[0] != options:
            kind = StaticSteps if self.static else Steps
            self._steps = options, kind(self, self.dtype)
        return self._steps[1]

    def optimize(self, backend: str | Callable[..., Any] = "inductor", mode: str | None = None) -> None:
        """Compiles the model's modules, for fixed shapes.

        The work is done by `warm_up`: call it, or it is called for one object before the first video.

        Args:
            backend, mode: as of `sam2.compile.compile_model`.

        Raises:
            CompileError: this Python or PyTorch cannot compile.
        """
        compile_model(self, backend, mode)
        self.static = True

    def warm_up(
        self,
        objects: Sequence[int] = (1,),
        conditioning: Sequence[int] = (1,),
        points: Sequence[int] = (1, 2),
        progress: bool = True,
    ) -> None:
        """Does now what fixed shapes cost once: compiling, and recording CUDA graphs; nothing otherwise.

        Args:
            objects: numbers of objects that will be followed at a time.
            conditioning: numbers of prompted frames of one object that a frame will read.
            points: numbers of points on one frame, two for each box.
            progress: tell on standard error what is under way.

        Raises:
            CompileError: the modules are compiled, and a compiler is missing.
        """
        self.steps.warm_up(objects, conditioning, points, progress)
        self._warm = self.steps

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_steps": None, "_warm": None}

    @torch.inference_mode()
    def init_state(
        self,
        video_path: Any,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
        storage: StorageOptions | None = None,
        feature_budget: FeatureBudget | None = None,
        policy: str | FifoPolicy | None = None,
    ) -> VideoSession:
        """Opens a video; frames are read when they are needed.

        Args:
            video_path: a video file or its bytes, a folder of pictures, or a list of arrays.
            offload_video_to_cpu: keep frames off the device until they are needed.
            offload_state_to_cpu: keep memories and masks off the device.
            async_loading_frames: taken as published; every pass reads its frames ahead in threads.
            storage: where masks and memories of past frames go; by default they stay in host memory up to
                1 GiB and then go to a temporary file.
            feature_budget: where encoded frames are kept for later prompts and passes; by default four and
                128 MiB more in host memory on a CPU, 16 on another device.
            policy: which memories a frame reads: "fifo" (as published), "stride", "motion" (SAMURAI),
                "distractor" (DAM4SAM), "tree" (SAM2Long), or a policy; None for the model's own, which is
                "fifo". With "tree", frames may change after they were yielded.

        Raises:
            ValueError: not a video, or no such policy.
        """
        device = self.device
        source = VideoSource(video_path, self.image_size, offload_video_to_cpu, async_loading_frames)
        images, height, width = source.open(device)
        session = VideoSession(
            images=images,
            video_height=int(height),
            video_width=int(width),
            device=device,
            storage_device=torch.device("cpu") if offload_state_to_cpu else device,
            offload_video_to_cpu=offload_video_to_cpu,
            offload_state_to_cpu=offload_state_to_cpu,
            source=source,
            storage=storage or StorageOptions(),
            features=FeatureCache(feature_budget or default_budget(device)),
            policy=None if policy is None else make_policy(policy, self.memory_policy),
        )
        self.engine.features(session, 0)  # so that the first prompt answers at once
        return session

    def stream(self, **options: Any) -> StreamingTracker:
        """A tracker for frames that come one by one; options as in `StreamingTracker`."""
        return StreamingTracker(self.engine, **options)

    # ------------------------------------------------------------------ prompts

    @torch.inference_mode()
    def add_new_points_or_box(
        self,
        inference_state: VideoSession,
        frame_idx: int,
        obj_id: int,
        points: Any = None,
        labels: Any = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: Any = None,
    ) -> PublishedResult:
        """Prompts an object with points, a box, or both.

        Args:
            frame_idx: where.
            obj_id: the caller's id of the object; a new one makes a new object.
            points: [P, 2], x and y in pixels of the video.
            labels: [P], 1 on the object and 0 off it.
            clear_old_points: forget earlier points on this frame; a box requires it.
            normalize_coords: coordinates are pixels of the video; otherwise shares of its size.
            box: x0, y0, x1, y1.

        Returns:
            The masks of all objects on this frame.

        Raises:
            ValueError: shapes that do not fit, coordinates outside the video, an empty box, no prompt,
                no such frame.
        """
        prompt = ObjectPrompt(obj_id, points, labels, box, clear_old_points=clear_old_points)
        return self._asked(inference_state, frame_idx, prompt, normalized=not normalize_coords)

    def add_new_points(self, *args: Any, **kwargs: Any) -> PublishedResult:
        """Older name of `add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    @torch.inference_mode()
    def add_new_mask(
        self, inference_state: VideoSession, frame_idx: int, obj_id: int, mask: Any
    ) -> PublishedResult:
        """Prompts an object with its mask [H, W], bool or 0 and 1, at the size of the video.

        Raises:
            ValueError: a mask of another size or type; no such frame.
        """
        return self._asked(inference_state, frame_idx, ObjectPrompt(obj_id, mask=mask))

    def _asked(
        self, session: VideoSession, frame_idx: int, prompt: ObjectPrompt, normalized: bool = False
    ) -> PublishedResult:
        engine = self.engine
        engine.ask(
            session,
            frame_idx,
            prompt,
            correct_as_conditioning=self.add_all_frames_to_correct_as_cond,
            normalized=normalized,
        )
        return _published(engine.result(session, frame_idx))

    @torch.inference_mode()
    def clear_all_prompts_in_frame(
        self, inference_state: VideoSession, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> PublishedResult | None:
        """Takes back an object's prompts on one frame; the frame no longer conditions others.

        Raises:
            ValueError: no such object or frame.
        """
        with inference_state.lock:
            inference_state.check_frame(frame_idx)
            track = inference_state.track_of(obj_id)
            track.points.pop(frame_idx, None)
            track.masks_given.pop(frame_idx, None)
            track.pending.pop(frame_idx, None)
            track.bank.release(frame_idx)
            track.tracked.pop(frame_idx, None)
            return _published(self.engine.result(inference_state, frame_idx)) if need_output else None

    @torch.inference_mode()
    def remove_object(
        self, inference_state: VideoSession, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, Tensor]]]:
        """Forgets an object; the others are not touched.

        Args:
            strict: an unknown id is an error.
            need_output: give the remaining masks on the frames where the object had prompts.

        Returns:
            The remaining ids, and (frame, masks) pairs.
        """
        with inference_state.lock:
            if obj_id not in inference_state.tracks and not strict:
                return inference_state.obj_ids, []
            frames = sorted(inference_state.track_of(obj_id).prompted_frames)
            inference_state.remove(obj_id)
            if not inference_state.tracks:
                return [], []
            engine = self.engine
            updated = [(f, engine.result(inference_state, f).logits) for f in frames] if need_output else []
            return inference_state.obj_ids, updated

    def reset_state(self, inference_state: VideoSession) -> None:
        """Forgets all objects; the video stays open."""
        for obj_id in inference_state.obj_ids:
            inference_state.remove(obj_id)

    # ------------------------------------------------------------------ propagation

    @torch.inference_mode()
    def propagate_in_video_preflight(self, inference_state: VideoSession) -> None:
        """Lets all prompts enter memory.

        Raises:
            NothingToTrackError: nothing was prompted.
        """
        if not inference_state.tracks:
            raise NothingToTrackError(
                "there is nothing to track: prompt an object with points, a box or a mask first"
            )
        self.engine.commit(inference_state)
        for track in inference_state.tracks.values():
            if not track.bank.conditioning:
                raise NothingToTrackError(
                    f"object {track.obj_id} has no prompt left: prompt it again, or remove it"
                )

    @torch.inference_mode()
    def propagate_in_video(
        self,
        inference_state: VideoSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[PublishedResult]:
        """Tracks all objects, frame by frame.

        Args:
            start_frame_idx: the first frame; the earliest prompted one by default.
            max_frame_num_to_track: how many frames after the first; all by default.
            reverse: towards the beginning.

        Yields:
            Frame index, object ids, mask logits [N, 1, H, W] at the size of the video.

        Raises:
            NothingToTrackError: nothing was prompted. ValueError: no such frame.
        """
        for result in self.propagate(inference_state, start_frame_idx, max_frame_num_to_track, reverse):
            yield _published(result)

    @torch.inference_mode()
    def propagate(
        self,
        session: VideoSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        *,
        direction: Direction | None = None,
        settled_frames: int = 0,
        settled_iou: float = 1.0,
    ) -> Iterator[FrameResult]:
        """`propagate_in_video` with predicted IoU and presence beside the masks.

        Args:
            direction: "forward", "backward", or "both": from the first frame to the end, then back.
            settled_frames: after a correction: stop a run after so many frames in a row whose masks are
                what they were before it; 0 to go on to the end.
            settled_iou: how equal masks must be for that.
        """
        self.propagate_in_video_preflight(session)
        if start_frame_idx is None:
            start_frame_idx = first_prompted(session)
        session.check_frame(start_frame_idx)
        engine = self.engine
        runs = planned(
            session.num_frames,
            start_frame_idx,
            max_frame_num_to_track,
            direction or ("backward" if reverse else "forward"),
        )
        for frames, backwards in runs:
            session.check_history(start_frame_idx, engine.policy(session).horizon(), backwards)
            run = track_run(engine, session, frames, backwards, settled_frames, settled_iou)
            with closing(run) as results:  # type: ignore[type-var]
                yield from tqdm(results, desc="propagate in video", total=len(frames), disable=None)

    @torch.inference_mode()
    def propagate_fused(self, session: VideoSession) -> Iterator[FusedResult]:
        """Tracks both ways and blends the passes between prompted frames; see `sam2.tracking.passes.fuse`."""
        self.propagate_in_video_preflight(session)
        session.check_history(first_prompted(session), self.engine.policy(session).horizon(), False)
        yield from fuse(self.engine, session)

    # ------------------------------------------------------------------ published names

    def _get_image_feature(
        self, inference_state: VideoSession, frame_idx: int, batch_size: int
    ) -> tuple[Tensor, dict[str, Any], list[Tensor], list[Tensor], list[tuple[int, int]]]:
        """A frame and its features in the published layout, repeated `batch_size` times."""
        features: FrameFeatures = self.engine.features(inference_state, frame_idx)
        backbone_out = {
            "backbone_fpn": [x.expand(batch_size, -1, -1, -1) for x in features.maps],
            "vision_pos_enc": [x.expand(batch_size, -1, -1, -1) for x in features.encodings],
        }
        image = inference_state.images[frame_idx].to(inference_state.device, torch.float32)
        return (image.expand(batch_size, -1, -1, -1), *self._prepare_backbone_features(backbone_out))


class SAM2VideoPredictorVOS(SAM2VideoPredictor):
    """The predictor with compiled modules; see `SAM2VideoPredictor.optimize`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optimize()


def _published(result: FrameResult) -> PublishedResult:
    return result.frame_idx, result.obj_ids, result.logits
