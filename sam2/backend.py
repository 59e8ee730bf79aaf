"""Other engines for a model's dearest parts: OpenVINO, on the CPU, and ahead-of-time bundles (`sam2.aot`).

OpenVINO runs the image encoder alone, a bundle the mask decoder too; everything else stays with PyTorch.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sam2.aot import PREFIX, use_bundle
from sam2.modeling.backbones.image_encoder import ImageEncoder

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_PRECISION_KEY = ("sam2", "precision")
INSTALL = "pip install 'sam2[openvino]'"


class EncoderGraph(nn.Module):
    """The image encoder as a graph of tensors, for exporters.

    Its results are the levels that `SAM2Base.encode_image` keeps, finest first.
    """

    def __init__(self, model: SAM2Base) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Normalised pictures [B, 3, S, S] -> [B, C', H', W'] a level."""
        return tuple(self.model.encode_image(image).maps)


class ConvertedEncoder(ImageEncoder):
    """An image encoder whose pictures go through a compiled OpenVINO graph; it keeps its parameters.

    Pictures go through one by one. There are no gradients.

    Args:
        encoder: whose place it takes.
        graph: an OpenVINO model made from `EncoderGraph`, or one with its inputs and outputs.
        image_size: S, pixels.

    Raises:
        ValueError: a graph of another picture size or of other levels.
    """

    def __init__(self, encoder: ImageEncoder, graph: Any, image_size: int) -> None:
        super().__init__(encoder.trunk, encoder.neck, encoder.scalp)
        shape = [int(n) for n in graph.input(0).shape]
        if shape != [1, 3, image_size, image_size]:
            raise ValueError(
                f"the converted encoder takes pictures {shape}, the model {[1, 3, image_size, image_size]}: "
                "export it again from this model with `sam2 export`"
            )
        self._compiled = compiled(graph)

    def forward(self, sample: Tensor, finish: Sequence[nn.Module] = ()) -> dict:
        """As of `ImageEncoder`; the graph has `finish` in it."""
        del finish
        by_picture = []
        for picture in sample:
            found = self._compiled([np.ascontiguousarray(picture[None].numpy())])
            by_picture.append([torch.from_numpy(found[i].copy()) for i in range(len(self._compiled.outputs))])
        features = [torch.cat(level) for level in zip(*by_picture)]
        pos = [self.neck.position_encoding(f) for f in features]  # type: ignore[operator]
        return {"vision_features": features[-1], "vision_pos_enc": pos, "backbone_fpn": features}

    def __deepcopy__(self, memo: dict) -> ConvertedEncoder:
        raise ValueError("a model whose encoder was converted cannot be copied: build it again")

    def __reduce__(self) -> tuple:
        raise ValueError("a model whose encoder was converted cannot be saved whole: save its state_dict()")


def is_bundle(backend: str | os.PathLike[str]) -> bool:
    """Whether a backend's name means an ahead-of-time bundle, which may be for any device."""
    return os.fspath(backend).startswith(PREFIX)


def import_openvino() -> Any:
    """The module `openvino`.

    Raises:
        ValueError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module("openvino")
    except ModuleNotFoundError as error:
        raise ValueError(f"OpenVINO is not installed: {INSTALL}") from error


def mark_precision(graph: Any, precision: str) -> None:
    """Notes in an OpenVINO graph what `compiled` computes it in (outside its int8 products)."""
    graph.set_rt_info(precision, list(_PRECISION_KEY))


def compiled(graph: Any) -> Any:
    """An OpenVINO graph made ready for this CPU, on as many threads as PyTorch has.

    In float32, unless the graph is marked for bfloat16 and this CPU computes in it.
    """
    core = import_openvino().Core()
    key = list(_PRECISION_KEY)
    wants_bf16 = graph.has_rt_info(key) and graph.get_rt_info(key).astype(str) == "bfloat16"
    can_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if wants_bf16 and can_bf16 else "f32",
    }
    return core.compile_model(graph, "CPU", options)


def convert_encoder(model: SAM2Base) -> Any:
    """The image encoder of a model on the CPU as an OpenVINO graph in float32, for one picture at a time."""
    openvino = import_openvino()
    picture = torch.zeros(1, 3, model.image_size, model.image_size)
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO traces, of which PyTorch and its tracer warn at length
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(EncoderGraph(model), example_input=picture)
    graph.reshape({graph.input(0): list(picture.shape)})
    return graph


def use_backend(model: SAM2Base, backend: str | os.PathLike[str]) -> None:
    """Gives a model's dear parts to an engine.

    Args:
        model: in evaluation mode; on the CPU for OpenVINO, on the bundle's device for a bundle.
        backend: "torch" leaves it as it is; "openvino" converts the encoder (some seconds); the path of an
            encoder that `sam2 export` wrote (`*.xml`) takes that, which may be in int8; "aot:FOLDER" takes
            encoder and decoder from a bundle of `sam2 export --format aot`.

    Raises:
        ValueError: another name, another device than the CPU, OpenVINO missing, a file of another model, or a
            bundle that was made for something else.
        FileNotFoundError: no such file.
    """
    if backend == "torch":
        return
    if is_bundle(backend):
        use_bundle(model, Path(os.fspath(backend).removeprefix(PREFIX)))
        return
    path = Path(backend)
    if backend != "openvino" and path.suffix != ".xml":
        raise ValueError(
            f"backend is {os.fspath(backend)!r}: say 'torch', 'openvino', the .xml file of `sam2 export`, "
            "or 'aot:FOLDER'"
        )
    openvino = import_openvino()
    if model.device.type != "cpu" or model.training:
        raise ValueError("an OpenVINO backend is for a model in mode='eval' on device='cpu'")
    if backend == "openvino":
        graph = convert_encoder(model)
    else:
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no converted encoder {str(path)!r}: write it with `sam2 export`"
            )
        graph = openvino.Core().read_model(path)
    encoder = model.image_encoder
    assert isinstance(encoder, ImageEncoder)
    model.image_encoder = ConvertedEncoder(encoder, graph, model.image_size)
