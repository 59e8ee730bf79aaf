"""Writes encoder and decoder for ONNX Runtime or OpenVINO, and checks what was written."""

from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam2.backend import compiled, convert_encoder, import_openvino, mark_precision
from sam2.export.agreement import mask_agreement
from sam2.export.folders import new_folder
from sam2.export.graphs import DecoderGraph, EncoderGraph, decoder_inputs
from sam2.export.quantize import quantized
from sam2.modeling.sam2_base import SAM2Base
from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD

FORMATS = ("openvino", "onnx")
PRECISIONS = ("float32", "bfloat16", "int8")
LARGEST_DIFFERENCE = 1e-3
"""Of what an exported float32 graph gives from what PyTorch gives, relative to the largest value."""

Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported."""

    format: str = "openvino"
    """"openvino" (encoder.xml, decoder.xml and their .bin) or "onnx" (encoder.onnx, decoder.onnx)."""
    precision: str = "float32"
    """Of the encoder: "float32"; with OpenVINO also "bfloat16" (where the CPU has it), or "int8", calibrated
    on generated pictures, the rest in bfloat16."""
    calibration_pictures: int = 24
    """How many generated pictures calibrate int8."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}: say one of {', '.join(FORMATS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}: say one of {', '.join(PRECISIONS)}")
        if self.precision != "float32" and self.format != "openvino":
            raise ValueError(
                f"{self.precision} is for format='openvino': leave precision out, or change the format"
            )
        if self.calibration_pictures < 1:
            raise ValueError(f"calibration_pictures is {self.calibration_pictures}: at least 1 is needed")


def export_model(
    model: SAM2Base, folder: str | os.PathLike[str], options: ExportOptions | None = None
) -> dict[str, Any]:
    """Writes the encoder (one picture), the decoder (any number of prompts and points) and `export.json`.

    The folder appears whole, after what was written was run and compared with PyTorch.

    Args:
        model: in evaluation mode, on the CPU.
        folder: a new or empty folder.

    Returns:
        what `export.json` says: inputs, outputs, and how far the results are from PyTorch's.

    Raises:
        ValueError: a package is missing (with the command that installs it), a folder with something in it,
            a model without features of high resolution, or results too far from PyTorch's.
    """
    options = options or ExportOptions()
    out = Path(folder)
    with new_folder(out) as aside:
        if model.training or model.device.type != "cpu":
            raise ValueError("a model is exported in mode='eval' on device='cpu'")
        decoder = DecoderGraph(model).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: sizes that become constants, as they should
            write = _write_openvino if options.format == "openvino" else _write_onnx
            encode, decode = write(model, decoder, aside, options)
            report = {
                **asdict(options),
                "image_size": model.image_size,
                "mean": IMAGENET_MEAN,
                "std": IMAGENET_STD,
                "encoder": {"inputs": ["image"], "outputs": _levels(model)},
                "decoder": {"inputs": DecoderGraph.INPUTS, "outputs": DecoderGraph.OUTPUTS},
                **_compared(model, decoder, encode, decode, options),
            }
        (aside / "export.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _levels(model: SAM2Base) -> list[str]:
    return ["features_stride_4", "features_stride_8", "features_stride_16"][-model.num_feature_levels :]


def _require(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"the package {name} is not installed: pip install 'sam2[{extra}]'") from error


def _write_openvino(
    model: SAM2Base, decoder: nn.Module, folder: Path, options: ExportOptions
) -> tuple[Runner, Runner]:
    openvino = import_openvino()
    encoder = convert_encoder(model)
    if options.precision == "int8":
        encoder = quantized(encoder, model.image_size, options.calibration_pictures)
    if options.precision != "float32":
        mark_precision(encoder, "bfloat16")
    graph = openvino.convert_model(decoder, example_input=decoder_inputs(model, 2, 3))
    side = model.image_size // 4
    shapes = [list(x.shape) for x in decoder_inputs(model, 1, 1)]
    shapes[3:] = [[-1, -1, 2], [-1, -1], [-1, 1, side, side], [-1]]
    graph.reshape({graph.input(i): openvino.PartialShape(shape) for i, shape in enumerate(shapes)})
    for port, name in zip(graph.inputs, DecoderGraph.INPUTS):
        port.get_tensor().set_names({name})
    for port, name in zip(graph.outputs, DecoderGraph.OUTPUTS):
        port.get_tensor().set_names({name})
    for port, name in zip(encoder.outputs, _levels(model)):
        port.get_tensor().set_names({name})
    core = openvino.Core()
    runners = []
    for made, name in ((encoder, "encoder.xml"), (graph, "decoder.xml")):
        openvino.save_model(made, folder / name, compress_to_fp16=False)
        runners.append(_openvino_runner(compiled(core.read_model(folder / name))))
    return runners[0], runners[1]


def _openvino_runner(ready: Any) -> Runner:
    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = ready(list(inputs))
        return [found[i].copy() for i in range(len(ready.outputs))]

    return run


def _write_onnx(
    model: SAM2Base, decoder: nn.Module, folder: Path, options: ExportOptions
) -> tuple[Runner, Runner]:
    del options
    _require("onnxscript", "onnx")
    runtime = _require("onnxruntime", "onnx")
    picture = (torch.zeros(1, 3, model.image_size, model.image_size),)
    prompts, points = torch.export.Dim("prompts", min=1), torch.export.Dim("points", min=1)
    fixed: dict[int, Any] = {}
    shapes = (
        fixed,
        fixed,
        fixed,
        {0: prompts, 1: points},
        {0: prompts, 1: points},
        {0: prompts},
        {0: prompts},
    )
    for graph, inputs, names, dynamic in (
        (EncoderGraph(model).eval(), picture, (["image"], _levels(model)), None),
        (decoder, decoder_inputs(model, 2, 3), (DecoderGraph.INPUTS, DecoderGraph.OUTPUTS), shapes),
    ):
        torch.onnx.export(
            graph,
            inputs,
            folder / ("decoder.onnx" if graph is decoder else "encoder.onnx"),
            input_names=list(names[0]),
            output_names=list(names[1]),
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    def runner(name: str) -> Runner:
        session = runtime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]
        return lambda inputs: session.run(None, dict(zip(names, inputs)))

    return runner("encoder.onnx"), runner("decoder.onnx")


def _compared(
    model: SAM2Base, decoder: nn.Module, encode: Runner, decode: Runner, options: ExportOptions
) -> dict[str, Any]:
    """How far what was written is from PyTorch.

    Raises:
        ValueError: too far, in float32.
    """
    differences = {"decoder_difference": 0.0}
    for prompts, points in ((1, 1), (3, 4)):
        inputs = decoder_inputs(model, prompts, points)
        found = decode([x.numpy() for x in inputs])
        differences["decoder_difference"] = max(
            differences["decoder_difference"], _difference(found, decoder(*inputs))
        )
    if options.precision == "float32":
        picture = torch.randn(
            1, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0)
        )
        differences["encoder_difference"] = _difference(
            encode([picture.numpy()]), tuple(model.encode_image(picture).maps)
        )
    for part, difference in differences.items():
        if difference > LARGEST_DIFFERENCE:
            raise ValueError(
                f"{part} is {difference:.2g}, more than {LARGEST_DIFFERENCE}: nothing was written"
            )
    if options.precision != "float32":
        return {**differences, **mask_agreement(model, encode)}
    return differences


def _difference(found: Sequence[np.ndarray], expected: tuple[Tensor, ...]) -> float:
    """The largest, relative to the largest value of the same result."""
    return max(float(np.abs(a - b.numpy()).max() / np.abs(b.numpy()).max()) for a, b in zip(found, expected))
