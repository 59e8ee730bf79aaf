"""Builders: names, devices, hub cache, and what a mistake says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

import sam2.build_sam as builders
from sam2.build_sam import (
    HF_MODEL_ID_TO_FILENAMES,
    MODELS,
    build_sam2,
    build_sam2_camera_predictor,
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
    resolve_model,
)
from sam2.checkpoint import CheckpointError, config_shapes, save_checkpoint
from sam2.config import CONFIG_NAMES
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking.static import StaticSteps
from sam2.tracking.steps import Steps

# A model that builds in an instant, by overrides of the smallest one.
SMALL = [
    "model.image_size=64",
    "model.image_encoder.trunk.embed_dim=8",
    "model.image_encoder.trunk.stages=[1, 1, 1, 1]",
    "model.image_encoder.trunk.global_att_blocks=[2]",
    "model.image_encoder.neck.backbone_channel_list=[64, 32, 16, 8]",
    "model.memory_attention.num_layers=1",
]


def small(**kwargs: Any) -> Any:
    return build_sam2("mini", device="cpu", hydra_overrides_extra=SMALL, **kwargs)


def same_weights(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    other = right.state_dict()
    return all(torch.equal(value, other[name]) for name, value in left.state_dict().items())


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A random default model whose weights stand where the packaged ones do."""
    model = build_sam2("mini", device="cpu")
    save_checkpoint(model, tmp_path / "mini.safetensors")
    monkeypatch.setattr(builders, "WEIGHTS_ROOT", tmp_path)
    return model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty, offline hub cache, and a function that puts a file into it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def place(model_id: str, filename: str) -> Path:
        repository = tmp_path / f"models--{model_id.replace('/', '--')}"
        snapshot = repository / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True, exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text("0" * 40)
        return snapshot / filename

    return place


