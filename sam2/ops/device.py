"""What a device is: for reports, and to tell whether what was compiled for one runs on another."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class DeviceInfo:
    """A device as PyTorch sees it."""

    type: str
    """"cpu", "cuda" or "mps"."""
    name: str
    """The card or processor, as its maker calls it."""
    capability: str
    """CUDA's compute capability such as "9.0"; the vector units that PyTorch uses of a CPU."""
    runtime: str
    """What PyTorch was built for: CUDA's version, or the operating system and machine."""


def device_info(device: torch.device | str) -> DeviceInfo:
    """Describes a device that is usable here."""
    device = torch.device(device)
    machine = f"{platform.system()} {platform.machine()}"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        runtime = f"CUDA {torch.version.cuda}" if torch.version.hip is None else f"ROCm {torch.version.hip}"
        return DeviceInfo("cuda", torch.cuda.get_device_name(device), f"{major}.{minor}", runtime)
    if device.type == "cpu":
        return DeviceInfo("cpu", _processor(), torch.backends.cpu.get_cpu_capability(), machine)
    return DeviceInfo(device.type, platform.processor() or machine, "", machine)


def _processor() -> str:
    """The processor's name; Python's own answer is empty or too coarse on Linux."""
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_differences(made: DeviceInfo, here: DeviceInfo) -> list[str]:
    """What differs, a phrase each, such as "name 'A' (here 'B')"."""
    return [
        f"{key} {value!r} (here {asdict(here)[key]!r})"
        for key, value in asdict(made).items()
        if value != asdict(here)[key]
    ]
