"""The model as files for other engines: ONNX, OpenVINO, and compiled ahead of time."""

from __future__ import annotations

from sam2.export.aot import export_bundle
from sam2.export.files import ExportOptions, export_model

__all__ = ["ExportOptions", "export_bundle", "export_model"]
