"""Export formats, one registry for the command and the studio: frames in, one after another, files out.

``FORMATS`` and ``describe`` say what there is, ``export`` writes one of them. Names resolve when first used,
so that the help of a command needs no codec.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2.formats.folder import OutputFolder
    from sam2.formats.frames import Found, FrameMasks, Marks, ObjectInfo, Source
    from sam2.formats.registry import FORMATS, ExportFormat, Writer, describe, find
    from sam2.formats.writing import export

_PLACES = {
    "FORMATS": "registry",
    "ExportFormat": "registry",
    "Found": "frames",
    "FrameMasks": "frames",
    "Marks": "frames",
    "ObjectInfo": "frames",
    "OutputFolder": "folder",
    "Source": "frames",
    "Writer": "registry",
    "describe": "registry",
    "export": "writing",
    "find": "registry",
}

__all__ = [
    "FORMATS",
    "ExportFormat",
    "Found",
    "FrameMasks",
    "Marks",
    "ObjectInfo",
    "OutputFolder",
    "Source",
    "Writer",
    "describe",
    "export",
    "find",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"sam2.formats.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'sam2.formats' has no attribute {name!r}")
