"""`python -m sam2.training [train|pretrain|finetune] RUN.yaml [--resume]`; torchrun takes the first two."""

from __future__ import annotations

import argparse
import sys

from sam2.training.finetune import FinetuneOptions, finetune
from sam2.training.loop import TrainingFailedError
from sam2.training.options import RunOptions, read_file
from sam2.training.pretrain import PretrainOptions, pretrain
from sam2.training.run import train


def main(arguments: list[str] | None = None) -> int:
    """Runs the training that a YAML file describes; returns the exit status."""
    parser = argparse.ArgumentParser("python -m sam2.training", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("train", "pretrain", "finetune"), default="train")
    parser.add_argument("run", help="YAML file: RunOptions, PretrainOptions or FinetuneOptions")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args(arguments)
    try:
        if args.what == "finetune":
            finetune(read_file(FinetuneOptions, args.run))
            return 0
        if args.what == "pretrain":
            summary = pretrain(read_file(PretrainOptions, args.run), args.resume)
        else:
            summary = train(read_file(RunOptions, args.run), args.resume)
    except (ValueError, OSError, TrainingFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'finished' if summary.finished else 'stopped'} at step {summary.step}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
