"""`sam2 models`: what there is, and what is on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from sam2.cli.arguments import add_verb

_EXAMPLE = """\
examples:
  sam2 models
  sam2 models --json
  hf download facebook/sam2.1-hiera-large sam2.1_hiera_large.pt    # then: --model large
"""


_ADVICE = """\
The packaged model is small and has seen generated scenes only: clear objects work, hard ones may fail.
Meta's models are far better; --model small is a good start."""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "models",
        "list the models, and which are on this machine",
        "Lists the models that --model takes by name. A checkpoint file of one of them will do as well.",
        _EXAMPLE,
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    import json

    models = known_models()
    if args.json:
        print(json.dumps(models, indent=2))
        return 0
    for model in models:
        print(f"{model['name']:<18} {model['description']}")
        side = model["image_size"]
        size = f"{model['parameters'] / 1e6:.1f} M parameters, input {side} x {side}"
        where = {
            "packaged": "comes with the package",
            "cached": f"on this machine: {model['checkpoint']}",
            "missing": "its weights are missing from this installation",
            "remote": f"not on this machine; fetched at first use from {model['hub_id']}",
        }[model["state"]]
        print(f"{'':<18} {size}; {where}")
    print(f"\n{_ADVICE}")
    return 0


def known_models() -> list[dict[str, Any]]:
    """The models by name: what they are, and where their weights lie."""
    from sam2.build_sam import MODELS
    from sam2.config import load_config

    models = []
    for info in MODELS.values():
        checkpoint = info.local_checkpoint()
        if info.hub_id is None:
            state = "packaged" if checkpoint else "missing"
        else:
            state = "cached" if checkpoint else "remote"
        models.append(
            {
                "name": info.name,
                "hub_id": info.hub_id,
                "config": info.config,
                "parameters": info.parameters,
                "image_size": load_config(info.config)["image_size"],
                "state": state,
                "checkpoint": str(checkpoint) if checkpoint else None,
                "description": info.description,
            }
        )
    return models
