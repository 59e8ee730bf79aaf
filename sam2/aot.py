"""Ahead-of-time bundles: the model's dear parts, compiled once by AOTInductor, loaded in seconds.

A bundle is a folder: `bundle.json`, which says what it was made for, and a compiled part a file. It runs on
the card (or processor), under the PyTorch and with the weights that it was made for; elsewhere it is refused.

Shapes: B prompts, N tokens of a prompt, C channels, H x W the image embedding (stride 16), M masks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sam2.modeling.backbones.image_encoder import ImageEncoder
from sam2.modeling.sam import cpu_decoder
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.ops.device import DeviceInfo, device_differences, device_info

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

PREFIX = "aot:"
"""What a backend's name begins with where a bundle follows."""
HEADER = "bundle.json"
ENCODER, DECODER = "encoder.pt2", "decoder.pt2"
MOST_TOKENS = 512
"""Of a prompt that the compiled decoder takes: a point or a corner of a box is one, and one is padding."""
LAYOUT = 1
"""Of the folder; another one is refused."""

Run = Callable[..., tuple[Tensor, ...]]


# ---------------------------------------------------------------- what a bundle is for


@dataclass(frozen=True)
class BundleHeader:
    """What a bundle was made for; all of it must hold where it is loaded."""

    layout: int
    torch: str
    """PyTorch's version."""
    device: DeviceInfo
    dtype: str
    """What the parts compute in: "float32", "bfloat16" or "float16"; they take and give float32."""
    image_size: int
    """S, pixels."""
    config: str
    """A digest of the options of the compiled modules."""
    weights: str
    """A digest of their parameters."""

    @classmethod
    def of(cls, model: SAM2Base, dtype: str) -> BundleHeader:
        """For a model on its device, here."""
        return cls(
            LAYOUT,
            torch.__version__,
            device_info(model.device),
            dtype,
            model.image_size,
            _config_digest(model),
            _weights_digest(model),
        )

    def differences(self, here: BundleHeader) -> list[str]:
        """What keeps the bundle from running here, a phrase each."""
        found = [
            f"{key} {mine!r} (here {other!r})"
            for key, mine, other in (
                ("PyTorch", self.torch, here.torch),
                ("image_size", self.image_size, here.image_size),
            )
            if mine != other
        ]
        found += [f"device: {phrase}" for phrase in device_differences(self.device, here.device)]
        if self.config != here.config:
            found.append("another configuration of the model")
        if self.weights != here.weights:
            found.append("other weights")
        return found

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BundleHeader:
        """Back from `to_json`; further keys are left alone.

        Raises:
            KeyError, TypeError: something is missing.
        """
        names = [name for name in cls.__dataclass_fields__ if name != "device"]
        return cls(device=DeviceInfo(**data["device"]), **{name: data[name] for name in names})


def _compiled_modules(model: SAM2Base) -> dict[str, nn.Module]:
    return {"image_encoder": model.image_encoder, "sam_mask_decoder": model.sam_mask_decoder}


def _config_digest(model: SAM2Base) -> str:
    """Of the plain attributes of every compiled module. How a mask is chosen is not part of the graphs."""
    digest = hashlib.sha256(str(model.num_feature_levels).encode())
    for part, whole in _compiled_modules(model).items():
        for name, module in whole.named_modules(prefix=part):
            options = {
                key: value
                for key, value in vars(module).items()
                if isinstance(value, bool | int | float | str | tuple | list)
                and not key.startswith(("_", "dynamic_multimask"))
            }
            digest.update(f"{name} {type(module).__name__} {sorted(options.items())}\n".encode())
    return digest.hexdigest()


def _weights_digest(model: SAM2Base) -> str:
    digest = hashlib.sha256()
    for part, whole in _compiled_modules(model).items():
        for name, value in whole.state_dict(prefix=f"{part}.").items():
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---------------------------------------------------------------- the parts as modules


class CompiledEncoder(ImageEncoder):
    """An image encoder whose pictures go through a compiled graph, one by one; it keeps its parameters."""

    def __init__(self, encoder: ImageEncoder, run: Run) -> None:
        super().__init__(encoder.trunk, encoder.neck, encoder.scalp)
        # in a tuple, which keeps a run that is itself a module from being registered
        self._runs = (run,)

    def forward(self, sample: Tensor, finish: Sequence[nn.Module] = ()) -> dict:
        """As of `ImageEncoder`; the graph has `finish` in it."""
        del finish
        by_picture = [self._runs[0](picture[None].float().contiguous()) for picture in sample]
        features = [torch.cat(level) if len(level) > 1 else level[0] for level in zip(*by_picture)]
        pos = [self.neck.position_encoding(f) for f in features]  # type: ignore[operator]
        return {"vision_features": features[-1], "vision_pos_enc": pos, "backbone_fpn": features}

    def __deepcopy__(self, memo: dict) -> CompiledEncoder:
        raise ValueError("a model with a bundle cannot be copied: build it again")

    def __reduce__(self) -> tuple:
        raise ValueError("a model with a bundle cannot be saved whole: save its state_dict()")


