"""Compiled modules, and the precision in which a model runs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from tracking_helpers import clip, disk, farthest, mini_predictor, run

from sam2.compile import CompileError, compilations, compile_model
from sam2.memory.archive import StorageOptions
from sam2.ops.graphs import GraphedCall
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import FeatureBudget, ObjectPrompt, StreamingTracker, TrackingEngine
from sam2.tracking.steps import Steps

# torch's own, on importing its compiler
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def session(predictor: SAM2VideoPredictor) -> list[dict[int, dict[int, Tensor]]]:
    """One and two clicks, a box, a mask; one to two objects; corrections; both directions."""
    state = predictor.init_state(clip(10))
    predictor.add_new_points_or_box(state, 0, 1, [[20, 15]], [1])
    found = [run(predictor, state)]
    predictor.add_new_points_or_box(state, 4, 1, [[22, 16], [10, 10]], [1, 0])
    predictor.add_new_points_or_box(state, 4, 1, [[24, 17], [11, 11], [1, 1]], [1, 0, 0])
    predictor.add_new_mask(state, 2, 2, disk(20, 15))
    found.append(run(predictor, state))
    predictor.add_new_points_or_box(state, 8, 2, box=[10, 8, 30, 25])
    found.append(run(predictor, state, start_frame_idx=9, reverse=True))
    return found


class TestCompiled:
    @pytest.mark.slow  # a dozen graphs are traced
    def test_nothing_is_compiled_after_warming_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        predictor = mini_predictor(num_maskmem=4, presence=4.0, add_all_frames_to_correct_as_cond=True)
        plain = session(predictor)
        predictor.optimize(backend="eager")
        before = compilations()
        predictor.warm_up(objects=(1, 2), conditioning=(1, 2), points=(1, 2))
        made = compilations()
        assert made > before
        assert "warmed up in" in capsys.readouterr().err
        for one, other in zip(plain, session(predictor), strict=True):
            assert farthest(one, other) < 1e-4
        assert compilations() == made

    def test_a_missing_compiler_is_named(self) -> None:
        def broken(graph: object, inputs: object) -> None:
            raise RuntimeError("no compiler was found")

        predictor = mini_predictor()
        predictor.optimize(backend=broken)
        with pytest.raises(CompileError, match=r"no compiler was found.*C\+\+ compiler.*Triton"):
            predictor.init_state(clip(1))

    def test_the_model_keeps_its_weights_and_names(self) -> None:
        predictor = mini_predictor()
        names = list(predictor.state_dict())
        assert compile_model(predictor, "eager") is predictor
        assert list(predictor.state_dict()) == names

    def test_a_copy_runs_by_itself(self) -> None:
        predictor = mini_predictor(static=True)
        steps = predictor.steps
        twin = copy.deepcopy(predictor)
        assert predictor.steps is steps
        assert twin.steps.model is twin


class TestGraphedCall:
    def test_without_a_recorder_it_is_the_function(self) -> None:
        call = GraphedCall(lambda x, y: (x + y, x * y))
        total, product = call(torch.tensor(2.0), torch.tensor(3.0))
        assert (float(total), float(product), len(call)) == (5.0, 6.0, 0)


class TestPrecision:
    def test_bfloat16_runs_inside_and_shows_float32(self) -> None:
        predictor = mini_predictor(presence=4.0)
        seen: list[torch.dtype] = []
        layer = predictor.memory_attention.layers[0].linear1
        assert isinstance(layer, nn.Module)
        layer.register_forward_hook(lambda _module, _given, out: seen.append(out.dtype))
        found = []
        for dtype in (None, torch.bfloat16):
            predictor.dtype = dtype
            state = predictor.init_state(clip(3))
            predictor.add_new_mask(state, 0, 1, disk(24, 18))
            found.append(run(predictor, state))
            assert seen[-1] == (dtype or torch.float32)
            assert not torch.is_autocast_enabled("cpu")
        assert found[1][2][1].dtype == torch.float32
        assert 0 < farthest(*found) < 0.05
        agreed = (found[0][2][1] > 0) == (found[1][2][1] > 0)
        assert agreed.float().mean() > 0.98

    def test_float32_holds_inside_a_callers_autocast_and_none_leaves_it(self) -> None:
        predictor = mini_predictor()
        given = clip(1)
        alone = predictor.init_state(given).features.get(0, lambda: pytest.fail("not encoded")).embedding
        with torch.autocast("cpu", dtype=torch.bfloat16):
            left = predictor.engine.features(predictor.init_state(given), 0).embedding
            predictor.dtype = torch.float32
            held = predictor.engine.features(predictor.init_state(given), 0).embedding
        assert torch.equal(alone, held)
        assert not torch.equal(alone, left.float())

    def test_features_that_were_put_away_come_back_as_they_were(self) -> None:
        predictor = mini_predictor()
        predictor.dtype = torch.bfloat16
        state = predictor.init_state(clip(3), feature_budget=FeatureBudget(device_frames=1))
        engine = predictor.engine
        first = engine.features(state, 0).maps
        engine.features(state, 1)
        again = engine.features(state, 0).maps
        assert state.features.misses == 2
        for one, other in zip(first, again, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)

    def test_a_stream_runs_in_it_too(self) -> None:
        predictor = mini_predictor()
        engine = TrackingEngine(predictor, steps=Steps(predictor, torch.bfloat16))
        with StreamingTracker(engine, storage=StorageOptions(history="none")) as tracker:
            result = tracker.step(clip(1)[0], [ObjectPrompt(1, [[20, 15]], [1])])
            assert result.logits.dtype == result.predicted_iou.dtype == torch.float32
            assert result.logits.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.int8, torch.float64, "bfloat16"])
    def test_others_are_refused(self, dtype: torch.dtype) -> None:
        with pytest.raises(ValueError, match="dtype must be"):
            mini_predictor().dtype = dtype
