"""Tracking in fixed shapes: equal to tracking in whatever shapes come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.memory import MemoryEntry
from sam2.memory.pool import SlotPool
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt, StreamingTracker, TrackingEngine
from sam2.tracking.static import StaticSteps, bucket
from sam2.tracking.steps import Steps


def passes(predictor: SAM2VideoPredictor, policy: str, frames: int) -> list[dict[int, dict[int, Tensor]]]:
    """A forward pass, one after corrections, with an object more and one less, and one backwards."""
    state = predictor.init_state(clip(frames), policy=policy)
    predictor.add_new_points_or_box(state, 0, 1, [[20, 15]], [1])
    predictor.add_new_points_or_box(state, 0, 2, [[30, 20], [10, 10], [5, 5]], [1, 0, 1])
    predictor.add_new_points_or_box(state, 2, 3, box=[10, 8, 30, 25])
    found = [run(predictor, state)]
    predictor.add_new_points_or_box(state, frames // 2, 1, [[20, 15], [22, 16]], [1, 0])
    predictor.add_new_mask(state, frames // 2 + 2, 1, disk(20, 15))
    predictor.add_new_mask(state, frames // 2 + 3, 4, disk(30, 10))
    predictor.remove_object(state, 2)
    found.append(run(predictor, state, start_frame_idx=frames // 2 - 1))
    found.append(run(predictor, state, start_frame_idx=frames - 1, reverse=True))
    return found


class TestEqualToVaryingShapes:
    @pytest.mark.parametrize(
        ("policy", "frames", "options"),
        [
            ("fifo", 24, {}),
            ("fifo", 9, {"memory_pooling": True, "num_maskmem": 5}),
            ("fifo", 9, {"memory_temporal_stride_for_eval": 2, "max_cond_frames_in_attn": 2}),
            ("distractor", 9, {}),
            ("tree", 7, {"num_maskmem": 3}),
        ],
    )
    def test_over_a_video(self, policy: str, frames: int, options: dict[str, object]) -> None:
        plain, static = mini_predictor(**options), mini_predictor(static=True, **options)
        assert isinstance(static.steps, StaticSteps)
        both = passes(plain, policy, frames), passes(static, policy, frames)
        for one, other in zip(*both, strict=True):
            assert one.keys() == other.keys()
            assert farthest(one, other) < 1e-4

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
    def test_for_any_number_of_points(self, count: int) -> None:
        points = [[5 + 4 * i, 6 + 3 * i] for i in range(count)]
        found = []
        for predictor in (mini_predictor(), mini_predictor(static=True)):
            state = predictor.init_state(clip(1))
            predictor.add_new_points_or_box(state, 0, 1, points, [1] * count)
            corrected = [[1, 1], *points[1:]]
            found.append(predictor.add_new_points_or_box(state, 0, 1, corrected, [0] * count)[2])
        assert (found[0] - found[1]).abs().max() < 1e-4 * found[0].abs().max()

    def test_on_a_stream_with_more_objects_than_a_batch_takes(self) -> None:
        found = []
        for predictor in (mini_predictor(max_batch=3), mini_predictor(max_batch=3, static=True)):
            with predictor.stream() as tracker:
                masks = []
                for index, frame in enumerate(clip(9)):
                    prompts = [ObjectPrompt(index, [[8 + 4 * index, 12]], [1])] if index < 5 else []
                    masks.append(tracker.step(frame, prompts).logits)
                    if index == 6:
                        tracker.remove(2)
                found.append(masks)
        for one, other in zip(*found, strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() < 1e-4 * one.abs().max()

    def test_in_bfloat16(self) -> None:
        found = []
        for static in (False, True):
            predictor = mini_predictor(static=static, presence=4.0)
            predictor.dtype = torch.bfloat16
            state = predictor.init_state(clip(4))
            predictor.add_new_mask(state, 0, 1, disk(24, 18))
            found.append(run(predictor, state))
        assert farthest(*found) < 0.05


class Tape:
    """Records the operations of a function, as a CUDA graph records its kernels: whatever Python decides, and
    whatever tensors it reads beside its inputs, stays as it was."""

    def record(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor]
    ) -> Callable[[], tuple[Tensor, ...]]:
        operations = make_fx(lambda *tensors: function(*tensors))(*inputs)
        return lambda: operations(*inputs)


class TestRecorded:
    @pytest.mark.slow  # a tape of thousands of operations a shape
    def test_a_recording_of_each_shape_serves_every_frame(self) -> None:
        predictor = mini_predictor(num_maskmem=3)
        steps = StaticSteps(predictor, recorder=Tape())

        def tracked(steps: Steps) -> list[Tensor]:
            engine = TrackingEngine(predictor, steps=steps)
            with StreamingTracker(engine) as tracker:
                found = []
                for index, frame in enumerate(clip(7)):
                    prompts = [ObjectPrompt(1, [[20, 15]], [1])] if index in (0, 3) else []
                    prompts += [ObjectPrompt(2, mask=disk(20, 15))] if index == 4 else []
                    found.append(tracker.step(frame, prompts).logits)
            return found

        for one, other in zip(tracked(Steps(predictor)), tracked(steps), strict=True):
            assert (one - other).abs().max() < 1e-4 * one.abs().max()
        # the encoder; the others for one object, and for two with two prompted frames
        assert steps.recorded == 6
        tracked(steps)
        assert steps.recorded == 6

    def test_another_precision_or_pooling_is_recorded_anew(self) -> None:
        predictor = mini_predictor(num_maskmem=4)
        steps = StaticSteps(predictor, recorder=Tape())
        image = torch.zeros(3, 64, 64)
        whole = steps.encode_image(image).embedding
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not torch.equal(steps.encode_image(image).embedding.float(), whole)
        assert torch.equal(steps.encode_image(image).embedding, whole)
        assert steps.recorded == 2


class TestWithoutMemory:
    def test_is_refused(self) -> None:
        with pytest.raises(ValueError, match="num_maskmem=0"):
            mini_predictor(static=True, num_maskmem=0).steps.warm_up()


def entry(value: float) -> MemoryEntry:
    return MemoryEntry(0, False, None, torch.full((1, 2), value), torch.zeros(1, 1))


class TestSlotPool:
    def pool(self, slots: int) -> SlotPool:
        return SlotPool(lambda e: e.obj_ptr, (2,), slots, torch.device("cpu"), torch.float32)

    def test_rows_are_read_as_they_are_asked_for(self) -> None:
        pool, entries = self.pool(8), [entry(i) for i in range(4)]
        read = pool.read([[entries[2], None, entries[0]], [entries[3], entries[1], entries[1]]])
        assert read.shape == (2, 3, 2)
        assert read[0, [0, 2], 0].tolist() == [2, 0]
        assert read[1, :, 1].tolist() == [3, 1, 1]
        assert read.isfinite().all()

    def test_a_ring_of_few_slots_gives_the_same(self) -> None:
        pool, entries = self.pool(8), [entry(i) for i in range(40)]
        for first in range(36):
            window = entries[first : first + 4]
            assert pool.read([window])[0, :, 0].tolist() == [float(e.obj_ptr[0, 0]) for e in window]
        assert len(pool) == 8
        assert pool.read([entries[:3]])[0, :, 0].tolist() == [0, 1, 2]

    def test_it_grows_with_what_is_read_at_once(self) -> None:
        pool, entries = self.pool(2), [entry(i) for i in range(5)]
        assert pool.read([entries])[0, :, 0].tolist() == [0, 1, 2, 3, 4]
        assert len(pool) >= 5

    def test_entries_that_are_gone_are_not_taken_for_new_ones(self) -> None:
        pool = self.pool(4)
        for value in range(50):  # new entries come to lie where the last ones lay
            assert pool.read([[entry(value)]])[0, 0, 0] == value


def test_buckets_are_powers_of_two() -> None:
    assert [bucket(n) for n in (0, 1, 2, 3, 4, 5, 16, 17)] == [1, 1, 2, 4, 4, 8, 16, 32]
