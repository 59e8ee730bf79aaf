"""Weights between two checkpoints of one model, for chosen parameters: half way back from a fine-tuning.

    python -m sam2.training.mix BEFORE AFTER OUT --share 0.2 --only sam_mask_decoder sam_prompt_encoder

What was trained for one thing has often lost a little of another; on the straight line between before and
after both are mostly kept (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sam2.build_sam import build_sam2, resolve_model
from sam2.checkpoint import load_checkpoint, save_checkpoint


def mixed(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float, only: Sequence[str] = ()
) -> dict[str, Tensor]:
    """`after`, its parameters whose names begin with one of `only` (all, if empty) moved back.

    Args:
        before, after: tensors by name, the same names and shapes.
        share: how far from `before` to `after` they then are, 0 to 1.

    Raises:
        ValueError: other names, a share out of bounds, or a beginning that no name has.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of the later weights must be between 0 and 1, not {share}")
    if set(before) != set(after):
        raise ValueError(f"not one model: {sorted(set(before) ^ set(after))[0]} is in one of them only")
    for start in only:
        if not any(name.startswith(start) for name in after):
            raise ValueError(f"no parameter's name begins with {start!r}")
    return {
        name: torch.lerp(before[name].float(), value.float(), share).to(value.dtype)
        if value.is_floating_point() and (not only or name.startswith(tuple(only)))
        else value
        for name, value in after.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m sam2.training.mix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", help="a checkpoint, or the name of a model")
    parser.add_argument("after", help="a checkpoint of the same model")
    parser.add_argument("out", type=Path, help="a .safetensors or .pt file")
    parser.add_argument("--share", type=float, default=0.5, help="of the later weights (default 0.5)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="what names begin with")
    parser.add_argument("--config", default="mini", help="of the model (default mini)")
    parser.add_argument("--half", action="store_true", help="write float16")
    args = parser.parse_args(arguments)
    try:
        states = []
        for given in (args.before, args.after):
            _, weights = resolve_model(given)
            model = build_sam2(args.config, None, device="cpu")
            if weights is None:
                raise ValueError(f"{given!r} names no weights")
            load_checkpoint(model, weights)
            states.append(model.state_dict())
        model.load_state_dict(mixed(states[0], states[1], args.share, args.only))
        save_checkpoint(model, args.out, torch.float16 if args.half else None)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
