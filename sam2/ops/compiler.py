"""Whether PyTorch's compilers can run here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys


def cpp_compiler() -> str | None:
    """The C++ compiler that PyTorch would take: CXX, or the first of the usual names; None without one."""
    named = os.environ.get("CXX")
    for name in (named,) if named else ("g++", "clang++", "c++"):
        found = shutil.which(name)
        if found is not None:
            return found
    return None


def compile_obstacle(device_type: str) -> str | None:
    """Why PyTorch's compiler cannot compile for a device, with the mend; None where it can."""
    if cpp_compiler() is None and sys.platform != "win32":
        return (
            "there is no C++ compiler: install g++ (`apt-get install g++`), or name one in the environment "
            "variable CXX"
        )
    if device_type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton, which compiles for the card, is not installed: pip install triton"
    if device_type not in ("cpu", "cuda"):
        return f"compiling for {device_type} is not supported by this package"
    return None
