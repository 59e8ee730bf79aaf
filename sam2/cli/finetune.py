"""`sam2 finetune`: a few dozen labelled pictures or a few clips, one small machine, minutes."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2.cli.arguments import add_model, add_verb, at_least

_EXAMPLE = """\
examples:
  sam2 finetune leaves --out out/leaves
  sam2 finetune leaves --out out/leaves --trunk lora --minutes 60
  sam2 finetune leaves --out out/leaves --model small
  sam2 segment leaf.jpg --point 210,200 --model out/leaves/model.safetensors

DATA: a folder with images/ and masks/, or any other format of docs/data.md.
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "finetune",
        "fine-tune a model on your own labelled pictures or clips",
        "Holds a part of the data out, learns from the rest until the held-out score no longer rises, and\n"
        "keeps the best weights. Ctrl-C ends it early and keeps the best so far.",
        _EXAMPLE,
    )
    # what is not given stays out of the namespace, so that the options' own defaults hold
    group = parser.add_argument_group("what")
    group.add_argument("data", metavar="DATA", help="labelled pictures or clips; see docs/data.md")
    group.add_argument("--out", required=True, metavar="DIR", help="for model.safetensors and finetune.json")
    group.add_argument("--force", action="store_true", help="replace a model that is there already")
    group = parser.add_argument_group("how", argument_default=argparse.SUPPRESS)
    group.add_argument(
        "--trunk",
        choices=("frozen", "lora"),
        help="frozen: the image encoder stays, its features are computed once; lora: it learns through "
        "adapters, several times slower (default frozen)",
    )
    group.add_argument("--minutes", type=float, help="for everything together (default 10)")
    group.add_argument("--steps", type=at_least(1), help="optimiser steps at most (default 2000)")
    group.add_argument(
        "--held-out", type=float, metavar="SHARE", help="share of the data to judge by (default 0.2)"
    )
    group.add_argument(
        "--check-steps", type=at_least(1), metavar="N", help="steps between looks at it (default 50)"
    )
    group.add_argument(
        "--patience", type=at_least(1), metavar="N", help="stop after N looks that are no better (default 6)"
    )
    group.add_argument("--lr", type=float, help="peak learning rate (default 0.0002)")
    group.add_argument("--batch", type=at_least(1), help="pictures or clips a step; fitted to the memory")
    group.add_argument(
        "--objects", type=at_least(1), metavar="N", help="objects of a picture a step (default 8)"
    )
    group.add_argument("--frames", type=at_least(1), metavar="N", help="frames of a clip a step (default 4)")
    group.add_argument("--clicks", type=at_least(0), metavar="N", help="corrections a step (default 3)")
    group.add_argument("--seed", type=int, help="of everything random (default 0)")
    group.add_argument("--checkpoint", metavar="FILE", help="weights, where --model is a configuration")
    add_model(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fine-tunes, and says how much it helped."""
    from dataclasses import fields

    from sam2.training.finetune import FinetuneOptions, finetune

    given = vars(args)
    options = FinetuneOptions(**{f.name: given[f.name] for f in fields(FinetuneOptions) if f.name in given})
    weights = Path(options.out) / "model.safetensors"
    if weights.exists() and not args.force:
        raise ValueError(f"{weights} is there already: name another folder, or give --force to replace it")
    result = finetune(options, lambda line: print(line, flush=True))
    for reason in result.skipped:
        print(f"not read: {reason}")
    print(f"weights: {result.model}")
    return 0
