"""Builders: a configuration and a checkpoint become a model on a device.

With no argument they give the packaged default model with its weights. Hub ids are looked up in the hub's
cache first, so that what was fetched once works offline.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sam2.checkpoint import CheckpointError, fitting_config, load_checkpoint, read_state_dict
from sam2.config import SHORT_NAMES, find_config, instantiate, load_config, nearest

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base
    from sam2.sam2_camera_predictor import SAM2CameraPredictor
    from sam2.sam2_video_predictor import SAM2VideoPredictor

WEIGHTS_ROOT = Path(__file__).parent / "weights"

_STABILITY = (
    # a single mask that is unstable around the threshold gives way to the best of the three candidates
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
)
_VIDEO_POSTPROCESSING = (
    *_STABILITY,
    # what the user clicked enters memory as the hard mask that the user saw
    "++model.binarize_mask_from_pts_for_mem_enc=true",
    "++model.fill_hole_area=8",
)


# ---------------------------------------------------------------- what there is


@dataclass(frozen=True)
class ModelInfo:
    """A model that the package knows by name."""

    name: str
    """The short name, such as "tiny" or "sam2-large"."""
    config: str
    """The configuration, relative to the package."""
    hub_id: str | None
    """The repository on the Hugging Face hub; None for the packaged model."""
    checkpoint: str
    """The name of the weights file, in that repository or in sam2/weights."""
    parameters: int
    """How many parameters it has."""
    description: str
    """One line for people."""

    def local_checkpoint(self) -> Path | None:
        """The weights file on this machine (packaged, or in the hub's cache), or None. Never fetches."""
        if self.hub_id is None:
            path = WEIGHTS_ROOT / self.checkpoint
            return path if path.is_file() else None
        return _cached(self.hub_id, self.checkpoint)


def _official(family: str, size: str, parameters: int) -> ModelInfo:
    hub_size = size.replace("_", "-")
    name = hub_size if family == "sam2.1" else f"{family}-{hub_size}"
    title = "SAM 2.1" if family == "sam2.1" else "SAM 2"
    return ModelInfo(
        name=name,
        config=SHORT_NAMES[name],
        hub_id=f"facebook/{family}-hiera-{hub_size}",
        checkpoint=f"{family}_hiera_{size}.pt",
        parameters=parameters,
        description=f"{title} {hub_size}, trained by Meta on SA-1B and SA-V",
    )


DEFAULT_MODEL = ModelInfo(
    name="mini",
    config=SHORT_NAMES["mini"],
    hub_id=None,
    checkpoint="mini.safetensors",
    parameters=8_740_290,
    description="the packaged default, small and trained on generated scenes; works offline",
)
MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        DEFAULT_MODEL,
        _official("sam2.1", "tiny", 38_962_498),
        _official("sam2.1", "small", 46_060_354),
        _official("sam2.1", "base_plus", 80_850_178),
        _official("sam2.1", "large", 224_446_642),
        _official("sam2", "tiny", 38_945_986),
        _official("sam2", "small", 46_043_842),
        _official("sam2", "base_plus", 80_833_666),
        _official("sam2", "large", 224_430_130),
    )
}
HF_MODEL_ID_TO_FILENAMES: dict[str, tuple[str, str]] = {
    info.hub_id: (info.config, info.checkpoint) for info in MODELS.values() if info.hub_id is not None
}


def resolve_model(name: str | os.PathLike[str] | None = None) -> tuple[str, str | None]:
    """(configuration, checkpoint) of a model, for the builders.

    Args:
        name: None for the default model; a name of `MODELS` or another short name of `sam2.config`; a hub id;
            the path of a checkpoint (its configuration is found by its keys and shapes); or a configuration
            file, which has no checkpoint (None is returned for it).

    Raises:
        ValueError: no such name, or a checkpoint that fits no packaged configuration.
        FileNotFoundError: the weights are not on this machine and cannot be fetched.
    """
    if name is None:
        return DEFAULT_MODEL.config, str(_default_weights())
    text = os.fspath(name)
    if text in HF_MODEL_ID_TO_FILENAMES:
        return _hf_download(text)
    if text in SHORT_NAMES:
        config = SHORT_NAMES[text]
        info = next(info for info in MODELS.values() if info.config == config)
        return resolve_model(None) if info.hub_id is None else _hf_download(info.hub_id)
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        return str(find_config(name)), None
    if path.exists() or path.suffix in (".pt", ".pth", ".safetensors"):
        return _config_of(path), text
    known = [*SHORT_NAMES, *HF_MODEL_ID_TO_FILENAMES]
    raise ValueError(
        f"unknown model {text!r}{nearest(text, known)} "
        f"(known: {', '.join(MODELS)}, the hub ids facebook/sam2…, or the path of a checkpoint)"
    )


