"""`python -m sam2.evaluation DATA --protocol P --out FOLDER [--model M]`."""

from __future__ import annotations

import argparse
import sys

from sam2.evaluation.run import CLIPS, STILLS, EvaluationOptions, evaluate


def main(arguments: list[str] | None = None) -> int:
    """Evaluates a model on a data set and prints the means; returns the exit status."""
    parser = argparse.ArgumentParser("python -m sam2.evaluation", description=__doc__)
    parser.add_argument("data", help="a data set: folders like DAVIS, SA-V, SA-1B, COCO, images + masks")
    parser.add_argument("--protocol", required=True, choices=(*STILLS, *CLIPS))
    parser.add_argument("--out", required=True, help="folder for the table, the means and the sheet")
    parser.add_argument("--model", help="name, hub id or checkpoint; the default model without it")
    parser.add_argument("--checkpoint", help="weights, where --model is a configuration")
    parser.add_argument("--device")
    parser.add_argument("--split")
    parser.add_argument("--limit", type=int, help="take so many clips, spread over the set")
    parser.add_argument("--workers", type=int, default=1)
    values = vars(parser.parse_args(arguments))
    out = values.pop("out")
    try:
        means = evaluate(EvaluationOptions(**values), out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in means.items():
        print(f"{name:16} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