class TestBuilding:
    def test_eval_on_the_cpu_with_stability_selection(self) -> None:
        model = small()
        assert not model.training
        assert model.device == torch.device("cpu")
        assert model.sam_mask_decoder.dynamic_multimask_via_stability
        assert model.image_size == 64

    def test_train_mode_without_postprocessing(self) -> None:
        model = small(mode="train", apply_postprocessing=False)
        assert model.training
        assert not model.sam_mask_decoder.dynamic_multimask_via_stability

    def test_predictor_arguments_are_let_through(self) -> None:
        with pytest.warns(UserWarning, match=r"'(mask_threshold|points_per_side)' is unknown and ignored"):
            assert small(mask_threshold=0.5, points_per_side=3).image_size == 64

    def test_video_predictor(self) -> None:
        model = build_sam2_video_predictor("mini", device="cpu", hydra_overrides_extra=SMALL)
        assert type(model) is SAM2VideoPredictor
        assert model.fill_hole_area == 8
        assert model.binarize_mask_from_pts_for_mem_enc
        plain = build_sam2_video_predictor(
            "mini", None, "cpu", "eval", hydra_overrides_extra=SMALL, apply_postprocessing=False
        )
        assert plain.fill_hole_area == 0
        assert not plain.binarize_mask_from_pts_for_mem_enc

    def test_the_callers_overrides_win_and_are_left_alone(self) -> None:
        overrides = [*SMALL, "++model.fill_hole_area=3", "++model.non_overlap_masks=true"]
        given = list(overrides)
        model = build_sam2_video_predictor("mini", device="cpu", hydra_overrides_extra=overrides)
        assert (model.fill_hole_area, model.non_overlap_masks) == (3, True)
        assert overrides == given

    @pytest.mark.filterwarnings(
        "ignore:.*torch.jit:DeprecationWarning"
    )  # torch's own, on importing its compiler
    def test_the_compiled_variant(self) -> None:
        from sam2.sam2_video_predictor import SAM2VideoPredictorVOS

        with torch.device("meta"):
            model = build_sam2_video_predictor(
                "mini", device="meta", hydra_overrides_extra=SMALL, vos_optimized=True
            )
        assert isinstance(model, SAM2VideoPredictorVOS)

    @pytest.mark.parametrize("build", [build_sam2_video_predictor, build_sam2_camera_predictor])
    def test_precision_and_fixed_shapes(self, build: Callable[..., SAM2VideoPredictor]) -> None:
        plain = build("mini", device="cpu", hydra_overrides_extra=SMALL)
        assert (plain.dtype, plain.steps.dtype, type(plain.steps)) == (None, None, Steps)
        model = build("mini", device="cpu", hydra_overrides_extra=SMALL, dtype=torch.bfloat16, static=True)
        assert model.dtype == model.steps.dtype == torch.bfloat16
        assert isinstance(model.steps, StaticSteps)
        with pytest.raises(ValueError, match="dtype must be"):
            build("mini", device="cpu", hydra_overrides_extra=SMALL, dtype=torch.int8)

    def test_builders_in_threads_do_not_mix(self) -> None:
        def build(size: int) -> int:
            overrides = [*SMALL, f"model.image_size={size}"]
            return build_sam2("mini", device="cpu", hydra_overrides_extra=overrides).image_size

        sizes = [32, 64, 96, 128] * 2
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(build, sizes)) == sizes

    def test_random_weights_differ_from_build_to_build(self) -> None:
        assert not same_weights(small(), small())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mode": "evaluation"}, "mode is 'eval' or 'train'"),
            ({"device": "gpu0"}, "unknown device 'gpu0'"),
            ({"device": 3.5}, "unknown device"),
            ({"hydra_overrides_extra": "++model.image_size=64"}, "list of strings"),
            ({"hydra_overrides_extra": ["++model.imagesize=64"]}, "did you mean 'image_size'"),
            ({"config_file": "sam2.1_hiera_tt"}, "did you mean"),
        ],
    )
    def test_mistakes(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            build_sam2(**{"config_file": "mini", "device": "cpu"} | arguments)

    def test_a_misspelt_keyword_is_told(self, mini: torch.nn.Module) -> None:
        with pytest.warns(UserWarning, match=r"'bakend' is unknown and ignored; did you mean 'backend'\?"):
            small(bakend="openvino")
        with pytest.warns(UserWarning, match="'devise'.*'device'"):
            build_sam2_video_predictor(devise="cuda", device="cpu")

    def test_published_calls_are_taken_without_a_word(self, mini: torch.nn.Module) -> None:
        shared = {"device": "cpu", "mode": "eval", "hydra_overrides_extra": [], "apply_postprocessing": True}
        build_sam2(config_file="mini", ckpt_path=None, vos_optimized=False, **shared)  # type: ignore[arg-type]
        build_sam2_video_predictor("mini", None, vos_optimized=False, **shared)  # type: ignore[arg-type]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_a_device_that_is_not_here(self) -> None:
        with pytest.raises(ValueError, match="'cuda' is not usable here"):
            build_sam2("mini", device="cuda")


class TestWeights:
    def test_no_argument_gives_the_default_model_with_its_weights(self, mini: torch.nn.Module) -> None:
        assert same_weights(mini, build_sam2(device="cpu"))
        assert same_weights(mini, build_sam2_video_predictor(device="cpu"))

    def test_a_checkpoint_alone_finds_its_configuration(self, mini: torch.nn.Module) -> None:
        path = MODELS["mini"].local_checkpoint()
        assert path is not None
        assert same_weights(mini, build_sam2(ckpt_path=path, device="cpu"))
        assert resolve_model(path) == ("configs/default/mini.yaml", str(path))

    def test_missing_default_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(builders, "WEIGHTS_ROOT", tmp_path)
        assert MODELS["mini"].local_checkpoint() is None
        with pytest.raises(FileNotFoundError, match="missing from this installation"):
            build_sam2(device="cpu")

    def test_a_checkpoint_of_another_model(self, tmp_path: Path) -> None:
        save_checkpoint(small(), tmp_path / "small.pt")
        with pytest.raises(CheckpointError, match="does not belong to this model"):
            build_sam2("mini", tmp_path / "small.pt", device="cpu")
        with pytest.raises(CheckpointError, match="name its own"):
            build_sam2(ckpt_path=tmp_path / "small.pt", device="cpu")
        with pytest.raises(FileNotFoundError):
            build_sam2(ckpt_path=tmp_path / "absent.pt", device="cpu")

    def test_load_checkpoint_does_nothing_without_a_path(self, tmp_path: Path) -> None:
        model, other = small(), small()
        builders._load_checkpoint(model, None)
        save_checkpoint(other, tmp_path / "other.pt")
        builders._load_checkpoint(model, tmp_path / "other.pt")
        assert same_weights(model, other)


class TestHub:
    def test_the_eight_official_ids(self) -> None:
        assert len(HF_MODEL_ID_TO_FILENAMES) == 8
        assert HF_MODEL_ID_TO_FILENAMES["facebook/sam2-hiera-tiny"] == (
            "configs/sam2/sam2_hiera_t.yaml",
            "sam2_hiera_tiny.pt",
        )
        assert HF_MODEL_ID_TO_FILENAMES["facebook/sam2.1-hiera-base-plus"] == (
            "configs/sam2.1/sam2.1_hiera_b+.yaml",
            "sam2.1_hiera_base_plus.pt",
        )

    @pytest.mark.parametrize("model_id", sorted(HF_MODEL_ID_TO_FILENAMES))
    def test_the_cached_file_is_found_offline(self, hub: Any, model_id: str) -> None:
        config, filename = HF_MODEL_ID_TO_FILENAMES[model_id]
        path = hub(model_id, filename)
        path.write_bytes(b"weights")
        assert builders._hf_download(model_id) == (config, str(path))
        assert resolve_model(model_id) == (config, str(path))

    def test_cached_safetensors_serve_too(self, hub: Any) -> None:
        path = hub("facebook/sam2-hiera-small", "model.safetensors")
        path.write_bytes(b"weights")
        assert resolve_model("sam2-small") == ("configs/sam2/sam2_hiera_s.yaml", str(path))
        assert MODELS["sam2-small"].local_checkpoint() == path
        assert MODELS["sam2-tiny"].local_checkpoint() is None

    def test_what_is_not_cached_says_how_to_get_it(self, hub: Any) -> None:
        with pytest.raises(
            FileNotFoundError, match=r"hf download facebook/sam2-hiera-tiny sam2_hiera_tiny\.pt"
        ):
            build_sam2_hf("facebook/sam2-hiera-tiny", device="cpu")

    def test_an_unknown_id_suggests_the_nearest(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'facebook/sam2-hiera-large'"):
            build_sam2_video_predictor_hf("facebook/sam2-hiera-larg")

    def test_models_of_an_id_hold_the_cached_weights(self, hub: Any) -> None:
        model_id = "facebook/sam2.1-hiera-tiny"
        config, filename = HF_MODEL_ID_TO_FILENAMES[model_id]
        save_checkpoint(build_sam2(config, device="cpu"), hub(model_id, filename), dtype=torch.bfloat16)
        image = build_sam2_hf(model_id, device="cpu")
        assert same_weights(image, build_sam2_video_predictor_hf(model_id, device="cpu"))


class TestRegistry:
    def test_every_packaged_configuration_is_a_model(self) -> None:
        assert {info.config for info in MODELS.values()} == set(CONFIG_NAMES)
        assert all(name == info.name and info.description for name, info in MODELS.items())

    @pytest.mark.parametrize("name", sorted(MODELS))
    def test_the_stated_number_of_parameters(self, name: str) -> None:
        shapes = config_shapes(MODELS[name].config)
        count = sum(
            torch.Size(shape).numel() for key, shape in shapes.items() if "gaussian_matrix" not in key
        )
        assert MODELS[name].parameters == count

    def test_names_and_files(self, mini: torch.nn.Module, tmp_path: Path) -> None:
        packaged = ("configs/default/mini.yaml", str(tmp_path / "mini.safetensors"))
        assert resolve_model() == resolve_model("mini") == resolve_model("default") == packaged
        config = tmp_path / "own.yaml"
        config.write_text("model: {}")
        assert resolve_model(config) == (str(config), None)

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("tinny", ValueError, "did you mean 'tiny'"),
            ("facebook/sam2-hiera-huge", ValueError, "did you mean 'facebook/sam2-hiera-"),
            ("absent.safetensors", FileNotFoundError, "absent.safetensors"),
            ("absent.yaml", ValueError, "absent.yaml"),
        ],
    )
    def test_what_is_not_there(self, name: str, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            resolve_model(name)


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, sam2\n"
        "assert 'torch' not in sys.modules\n"
        "import sam2.build_sam\n"
        "heavy = {'transformers', 'av', 'huggingface_hub', 'safetensors', 'PIL', 'scipy'}\n"
        "heavy |= {name for name in sys.modules if name.startswith('sam2.modeling')}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.strip() == "[]"