def _config_of(ckpt_path: str | os.PathLike[str]) -> str:
    """The packaged configuration that a checkpoint fits."""
    fitting = fitting_config({name: tuple(value.shape) for name, value in read_state_dict(ckpt_path).items()})
    if fitting is None:
        raise CheckpointError(
            f"the checkpoint {os.fspath(ckpt_path)!r} fits no packaged configuration: name its own too"
        )
    return fitting


# ---------------------------------------------------------------- builders


def build_sam2(
    config_file: str | os.PathLike[str] | None = None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    backend: str | os.PathLike[str] = "torch",
    **kwargs: Any,
) -> SAM2Base:
    """The model for still pictures, in float32.

    Args:
        config_file: a packaged name, with or without folder and ".yaml", or a file (see
            `sam2.config.find_config`). None: the one that fits `ckpt_path`; without that either, the default
            model with its weights.
        ckpt_path: weights in any layout of `sam2.checkpoint`. None with a `config_file`: random weights.
        device: None takes CUDA, else MPS, else the CPU.
        mode: "eval" or "train".
        hydra_overrides_extra: override strings (`sam2.config.load_config`); they win over post-processing's.
        apply_postprocessing: replace an unstable single mask by the best of the three candidates.
        backend: who runs the image encoder: "torch"; "openvino", on the CPU; an encoder that `sam2 export`
            wrote, by the path of its .xml file; or, with the mask decoder, "aot:FOLDER", what
            `sam2 export --format aot` wrote for this card.
        kwargs: ignored, as published code may hand on more than a builder takes; a warning names those that
            no builder knows.

    Raises:
        ValueError: unknown configuration, override, mode, device or backend; a checkpoint of another model.
        FileNotFoundError: no such checkpoint, or an installation without the default model's weights.
    """
    _warn_of_unknown(kwargs)
    overrides = [*(_STABILITY if apply_postprocessing else ()), *_override_list(hydra_overrides_extra)]
    return _build(config_file, ckpt_path, device, mode, overrides, image_only=True, backend=backend)


