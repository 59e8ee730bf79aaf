"""Weights on disk: official `.pt`, `.safetensors`, and the layout of the `transformers` package.

A file is told by its content, a layout by its keys. Reading never runs code from the file. Loading is
strict, and its errors name what differs and which configuration would fit.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from sam2.config import CONFIG_NAMES, instantiate, load_config

# Parameters that a still picture does not need; the image model of transformers leaves them out.
MEMORY_PARTS = (
    "memory_attention.",
    "memory_encoder.",
    "mask_downsample.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that does not belong to the model."""


# ---------------------------------------------------------------- reading


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint on the CPU, under their official names.

    `path` is a file, or a folder that `transformers` saved (its `model.safetensors` is read). The tensors
    may be views of the memory-mapped file: copy them before writing to it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is empty, truncated, corrupt, of another format, or holds anything that is
            not a table of floating-point tensors. Pickled objects are refused, not run.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {str(file)!r}")
    with open(file, "rb") as stream:
        head = stream.read(64)
    if not head:
        raise CheckpointError(f"the checkpoint {str(file)!r} is empty: fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{str(file)!r} is a Git LFS pointer, not the weights: run `git lfs pull`")
    try:
        content = _read_safetensors(file) if head[8:9] == b"{" else _read_pickle(file, head)
    except Exception as error:  # a damaged file can fail anywhere inside the readers
        raise CheckpointError(
            f"cannot read the checkpoint {str(file)!r}: it is damaged, incomplete, or no checkpoint "
            f"({type(error).__name__}: {_short(error)})"
        ) from error
    tensors = _tensor_table(content, file)
    return from_transformers(tensors) if is_transformers_layout(tensors) else tensors


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


def _read_pickle(file: Path, head: bytes) -> object:
    zipped = head.startswith(b"PK")
    if not zipped and head[:1] != b"\x80":
        raise ValueError("neither a torch archive nor safetensors")
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "…"


def _tensor_table(content: object, file: Path) -> dict[str, Tensor]:
    """The state dict inside a loaded file: under "model", or the whole of it."""
    table = content
    if isinstance(table, Mapping) and isinstance(table.get("model"), Mapping):
        table = table["model"]
    if not isinstance(table, Mapping) or not table:
        raise CheckpointError(f"{str(file)!r} holds no state dict but {type(content).__name__}")
    for name, value in table.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{str(file)!r} holds no state dict, neither at the top nor under 'model': "
                f"{name!r} is {type(value).__name__}, not a tensor"
            )
        if not value.is_floating_point():
            raise CheckpointError(f"{str(file)!r}: {name!r} is {value.dtype}; weights are floating point")
    return dict(table)


# ---------------------------------------------------------------- the layout of transformers

