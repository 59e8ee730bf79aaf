"""`sam2 eval real`: scores of a model on objects outlined by hand in real photos."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options that only `sam2 eval real` takes."""
    group = parser.add_argument_group("real", "only for `sam2 eval real`; see docs/evaluation.md")
    group.add_argument("--media", type=Path, metavar="DIR", help="more of the photos and clips")
    group.add_argument("--sheet", type=Path, metavar="PNG", help="write pictures of all objects and masks")
    group.add_argument("--csv", type=Path, metavar="CSV", help="write a table by object")
    group.add_argument("--json", type=Path, metavar="JSON", help="write the means and their intervals")


def run(args: argparse.Namespace) -> int:
    """Scores, prints one table, writes what was asked for."""
    from sam2.evaluation import real, real_report
    from sam2.evaluation.report import write_table

    media = args.media or real.MEDIA
    photos = {photo.name: photo for photo in real.photos(real.read_outlines(), media)}
    segmenter = real.model_segmenter(args.model, args.checkpoint, args.device)
    name = Path(args.checkpoint or args.model or "default").name
    trials = [trial for photo in photos.values() for trial in real.score_photo(name, segmenter, photo)]
    table = real_report.means(trials)
    print(real_report.as_text(table))
    print(f"{len(trials)} objects in {len(photos)} photos")
    if args.csv is not None:
        write_table(args.csv, [trial.row() for trial in trials])
    if args.json is not None:
        real_report.write_json(args.json, table, objects=len(trials), photos=len(photos))
    if args.sheet is not None:
        real_report.write_sheet(args.sheet, photos, trials, {})
    return 0
