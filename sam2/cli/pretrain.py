"""`sam2 pretrain`: masked-autoencoder pretraining of a model's trunk."""

from __future__ import annotations

import argparse

from sam2.cli.arguments import add_verb
from sam2.cli.train import add_run, follow

_EXAMPLE = """\
examples:
  sam2 pretrain mae.yaml
  sam2 pretrain mae.yaml --resume
  sam2 train run.yaml --set model.init=OUT/model.safetensors --set model.init_partial=true
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "pretrain",
        "pretrain a model's trunk on pictures without masks",
        "Teaches the trunk to paint hidden squares of pictures (a masked autoencoder) and saves its weights.",
        _EXAMPLE,
    )
    add_run(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reads the options, pretrains, says where it ended."""
    from sam2.training.pretrain import PretrainOptions, pretrain

    return follow(args, PretrainOptions, pretrain)
