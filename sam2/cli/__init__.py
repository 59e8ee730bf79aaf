"""The command `sam2`: one module a verb, each importing what is heavy only when it runs."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from sam2 import __version__
from sam2.cli import (
    auto,
    data,
    doctor,
    evaluate,
    export,
    finetune,
    models,
    pretrain,
    segment,
    studio,
    track,
    train,
)
from sam2.cli.arguments import Parser, join_negative_values

__all__ = ["main"]

_EPILOG = """\
examples:
  sam2 segment photo.jpg --point 420,310
  sam2 track clip.mp4 --box 80,60,240,200 --out out/clip
  sam2 models

`sam2 VERB --help` says what each verb takes.
"""

USER_ERROR, FAULT, INTERRUPTED = 2, 1, 130
SPINS = 3000
"""How often a thread of GNU's OpenMP (PyTorch's on Linux) looks whether the others are done before it sleeps.
By default 300,000 times: where another program has one of the cores, the thread that lost its
place waits for it each time, and two threads take ten times as long as one (`bench/busy.py`)."""


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options; imports nothing heavy."""
    parser = Parser(
        prog="sam2",
        description="SAM 2: cut objects out of pictures and follow them through videos.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sam2 {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, dest="verb")
    for verb in (
        segment,
        auto,
        track,
        studio,
        models,
        doctor,
        export,
        finetune,
        train,
        pretrain,
        evaluate,
        data,
    ):
        verb.add_to(verbs)
    return parser


def _wait_asleep() -> None:
    """Sets `SPINS`, unless the user says how threads wait, or PyTorch has read it already."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: done; 2: the user's input cannot be used, one line on stderr says why; 1: a fault of the machine or of
    this package; 130: stopped by Ctrl-C. `--debug` shows the traceback of an error.
    """
    _wait_asleep()
    given = sys.argv[1:] if argv is None else argv
    args = build_parser().parse_args(join_negative_values(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            status = args.run(args)
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            print("sam2: interrupted; nothing was written", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # whoever read our output has gone; nothing more may be written to it, not even at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAULT
        except Exception as error:
            if args.debug:
                traceback.print_exc()
            return _report(error)


def _report(error: Exception) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ValueError | OSError):
        print(f"sam2: error: {text}", file=sys.stderr)
        return USER_ERROR
    if isinstance(error, MemoryError) or "out of memory" in text:
        text = f"out of memory; try a smaller --model, or --device cpu ({text})"
    else:
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    print(f"sam2: error: {text}", file=sys.stderr)
    return FAULT


def _show_warning(message: Warning | str, *_where: Any, **_more: Any) -> None:
    print(f"sam2: warning: {' '.join(str(message).split())}", file=sys.stderr)
