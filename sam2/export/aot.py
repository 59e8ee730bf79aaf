"""Writes ahead-of-time bundles (`sam2.aot`): the image encoder and the mask decoder, by AOTInductor."""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam2.aot import DECODER, ENCODER, HEADER, MOST_TOKENS, BundleHeader, Run, load_part
from sam2.export.agreement import mask_agreement
from sam2.export.folders import new_folder
from sam2.export.graphs import EncoderGraph, decoder_inputs
from sam2.modeling.sam2_base import SAM2Base
from sam2.ops.compiler import compile_obstacle
from sam2.ops.precision import dtype_of

LEAST_TORCH = "2.7"
LARGEST_DIFFERENCE = 1e-3
"""Of what a float32 part gives from what PyTorch gives, relative to the largest value."""


class _EncoderPart(nn.Module):
    def __init__(self, model: SAM2Base, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = EncoderGraph(model)
        self.dtype, self.device_type = dtype, model.device.type

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32):
            levels = self.encoder(image)
        return tuple(level.float() for level in levels)


class _DecoderPart(nn.Module):
    """`MaskDecoder.predict_masks` on sums of embedding and dense prompt [B, C, H, W]."""

    def __init__(self, model: SAM2Base, dtype: torch.dtype) -> None:
        super().__init__()
        self.decoder = model.sam_mask_decoder
        self.dtype, self.device_type = dtype, model.device.type

    def forward(
        self, prompted: Tensor, image_pe: Tensor, sparse: Tensor, stride_4: Tensor, stride_8: Tensor
    ) -> tuple[Tensor, ...]:
        nothing = prompted.new_zeros(1, 1, 1, 1)
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32):
            found = self.decoder.predict_masks(
                prompted, image_pe, sparse, nothing, True, [stride_4, stride_8]
            )
        return tuple(x.float() for x in found)


def export_bundle(model: SAM2Base, folder: str | os.PathLike[str], dtype: str = "float32") -> dict[str, Any]:
    """Writes a bundle for this model, card and PyTorch. Compiling takes a minute or more.

    The folder appears whole, after its parts were loaded, run and compared with PyTorch.

    Args:
        model: in evaluation mode, on the device that the bundle is for.
        folder: a new or empty folder.
        dtype: what the parts compute in, by autocast: "float32", "bfloat16" or "float16".

    Returns:
        what `bundle.json` says: what it is for, and how far the results are from PyTorch's in float32.

    Raises:
        ValueError: no C++ compiler (with the mend), PyTorch below 2.7, another dtype, a folder with something
            in it, a model without features of high resolution, or results too far from PyTorch's.
    """
    precision = dtype_of(dtype)
    if model.training:
        raise ValueError("a model is exported in mode='eval'")
    if not model.use_high_res_features_in_sam:
        raise ValueError("only models whose decoder takes features of strides 4 and 8 can be exported")
    if torch.__version__ < LEAST_TORCH:
        raise ValueError(f"bundles need PyTorch {LEAST_TORCH} or later, this is {torch.__version__}")
    obstacle = compile_obstacle(model.device.type)
    if obstacle is not None:
        raise ValueError(f"this model cannot be compiled here: {obstacle}")
    began = time.monotonic()
    with new_folder(Path(folder)) as aside, torch.no_grad():
        report: dict[str, Any] = BundleHeader.of(model, dtype).to_json()
        encoder, differences = _encoder(model, precision, aside / ENCODER)
        differences |= _decoder(model, precision, aside / DECODER)
        for part, difference in differences.items():
            if dtype == "float32" and difference > LARGEST_DIFFERENCE:
                raise ValueError(
                    f"{part} is {difference:.2g}, more than {LARGEST_DIFFERENCE}: nothing was written"
                )
        report |= differences
        if dtype != "float32":
            report |= mask_agreement(
                model, lambda images: [x.cpu().numpy() for x in _on(model, encoder, images)]
            )
        report["seconds"] = round(time.monotonic() - began, 1)
        (aside / HEADER).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _encoder(model: SAM2Base, dtype: torch.dtype, path: Path) -> tuple[Run, dict[str, float]]:
    size = model.image_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(model.device)
    # eagerly first: position tables must be made before tracing, which would leave its stand-ins in the cache
    expected = EncoderGraph(model)(image)
    run = _compiled(_EncoderPart(model, dtype), (image,), ({},), path, model.device)
    return run, {"encoder_difference": _difference(run(image), expected)}


def _decoder(model: SAM2Base, dtype: torch.dtype, path: Path) -> dict[str, float]:
    exact, part = _DecoderPart(model, torch.float32), _DecoderPart(model, dtype)
    prompts, tokens = torch.export.Dim("prompts", min=1), torch.export.Dim("tokens", min=1, max=MOST_TOKENS)
    shapes: tuple[dict, ...] = ({0: prompts}, {}, {0: prompts, 1: tokens}, {}, {})
    run = _compiled(part.eval(), _decoder_inputs(model, 2, 3), shapes, path, model.device)
    worst = 0.0
    for count, points in ((1, 1), (3, 4)):
        inputs = _decoder_inputs(model, count, points)
        worst = max(worst, _difference(run(*inputs), exact(*inputs)))
    return {"decoder_difference": worst}


def _decoder_inputs(model: SAM2Base, prompts: int, points: int) -> tuple[Tensor, ...]:
    on_device = (x.to(model.device) for x in decoder_inputs(model, prompts, points))
    embedding, stride_4, stride_8, coords, labels, *_ = on_device
    encoder = model.sam_prompt_encoder
    sparse, dense = encoder(points=(coords, labels), boxes=None, masks=None)
    inputs = (embedding + dense, encoder.get_dense_pe(), sparse, stride_4, stride_8)
    # as they are given later: compiled code takes the strides of its examples for granted, unchecked
    return tuple(x.contiguous() for x in inputs)


def _compiled(
    part: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[dict, ...], path: Path, device: torch.device
) -> Run:
    """Exports and compiles a part, and loads what was written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.export.export(part.eval(), inputs, dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return load_part(path, device)


def _on(model: SAM2Base, run: Run, images: Any) -> tuple[Tensor, ...]:
    return run(torch.from_numpy(images[0]).to(model.device))


def _difference(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest, relative to the largest value of the same result."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected))
