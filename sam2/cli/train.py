"""`sam2 train`: promptable segmentation training, as one YAML file describes it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam2.cli.arguments import add_verb

_EXAMPLE = """\
examples:
  sam2 train run.yaml
  sam2 train run.yaml --resume
  sam2 train run.yaml --set optim.lr=1e-4 --set data.0.batch=8
  torchrun --nproc-per-node 2 -m sam2 train run.yaml

docs/training.md shows a run file.
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "train",
        "train a model as a YAML file says",
        "Trains for promptable segmentation of pictures and videos. Ctrl-C saves first; --resume goes on.",
        _EXAMPLE,
    )
    add_run(parser)
    parser.set_defaults(run=run)


def add_run(parser: argparse.ArgumentParser) -> None:
    """What all verbs take whose work a run file describes."""
    parser.add_argument("file", type=Path, metavar="RUN.yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="repeatable; an option in place of the file's: optim.lr=1e-4, data.0.batch=8",
    )


def run(args: argparse.Namespace) -> int:
    """Reads the options, trains, says where it ended."""
    from sam2.training.options import RunOptions
    from sam2.training.run import train

    return follow(args, RunOptions, train)


def follow(args: argparse.Namespace, kind: type[Any], start: Callable[[Any, bool], Any]) -> int:
    """Carries out a run and tells how it ended; 130 where a signal stopped it."""
    from sam2.training.loop import TrainingFailedError
    from sam2.training.options import read_file

    options = read_file(kind, args.file, args.changes)
    try:
        summary = start(options, args.resume)
    except TrainingFailedError as error:
        print(f"sam2: error: {error}", file=sys.stderr)
        return 1
    if os.environ.get("RANK", "0") == "0":
        weights = Path(options.out) / "model.safetensors"
        if summary.finished:
            print(f"finished at step {summary.step}; weights: {weights}")
        else:
            print(f"stopped at step {summary.step} of {options.steps}; --resume goes on; weights: {weights}")
    return 130 if summary.interrupted and not summary.finished else 0