def build_sam2_video_predictor(
    config_file: str | os.PathLike[str] | None = None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    backend: str | os.PathLike[str] = "torch",
    dtype: torch.dtype | None = None,
    static: bool = False,
    compile: bool = False,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """The model for videos; arguments and errors as in `build_sam2`.

    Args:
        apply_postprocessing: as there; also, clicked masks enter memory as hard masks, and holes of up to 8
            pixels of the low-resolution mask are filled.
        vos_optimized: as `compile`, by its published name.
        dtype: precision in which the model runs: torch.float32, torch.bfloat16 or torch.float16; None leaves
            a caller's autocast in force.
        static: run in a few fixed shapes, on a GPU as CUDA graphs.
        compile: that, with modules compiled by torch.compile. Compiling takes minutes: before the first
            video, or when `SAM2VideoPredictor.warm_up` is called.

    Raises:
        CompileError: `compile` where torch.compile cannot run; a missing compiler shows when warming up.
    """
    _warn_of_unknown(kwargs)
    compiled = compile or vos_optimized
    target = "SAM2VideoPredictorVOS" if compiled else "SAM2VideoPredictor"
    overrides = [
        f"++model._target_=sam2.sam2_video_predictor.{target}",
        *(_VIDEO_POSTPROCESSING if apply_postprocessing else ()),
        *_override_list(hydra_overrides_extra),
    ]
    model = _build(config_file, ckpt_path, device, mode, overrides, image_only=False, backend=backend)
    model.dtype, model.static = dtype, static or compiled
    return model


def build_sam2_camera_predictor(
    config_file: str | os.PathLike[str] | None = None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    backend: str | os.PathLike[str] = "torch",
    dtype: torch.dtype | None = None,
    static: bool = False,
    compile: bool = False,
    **kwargs: Any,
) -> SAM2CameraPredictor:
    """The model for frames that come one by one; arguments and errors as in `build_sam2_video_predictor`."""
    _warn_of_unknown(kwargs)
    overrides = [
        "++model._target_=sam2.sam2_camera_predictor.SAM2CameraPredictor",
        *(_VIDEO_POSTPROCESSING if apply_postprocessing else ()),
        *_override_list(hydra_overrides_extra),
    ]
    model = _build(config_file, ckpt_path, device, mode, overrides, image_only=False, backend=backend)
    model.dtype, model.static = dtype, static
    if compile:
        model.optimize()
    return model


def build_sam2_hf(model_id: str, **kwargs: Any) -> SAM2Base:
    """`build_sam2` for an official hub id such as "facebook/sam2.1-hiera-large".

    Raises:
        ValueError: an unknown id; FileNotFoundError: not in the hub's cache and not to be fetched.
    """
    config_file, ckpt_path = _hf_download(model_id)
    return build_sam2(config_file=config_file, ckpt_path=ckpt_path, **kwargs)


def build_sam2_video_predictor_hf(model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
    """`build_sam2_video_predictor` for an official hub id; errors as in `build_sam2_hf`."""
    config_file, ckpt_path = _hf_download(model_id)
    return build_sam2_video_predictor(config_file=config_file, ckpt_path=ckpt_path, **kwargs)


def _warn_of_unknown(given: Iterable[str]) -> None:
    """Warns of keywords that no builder takes: a misspelt one would change nothing in silence."""
    builders = (build_sam2, build_sam2_video_predictor, build_sam2_camera_predictor)
    known = {name for builder in builders for name in inspect.signature(builder).parameters} - {"kwargs"}
    for name in given:
        if name not in known:
            warnings.warn(
                f"the builder's argument {name!r} is unknown and ignored{nearest(name, sorted(known))}",
                stacklevel=3,
            )


def _override_list(overrides: Sequence[str]) -> list[str]:
    if isinstance(overrides, str):
        raise ValueError(f"hydra_overrides_extra is a list of strings: write [{overrides!r}]")
    return list(overrides)


def _build(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None,
    device: str | torch.device | None,
    mode: str,
    overrides: Sequence[str],
    image_only: bool,
    backend: str | os.PathLike[str],
) -> Any:
    if mode not in ("eval", "train"):
        raise ValueError(f"mode is 'eval' or 'train', not {mode!r}")
    on_any_device = os.fspath(backend) == "torch" or os.fspath(backend).startswith("aot:")
    target_device = _pick_device("cpu" if device is None and not on_any_device else device)
    if config_file is None:
        config_file, ckpt_path = resolve_model() if ckpt_path is None else (_config_of(ckpt_path), ckpt_path)
    model = instantiate(load_config(config_file, overrides))
    if ckpt_path is not None:
        load_checkpoint(model, ckpt_path, image_only=image_only)
    model = model.to(target_device)
    model = model.eval() if mode == "eval" else model.train()
    if os.fspath(backend) != "torch":
        from sam2.backend import use_backend  # which loads the modules of the model

        use_backend(model, backend)
    return model


def _pick_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}: say 'cuda', 'mps' or 'cpu', or leave it out") from error
    usable: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if picked.type in usable and not usable[picked.type]():
        raise ValueError(f"device {str(picked)!r} is not usable here: leave it out, or pass device='cpu'")
    return picked


# ---------------------------------------------------------------- weights


def _load_checkpoint(model: nn.Module, ckpt_path: str | os.PathLike[str] | None) -> None:
    """Loads `ckpt_path` into `model`, strictly; nothing happens for None."""
    if ckpt_path is not None:
        load_checkpoint(model, ckpt_path)


def _default_weights() -> Path:
    path = DEFAULT_MODEL.local_checkpoint()
    if path is None:
        raise FileNotFoundError(
            f"the default model's weights are missing from this installation "
            f"({WEIGHTS_ROOT / DEFAULT_MODEL.checkpoint}): reinstall the package, or name a configuration "
            f"and a checkpoint (a configuration alone, such as 'mini', gives random weights)"
        )
    return path


def _hf_download(model_id: str) -> tuple[str, str]:
    """(configuration, checkpoint file) of a hub id: from the hub's cache, fetched only if it is not there.

    The cached `model.safetensors` of the same repository serves where the `.pt` is not cached.
    """
    if model_id not in HF_MODEL_ID_TO_FILENAMES:
        known = HF_MODEL_ID_TO_FILENAMES
        raise ValueError(
            f"unknown model id {model_id!r}{nearest(str(model_id), known)} (known: {', '.join(known)})"
        )
    config_name, filename = HF_MODEL_ID_TO_FILENAMES[model_id]
    cached = _cached(model_id, filename)
    if cached is not None:
        return config_name, str(cached)
    import huggingface_hub

    try:
        return config_name, huggingface_hub.hf_hub_download(repo_id=model_id, filename=filename)
    except Exception as error:  # the hub's client raises its own, requests', httpx' and OS errors
        raise FileNotFoundError(
            f"{filename} of {model_id} is not in the hub's cache and could not be fetched "
            f"({type(error).__name__}). On a machine with a network run `hf download {model_id} {filename}`, "
            f"and copy the cache (HF_HOME) here; or pass the file's path as ckpt_path with {config_name!r}"
        ) from error


def _cached(repo_id: str, filename: str) -> Path | None:
    import huggingface_hub

    for name in (filename, "model.safetensors"):
        path = huggingface_hub.try_to_load_from_cache(repo_id, name)
        if isinstance(path, str):
            return Path(path)
    return None