class CompiledDecoder(MaskDecoder):
    """A mask decoder whose masks come from a compiled graph, for any number of prompts of 1 to 512 tokens.

    Other prompts (a mask alone, or filled up to a fixed shape), and fine features of several pictures, take
    the plain layers.
    """

    def __init__(self, decoder: MaskDecoder, run: Run) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(vars(decoder))  # the same modules and options, in another class
        # in a tuple, which keeps a run that is itself a module from being registered
        self._runs = (run,)

    def prepare(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing: the graph takes the picture as it is."""

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        repeat_image: bool,
        high_res_features: list[Tensor] | None = None,
        picture: cpu_decoder.Picture | None = None,
        prompt_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As of `MaskDecoder`."""
        tokens = sparse_prompt_embeddings.shape[1]
        one_picture = high_res_features is not None and len(high_res_features[0]) == 1
        if not one_picture or prompt_mask is not None or not 1 <= tokens <= MOST_TOKENS:
            return super().predict_masks(
                image_embeddings,
                image_pe,
                sparse_prompt_embeddings,
                dense_prompt_embeddings,
                repeat_image,
                high_res_features,
                picture,
                prompt_mask,
            )
        assert high_res_features is not None
        inputs = (
            image_embeddings + dense_prompt_embeddings,
            image_pe,
            sparse_prompt_embeddings,
            *high_res_features,
        )
        masks, ious, mask_tokens, presence = self._runs[0](*(x.float().contiguous() for x in inputs))
        return masks, ious, mask_tokens, presence

    def __deepcopy__(self, memo: dict) -> CompiledDecoder:
        raise ValueError("a model with a bundle cannot be copied: build it again")

    def __reduce__(self) -> tuple:
        raise ValueError("a model with a bundle cannot be saved whole: save its state_dict()")


# ---------------------------------------------------------------- loading


def read_header(folder: Path) -> BundleHeader:
    """The header of a bundle.

    Raises:
        FileNotFoundError: no bundle there.
        ValueError: a damaged header, or one of another layout.
    """
    path = folder / HEADER
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no bundle in {str(folder)!r} (no {HEADER}): write one with `sam2 export --format aot`"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        layout = data["layout"]
        header = BundleHeader.from_json(data)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged: export the bundle again") from error
    if layout != LAYOUT:
        raise ValueError(f"the bundle {str(folder)!r} has layout {layout}, this package reads {LAYOUT}")
    return header


def use_bundle(model: SAM2Base, folder: Path) -> None:
    """Puts a bundle's parts in the place of the model's.

    Args:
        model: in evaluation mode, on the device that the bundle was made for.

    Raises:
        FileNotFoundError: no bundle there, or one with a part missing.
        ValueError: made for another card, PyTorch, configuration or weights; the message says which.
    """
    header = read_header(folder)
    if model.training:
        raise ValueError("a bundle is for a model in mode='eval'")
    differences = header.differences(BundleHeader.of(model, header.dtype))
    if differences:
        raise ValueError(
            f"the bundle {str(folder)!r} was made for something else: {'; '.join(differences)}. "
            "Make one here with `sam2 export --format aot`"
        )
    encoder, decoder = model.image_encoder, model.sam_mask_decoder
    assert isinstance(encoder, ImageEncoder)
    runs = [load_part(folder / name, model.device) for name in (ENCODER, DECODER)]
    model.image_encoder = CompiledEncoder(encoder, runs[0])
    model.sam_mask_decoder = CompiledDecoder(decoder, runs[1])


def load_part(path: Path, device: torch.device) -> Run:
    """A compiled part, without PyTorch's own check of the processor.

    That check, of which only a warning would come, compiles test programs with the C++ compiler at every
    first load and takes up to ten seconds (PyTorch's issue 191715); the header was compared already.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the bundle has no {path.name}: export it again")
    from torch.export.pt2_archive._package import AOTICompiledModel

    index = -1 if device.type == "cpu" else (device.index or 0)
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, index)
    return AOTICompiledModel(loader)
