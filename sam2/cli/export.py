"""`sam2 export`: a model as files for OpenVINO or ONNX Runtime, or compiled ahead of time."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2.cli.arguments import add_model, add_verb, at_least

_EXAMPLE = """\
examples:
  sam2 export --precision int8 --out out/int8
  sam2 segment photo.jpg --point 420,310 --backend out/int8/encoder.xml
  sam2 export --format onnx --out out/onnx
  sam2 export --format aot --precision bfloat16 --out out/bundle
  sam2 segment photo.jpg --point 420,310 --backend aot:out/bundle
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "export",
        "write a model for OpenVINO or ONNX Runtime, or compiled ahead of time",
        "Writes the image encoder and the mask decoder as graphs, and says how far they are from PyTorch.\n"
        "OpenVINO and ONNX are for the CPU. `--format aot` compiles for the device at hand, which takes\n"
        "minutes; what it writes loads in seconds, on that card under that PyTorch alone.",
        _EXAMPLE,
    )
    add_model(parser)
    parser.add_argument("--format", default="openvino", choices=("openvino", "onnx", "aot"))
    parser.add_argument("--aot", dest="format", action="store_const", const="aot", help="as --format aot")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="of the encoder; with aot, of both parts",
    )
    parser.add_argument(
        "--calibration-pictures",
        type=at_least(1),
        default=24,
        metavar="N",
        help="generated pictures that calibrate int8; default: 24",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exports, and prints what export.json says."""
    import json

    from sam2.cli.load import choose_model
    from sam2.export import ExportOptions, export_bundle, export_model

    if args.format == "aot":
        report = export_bundle(choose_model(args.model, args.device).image_model(), args.out, args.precision)
    else:
        options = ExportOptions(args.format, args.precision, args.calibration_pictures)
        report = export_model(choose_model(args.model, args.device or "cpu").image_model(), args.out, options)
    print(json.dumps(report, indent=2))
    return 0