_MLP_OWNERS = r"(.*\.mlp|.*output_hypernetworks_mlps\.\d+|.*_head|obj_ptr_proj)"
# Applied in this order to each name of `Sam2Model` and `Sam2VideoModel`.
_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), official)
    for pattern, official in (
        (r"^no_memory_embedding$", "no_mem_embed"),
        (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
        (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
        (r"^no_object_pointer$", "no_obj_ptr"),
        (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
        (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
        (r"^object_pointer_proj\.", "obj_ptr_proj."),
        (
            r"^(shared_image_embedding|prompt_encoder\.shared_embedding)\.positional_embedding$",
            "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
        (r"^vision_encoder\.backbone\.patch_embed\.projection\.", "image_encoder.trunk.patch_embed.proj."),
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
        (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"^prompt_encoder\.mask_embed\.conv1\.", "sam_prompt_encoder.mask_downscaling.0."),
        (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "sam_prompt_encoder.mask_downscaling.1."),
        (r"^prompt_encoder\.mask_embed\.conv2\.", "sam_prompt_encoder.mask_downscaling.3."),
        (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "sam_prompt_encoder.mask_downscaling.4."),
        (r"^prompt_encoder\.mask_embed\.conv3\.", "sam_prompt_encoder.mask_downscaling.6."),
        (r"^prompt_encoder\.", "sam_prompt_encoder."),
        (r"^mask_decoder\.upscale_conv1\.", "sam_mask_decoder.output_upscaling.0."),
        (r"^mask_decoder\.upscale_layer_norm\.", "sam_mask_decoder.output_upscaling.1."),
        (r"^mask_decoder\.upscale_conv2\.", "sam_mask_decoder.output_upscaling.3."),
        (r"^mask_decoder\.", "sam_mask_decoder."),
        (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
        (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
        (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
        (r"(^memory_encoder\.fuser\.layers\.\d+)\.scale$", r"\1.gamma"),
        (r"\.depthwise_conv\.", ".dwconv."),
        (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
        (r"\.o_proj\.", ".out_proj."),
        (r"\.layer_norm", ".norm"),
    )
)


def is_transformers_layout(names: Iterable[str]) -> bool:
    """Whether state-dict names are those of `Sam2Model` or `Sam2VideoModel` of `transformers`."""
    return any(name.startswith("vision_encoder.") for name in names)


def from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of `Sam2Model` or `Sam2VideoModel` under the official names.

    Names that are not known keep theirs, so that a strict load names them.
    """
    official: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name == "prompt_encoder.point_embed.weight":
            rows = {
                f"sam_prompt_encoder.point_embeddings.{i}.weight": row[None] for i, row in enumerate(value)
            }
            official |= rows
            continue
        renamed = name
        for pattern, replacement in _RENAMES:
            renamed = pattern.sub(replacement, renamed)
        official[_mlp_layer(_mask_downsampler_layer(renamed, tensors), name, tensors)] = value
    return official


def _mlp_layer(renamed: str, name: str, tensors: Mapping[str, Tensor]) -> str:
    """proj_in, layers.0 … layers.n-1, proj_out become layers.0 … layers.n+1."""
    match = re.fullmatch(_MLP_OWNERS + r"\.(proj_in|proj_out|layers\.(\d+))\.(weight|bias)", renamed)
    if match is None:
        return renamed
    if match[2] == "proj_in":
        index = 0
    elif match[2] == "proj_out":
        owner = name.rsplit(".proj_out.", 1)[0]
        index = 1 + sum(key.startswith(f"{owner}.layers.") and key.endswith(".weight") for key in tensors)
    else:
        index = int(match[3]) + 1
    return f"{match[1]}.layers.{index}.{match[4]}"


def _mask_downsampler_layer(renamed: str, tensors: Mapping[str, Tensor]) -> str:
    """Each convolution, its norm and its activation take three places in the official sequence."""
    prefix = "memory_encoder.mask_downsampler."
    if not renamed.startswith(prefix):
        return renamed
    match = re.fullmatch(r"layers\.(\d+)\.(conv|norm)\.(weight|bias)", renamed.removeprefix(prefix))
    if match:
        return f"{prefix}encoder.{3 * int(match[1]) + (match[2] == 'norm')}.{match[3]}"
    count = sum(key.startswith(f"{prefix}layers.") and key.endswith(".conv.weight") for key in tensors)
    return renamed.replace("final_conv", f"encoder.{3 * count}")


# ---------------------------------------------------------------- loading


def load_checkpoint(model: nn.Module, path: str | os.PathLike[str], image_only: bool = False) -> None:
    """Copies a checkpoint into `model`, cast to the model's dtypes and devices. Strict.

    Args:
        image_only: a file without any memory weights (`Sam2Model` of transformers) will do; the model's
            memory parts then keep the values they have.

    Raises:
        FileNotFoundError, CheckpointError: see `read_state_dict`; or names or shapes differ from the model's:
            the first few are named, with the packaged configuration that fits the file, if one does. The
            model is then unchanged.
    """
    tensors = read_state_dict(path)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    without_memory = not any(name.startswith(MEMORY_PARTS) for name in given)
    if image_only and without_memory:
        wanted = _image_part(wanted)
    if given != wanted:
        raise CheckpointError(_mismatch(path, given, wanted, without_memory))
    with torch.no_grad():
        model.load_state_dict(tensors, strict=False)


def _image_part(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if not name.startswith(MEMORY_PARTS)}


def _mismatch(
    path: str | os.PathLike[str],
    given: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    without_memory: bool,
) -> str:
    def some(names: list[str]) -> str:
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    parts = []
    if missing := [name for name in wanted if name not in given]:
        parts.append(f"the file lacks {some(missing)}")
    if unexpected := [name for name in given if name not in wanted]:
        parts.append(f"the model has no {some(unexpected)}")
    other = [
        f"{name} ({given[name]}, model {wanted[name]})"
        for name in wanted
        if given.get(name, wanted[name]) != wanted[name]
    ]
    if other:
        parts.append(f"shapes differ: {some(other)}")
    fitting = fitting_config(given)
    if fitting and without_memory and _image_part(wanted) == given:
        advice = "it holds the image model alone; tracking needs the memory weights of the video model's file"
    elif fitting:
        advice = f"it fits the configuration {fitting!r}"
    else:
        advice = "it fits none of the packaged configurations"
    return f"the checkpoint {os.fspath(path)!r} does not belong to this model: {'; '.join(parts)}. {advice}"


@cache
def config_shapes(config: str) -> Mapping[str, tuple[int, ...]]:
    """{state-dict name: shape} of a packaged configuration; nothing is allocated."""
    with torch.device("meta"):
        model = instantiate(load_config(config))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def fitting_config(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The packaged configuration with these state-dict names and shapes, or None.

    Without memory weights, SAM 2 and 2.1 do not differ, and 2.1 is named.
    """
    without_memory = not any(name.startswith(MEMORY_PARTS) for name in shapes)
    for config in CONFIG_NAMES:
        wanted = config_shapes(config)
        if shapes == (_image_part(wanted) if without_memory else wanted):
            return config
    return None


# ---------------------------------------------------------------- writing


def save_checkpoint(model: nn.Module, path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
    """Writes the state dict as `{"model": …}` (`.pt`, `.pth`) or as `.safetensors`, by the file's ending.

    The file appears whole or not at all: it is written beside its place and then renamed. `dtype` (float16,
    say) shrinks the file; loading casts back.

    Raises:
        CheckpointError: another ending, or a folder that is not there.
    """
    file = Path(path)
    if file.suffix not in (".pt", ".pth", ".safetensors"):
        raise CheckpointError(f"cannot tell the format of {str(file)!r}: end it in .pt or .safetensors")
    if not file.parent.is_dir():
        raise CheckpointError(f"cannot write {str(file)!r}: there is no folder {str(file.parent)!r}")
    tensors = {
        name: value.detach().to("cpu", dtype or value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.touch()
        usual = temporary.stat().st_mode  # safetensors makes files that their owner alone may read
        if file.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            torch.save({"model": tensors}, temporary)
        temporary.chmod(usual)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
