"""Bundles compiled ahead of time: what they hold, and where they are refused.

One test compiles for real, which needs a C++ compiler and takes its time; the others put plain PyTorch in the
place of the compiler and its loader.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import tiny_model

from sam2 import aot
from sam2.aot import BundleHeader, CompiledDecoder, CompiledEncoder
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.backend import use_backend
from sam2.cli import main
from sam2.export import aot as writing
from sam2.export import export_bundle
from sam2.modeling.sam2_base import SAM2Base
from sam2.ops.compiler import cpp_compiler
from sam2.sam2_image_predictor import SAM2ImagePredictor

PICTURE = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
compiler = pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler: apt-get install g++")


@pytest.fixture
def model() -> SAM2Base:
    return tiny_model().eval()


def without_compiling(monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...]) -> list[str]:
    """Lets PyTorch run some of the parts as they were exported; lists what of them is loaded."""
    loaded: list[str] = []
    compile_part, load_part = torch._inductor.aoti_compile_and_package, aot.load_part

    def package(program: Any, package_path: str) -> None:
        if Path(package_path).name in parts:
            torch.export.save(program, package_path)
        else:
            compile_part(program, package_path=package_path)

    def load(path: Path, device: torch.device) -> aot.Run:
        if path.name not in parts or not path.is_file():
            return load_part(path, device)
        loaded.append(path.name)
        program = torch.export.load(path)
        module, (examples, _) = program.module(), program.example_inputs

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            # compiled code takes the strides of its examples for granted
            assert all(x.is_contiguous() for x in (*inputs, *examples))
            return module(*inputs)

        return run

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", package)
    for module in (aot, writing):
        monkeypatch.setattr(module, "load_part", load)
    return loaded


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Neither part compiled."""
    monkeypatch.setattr(writing, "compile_obstacle", lambda device_type: None)
    return without_compiling(monkeypatch, (aot.ENCODER, aot.DECODER))


def answers(model: SAM2Base) -> list[np.ndarray]:
    predictor = SAM2ImagePredictor(model, zoom=False)
    predictor.set_image(PICTURE)
    found = [predictor.get_image_embedding().numpy()]
    for asked in (
        {"point_coords": np.array([[30.0, 20.0]]), "point_labels": np.array([1])},
        {"point_coords": np.array([[[30.0, 20.0], [5, 9]]] * 3), "point_labels": np.array([[1, 0]] * 3)},
        {"box": np.array([10.0, 10, 40, 40]), "mask_input": np.ones((1, 16, 16), dtype=np.float32)},
        {"mask_input": np.ones((1, 16, 16), dtype=np.float32)},
    ):
        masks, ious, low_res = predictor.predict(**asked, return_logits=True)
        found += [masks, ious, low_res]
    return found


def close(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.shape == y.shape and np.abs(x - y).max() < 1e-3 * np.abs(y).max() for x, y in zip(a, b))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_a_bundle_answers_as_the_model_does(model: SAM2Base, uncompiled: list[str], tmp_path: Path) -> None:
    expected = answers(model)
    report = export_bundle(model, tmp_path / "made")
    assert report["encoder_difference"] < 1e-4
    assert report["decoder_difference"] < 1e-4
    assert json.loads((tmp_path / "made" / "bundle.json").read_text())["weights"] == report["weights"]
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == [
        "bundle.json",
        "decoder.pt2",
        "encoder.pt2",
    ]
    assert close(answers(model), expected)  # exporting left nothing behind in the model

    del uncompiled[:]
    names = list(model.state_dict())
    use_backend(model, f"aot:{tmp_path / 'made'}")
    assert uncompiled == ["encoder.pt2", "decoder.pt2"]
    assert isinstance(model.image_encoder, CompiledEncoder)
    assert isinstance(model.sam_mask_decoder, CompiledDecoder)
    assert list(model.state_dict()) == names
    assert close(answers(model), expected)
    with pytest.raises(ValueError, match="cannot be copied"):
        copy.deepcopy(model)
    loose = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_side": 2}
    assert SAM2AutomaticMaskGenerator(model, **loose).generate(PICTURE)
    with pytest.raises(ValueError, match="there already"):
        export_bundle(model, tmp_path / "made")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_bfloat16_is_near(model: SAM2Base, uncompiled: list[str], tmp_path: Path) -> None:
    exact = answers(model)
    report = export_bundle(model, tmp_path / "made", "bfloat16")
    assert 1e-4 < report["decoder_difference"] < 0.1
    assert report["masks_compared"] > 10
    use_backend(model, f"aot:{tmp_path / 'made'}")
    found = answers(model)
    assert found[0].dtype == np.float32
    assert 0 < np.abs(found[0] - exact[0]).max() < 0.1 * np.abs(exact[0]).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch": "1.0"}, r"PyTorch '1\.0' \(here '"),
        ({"device": {"type": "cuda", "name": "Card X", "capability": "9.0", "runtime": "CUDA 1"}}, "Card X"),
        ({"weights": "0"}, "other weights"),
        ({"config": "0"}, "another configuration"),
        ({"image_size": 32}, r"image_size 32 \(here 64\)"),
        ({"layout": 99}, "layout 99, this package reads 1"),
        ({"dtype": None}, "is damaged"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_refused_elsewhere(model: SAM2Base, tmp_path: Path, change: dict, message: str) -> None:
    header = BundleHeader.of(model, "float32").to_json() | change
    header = {key: value for key, value in header.items() if value is not None}
    (tmp_path / "bundle.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=message):
        use_backend(model, f"aot:{tmp_path}")
    assert not isinstance(model.image_encoder, CompiledEncoder)


def test_other_weights_and_options_are_told_apart(model: SAM2Base) -> None:
    made = BundleHeader.of(model, "float32")
    assert made == BundleHeader.from_json(json.loads(json.dumps(made.to_json())))
    assert not made.differences(BundleHeader.of(tiny_model().eval(), "float32"))
    with torch.no_grad():
        next(model.sam_mask_decoder.parameters()).add_(1)
    assert made.differences(BundleHeader.of(model, "float32")) == ["other weights"]
    model.image_encoder.scalp += 1
    assert len(made.differences(BundleHeader.of(model, "float32"))) == 2


def test_no_bundle_there(model: SAM2Base, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="sam2 export --format aot"):
        use_backend(model, f"aot:{tmp_path}")
    (tmp_path / "bundle.json").write_text(json.dumps(BundleHeader.of(model, "float32").to_json()))
    with pytest.raises(FileNotFoundError, match=r"no encoder\.pt2"):
        use_backend(model, f"aot:{tmp_path}")
    with pytest.raises(ValueError, match="mode='eval'"):
        use_backend(model.train(), f"aot:{tmp_path}")


def test_without_a_compiler(
    model: SAM2Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"apt-get install g\+\+"):
        export_bundle(model, tmp_path / "made")
    assert main(["export", "--aot", "--device", "cpu", "--out", str(tmp_path / "made")]) == 2
    assert "C++ compiler" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="precision 'int8' is unknown"):
        export_bundle(model, tmp_path / "made", "int8")


@compiler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_decoder_compiled_for_real(
    model: SAM2Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_compiling(monkeypatch, (aot.ENCODER,))  # whose compiling takes longer and has one shape
    expected = answers(model)
    report = export_bundle(model, tmp_path / "made")
    assert report["decoder_difference"] < 1e-4
    moved = shutil.move(tmp_path / "made", tmp_path / "moved")
    use_backend(model, f"aot:{moved}")
    assert close(answers(model), expected)
