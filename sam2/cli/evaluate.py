"""`sam2 eval`: scores of a model on a labelled data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2.cli import evaluate_real
from sam2.cli.arguments import add_model, add_precision, add_verb, at_least

PROTOCOLS = {
    "clicks": "pictures: IoU at 1, 3 and 5 clicks, from the box, and of the best of three masks",
    "noc": "pictures: the same, and clicks to IoU 85 and 90 (of at most 20)",
    "automatic": "pictures: recall of automatic masks",
    "mask": "clips: J&F when followed from the mask on the first frame",
    "box": "clips: from the box",
    "1-click": "clips: from one click",
    "3-clicks": "clips: from three clicks",
    "5-clicks": "clips: from five clicks",
    "offline": "clips: 3 clicks on the worst frame, track again, up to 8 rounds",
    "online": "clips: 3 clicks where an object is lost, on up to 8 frames of one pass",
}
_EXAMPLE = """\
examples:
  sam2 eval photos --protocol clicks
  sam2 eval DAVIS --split val --protocol mask --model large --out out/davis
  sam2 eval sav_val --protocol 3-clicks --workers 4 --limit 20
  sam2 eval real --sheet real.png

protocols:
""" + "\n".join(f"  {name:<10} {text}" for name, text in PROTOCOLS.items())


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "eval",
        "score a model on labelled pictures or clips",
        "Prints means with 95% intervals; writes a table by object (objects.csv), summary.json and a\n"
        "sheet of the worst ten (worst.png).",
        _EXAMPLE,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="labelled pictures or clips, see docs/data.md; or `real`, the photos outlined for this package",
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, metavar="NAME", help="one of those below")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: out/NAME_OF_DATA-PROTOCOL")
    parser.add_argument("--force", action="store_true", help="replace results that are there already")
    parser.add_argument("--split", metavar="NAME", help="only the videos listed in NAME.txt (DAVIS: val)")
    parser.add_argument(
        "--limit", type=at_least(1), metavar="N", help="N pictures or clips, spread over the set"
    )
    parser.add_argument("--workers", type=at_least(1), default=1, metavar="N", help="processes (default 1)")
    parser.add_argument(
        "--annotated-frames-only",
        action="store_true",
        help="track on annotated frames alone where a clip has others between them",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="weights, where --model is a configuration")
    evaluate_real.add_to(parser)
    add_model(parser)
    add_precision(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the means and where the table is."""
    if args.data == "real":
        return evaluate_real.run(args)
    if args.protocol is None:
        raise ValueError("say how to score: --protocol NAME (sam2 eval --help lists them)")
    from sam2.evaluation.run import EvaluationOptions, evaluate

    data = Path(args.data).resolve()
    name = data.name if data.is_dir() else data.stem
    out = args.out or Path("out") / f"{name}-{args.protocol}"
    if (out / "summary.json").exists() and not args.force:
        raise ValueError(f"{out} holds results already: name another --out, or give --force to replace them")
    options = EvaluationOptions(
        args.data,
        args.protocol.replace("-", " "),
        model=args.model,
        checkpoint=args.checkpoint,
        device=args.device,
        precision=args.precision,
        split=args.split,
        limit=args.limit,
        workers=args.workers,
        every_frame=not args.annotated_frames_only,
    )
    done = evaluate(options, out)
    width = max(len(name) for name in done.means)
    for name, interval in done.means.items():
        print(f"{name:<{width}}  {interval}")
    for kind, (count, means) in done.kinds.items() if len(done.kinds) > 1 else ():
        print(f"{kind} ({count}): " + ", ".join(f"{name} {mean.mean:.3f}" for name, mean in means.items()))
    print(f"{done.objects} objects of {done.clips - len(done.unread)}; by object: {out / 'objects.csv'}")
    for what, reasons in (("not read", done.unread), ("not scored", done.unscored)):
        if reasons:
            print(f"{what}: {len(reasons)}, listed in {out / 'summary.json'}; the first: {reasons[0]}")
    return 0
