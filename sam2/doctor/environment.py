"""What this machine has: PyTorch, devices, threads, the packages that extras bring."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sam2 import __version__
from sam2.ops.compiler import cpp_compiler
from sam2.ops.device import device_info

PACKAGES = (
    *("numpy", "pillow", "scipy", "av", "safetensors", "huggingface_hub"),
    *("triton", "openvino", "nncf", "onnx", "onnxruntime", "onnxscript", "fastapi", "uvicorn", "tensorboard"),
)


def environment() -> dict[str, Any]:
    """Versions, devices and threads; a package that is missing has the version None."""
    return {
        "sam2": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
        "driver": _driver(),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "cpp_compiler": cpp_compiler(),
        "devices": devices(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def devices() -> list[dict[str, Any]]:
    """Every device that PyTorch sees: its name there, what it is, and its memory in bytes (None: unknown)."""
    found = [_device("cpu", None)]
    for index in range(torch.cuda.device_count()):
        found.append(_device(f"cuda:{index}", torch.cuda.get_device_properties(index).total_memory))
    if torch.backends.mps.is_available():
        found.append(_device("mps", None))
    return found


def _device(name: str, memory: int | None) -> dict[str, Any]:
    return {"device": name, **asdict(device_info(name)), "memory": memory}


def _driver() -> str | None:
    """NVIDIA's driver, as its kernel module says; None without one."""
    listed = Path("/proc/driver/nvidia/version")
    if not listed.is_file():
        return None
    return listed.read_text(errors="replace").splitlines()[0].partition(":")[2].strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
