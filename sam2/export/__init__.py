"""The model as files for other engines: ONNX and OpenVINO."""

from __future__ import annotations

from sam2.export.files import ExportOptions, export_model

__all__ = ["ExportOptions", "export_model"]
