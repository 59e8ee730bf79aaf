"""The encoder behind another engine, and the files of `sam2 export`.

They need the extras `openvino` and `onnx`; a test without its extra is skipped, and says so.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2.backend import use_backend
from sam2.build_sam import build_sam2
from sam2.cli import main
from sam2.export import ExportOptions, export_model
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor

openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="OpenVINO is not installed: pip install '.[openvino]'",
)
onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None,
    reason="ONNX Runtime or onnxscript is not installed: pip install '.[onnx]'",
)
pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters themselves
SMALL = ["model.image_size=64"]


@pytest.fixture(scope="module")
def model() -> SAM2Base:
    torch.manual_seed(0)
    return build_sam2("mini", device="cpu", hydra_overrides_extra=SMALL)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@openvino
def test_openvino_encodes_as_pytorch_does(model: SAM2Base) -> None:
    torch.manual_seed(0)
    other = build_sam2("mini", hydra_overrides_extra=SMALL, backend="openvino")
    assert other.device.type == "cpu"
    other.load_state_dict(model.state_dict())  # it keeps its parameters, but its graph is made already
    pictures = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, found = model.encode_image(pictures), other.encode_image(pictures)
    for a, b in zip(found.maps, expected.maps):
        assert a.shape == b.shape
        assert relative(a, b) < 1e-4
    picture = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    masks = []
    for one in (model, other):
        predictor = SAM2ImagePredictor(one)
        predictor.set_image(picture)
        masks.append(predictor.predict(np.array([[30.0, 20.0]]), np.array([1]), return_logits=True)[0])
    assert np.abs(masks[0] - masks[1]).max() < 1e-3 * np.abs(masks[0]).max()


@openvino
def test_exported_for_openvino(model: SAM2Base, tmp_path: Path) -> None:
    report = export_model(model, tmp_path / "made")
    assert json.loads((tmp_path / "made" / "export.json").read_text()).keys() == report.keys()
    assert report["encoder_difference"] < 1e-4
    assert report["decoder_difference"] < 1e-4
    torch.manual_seed(0)
    other = build_sam2(
        "mini", hydra_overrides_extra=SMALL, backend=tmp_path / "made" / "encoder.xml", device="cpu"
    )
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert relative(other.encode_image(picture).embedding, model.encode_image(picture).embedding) < 1e-4
    with pytest.raises(ValueError, match="there already"):
        export_model(model, tmp_path / "made")
    with pytest.raises(ValueError, match=r"\[1, 3, 64, 64\], the model \[1, 3, 128, 128\]"):
        build_sam2(
            "mini",
            hydra_overrides_extra=["model.image_size=128"],
            backend=tmp_path / "made" / "encoder.xml",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@onnx
@pytest.mark.slow
def test_exported_for_onnx(model: SAM2Base, tmp_path: Path) -> None:
    report = export_model(model, tmp_path / "made", ExportOptions("onnx"))
    assert report["encoder_difference"] < 1e-4
    assert report["decoder_difference"] < 1e-4
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "encoder.onnx",
        "decoder.onnx",
        "export.json",
    }


@openvino
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="NNCF is not installed: '.[openvino]'")
def test_int8_of_the_default_model_keeps_its_masks_and_serves_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    asked = ["export", "--precision", "int8", "--calibration-pictures", "8", "--out", str(made)]
    assert main(asked) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((made / "export.json").read_text())
    assert report["masks_compared"] > 30
    assert report["mask_iou"] >= 0.9
    picture, out = tmp_path / "photo.png", tmp_path / "out"
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    encoder = str(made / "encoder.xml")
    given = ["segment", str(picture), "--point", "20,20", "--backend", encoder, "--out", str(out)]
    assert main(given) == 0
    assert json.loads((out / "result.json").read_text())["model"]["backend"] == encoder


def test_without_openvino(model: SAM2Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r"pip install 'sam2\[openvino\]'"):
        use_backend(model, "openvino")
    with pytest.raises(ValueError, match=r"pip install 'sam2\[openvino\]'"):
        export_model(model, tmp_path / "made")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'sam2\[onnx\]'"):
        export_model(model, tmp_path / "made", ExportOptions("onnx"))


def test_backends_that_are_none(model: SAM2Base, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'torch', 'openvino'"):
        use_backend(model, "tensorrt")
    if importlib.util.find_spec("openvino"):
        with pytest.raises(FileNotFoundError, match="sam2 export"):
            use_backend(model, tmp_path / "encoder.xml")
    for options in ({"format": "onnx", "precision": "int8"}, {"format": "tflite"}, {"precision": "int4"}):
        with pytest.raises(ValueError, match=r"(format|precision|int8) is"):
            ExportOptions(**options)
