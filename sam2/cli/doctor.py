"""`sam2 doctor`: whether this installation is sound, and which precisions agree with float32 here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from sam2.cli.arguments import add_verb

if TYPE_CHECKING:
    from sam2.doctor import Finding

_EXAMPLE = """\
examples:
  sam2 doctor
  sam2 doctor --mode plain,static --json
  sam2 doctor --device cuda:0 --precision float32,bfloat16
"""
_PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
_MODES = ("plain", "static", "compiled")
FAULT = 1


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "doctor",
        "check this installation, its devices and precisions",
        "Lists what this machine has, checks that the packaged weights load and answer, and runs a small\n"
        "model on every device in every precision against float32 on the CPU: as it comes, in fixed shapes\n"
        "(CUDA graphs), and compiled. The exit status is 1 where a combination fails or deviates that\n"
        "should agree. Compiling may take minutes: `--mode plain,static` leaves it out.",
        _EXAMPLE,
    )
    parser.add_argument(
        "--device", action="append", metavar="NAME", help="repeatable; default: the CPU and all there are"
    )
    parser.add_argument(
        "--precision",
        type=_some_of(_PRECISIONS),
        default=_PRECISIONS,
        metavar="NAME[,NAME]",
        help=", ".join(_PRECISIONS),
    )
    parser.add_argument(
        "--mode", type=_some_of(_MODES), default=_MODES, metavar="NAME[,NAME]", help=", ".join(_MODES)
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.set_defaults(run=run)


def _some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def run(args: argparse.Namespace) -> int:
    """Checks, prints as it goes, and sums up."""
    import json

    from sam2.doctor import check, check_weights, environment

    around = environment()
    here = [device["device"] for device in around["devices"]]
    kinds = [kind for kind in ("cuda", "mps") if not any(name.startswith(kind) for name in here)]
    asked = args.device or [*here, *kinds]  # what is not here is named too
    if not args.json:
        _print_environment(around)
    findings = []
    for finding in chain(
        (check_weights(name) for name in asked if name in here), check(asked, args.precision, args.mode)
    ):
        findings.append(finding)
        if not args.json:
            _print_finding(finding)
    faults = sum(finding.is_fault for finding in findings)
    if args.json:
        report = {**around, "findings": [finding.to_json() for finding in findings], "faults": faults}
        print(json.dumps(report, indent=2))
    else:
        print(f"\n{faults or 'no'} fault{'' if faults == 1 else 's'}")
    return FAULT if faults else 0


def _print_environment(around: dict[str, Any]) -> None:
    print(f"sam2 {around['sam2']}, Python {around['python']}, {around['system']}")
    cuda = f"CUDA {around['cuda']}, cuDNN {around['cudnn']}" if around["cuda"] else "built without CUDA"
    print(f"PyTorch {around['torch']} ({cuda}), {around['threads']} of {around['processors']} threads")
    print(f"NVIDIA driver: {around['driver'] or 'none'}; C++ compiler: {around['cpp_compiler'] or 'none'}")
    for device in around["devices"]:
        memory = f", {device['memory'] / 2**30:.0f} GiB" if device["memory"] else ""
        print(f"device {device['device']}: {device['name']} ({device['capability']}{memory})")
    there = [f"{name} {version}" for name, version in around["packages"].items() if version]
    missing = [name for name, version in around["packages"].items() if not version]
    print(f"packages: {', '.join(there)}")
    print(f"not installed: {', '.join(missing) or 'none'}\n")


def _print_finding(finding: Finding) -> None:
    head = f"{finding.device:<8}{finding.precision:<10}{finding.mode:<18}{finding.verdict:<10}"
    parts = [
        f"{name} {d.max:.1e} (mean {d.mean:.1e}{'' if d.mask_iou is None else f', IoU {d.mask_iou:.3f}'})"
        for name, d in (finding.deviations or {}).items()
    ]
    print(head + (finding.reason or "; ".join(parts)), flush=True)
