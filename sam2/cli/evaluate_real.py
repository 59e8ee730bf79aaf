"""`sam2 eval real`: scores of a model on objects outlined by hand in real photos and clips."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam2.evaluation.clicks import BoxSegmenter
    from sam2.evaluation.real_clips import Followed, Track
    from sam2.evaluation.real_report import Table


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options that only `sam2 eval real` takes."""
    group = parser.add_argument_group("real", "only for `sam2 eval real`; see docs/evaluation.md")
    group.add_argument("--classical", action="store_true", help="score GrabCut and the like too (minutes)")
    group.add_argument("--clips", action="store_true", help="follow objects through clips too (minutes)")
    group.add_argument(
        "--media", type=Path, metavar="DIR", help="where more of the photos, and the clips, lie"
    )
    group.add_argument("--sheet", type=Path, metavar="PNG", help="write pictures of all objects and masks")
    group.add_argument("--csv", type=Path, metavar="CSV", help="write a table by object")
    group.add_argument("--json", type=Path, metavar="JSON", help="write the means and their intervals")


def run(args: argparse.Namespace) -> int:
    """Scores, prints the tables, writes what was asked for."""
    from sam2.evaluation import real, real_clips, real_report
    from sam2.evaluation.classical import FAMILIES
    from sam2.evaluation.report import write_table
    from sam2.ops.precision import dtype_of

    media = args.media or real.MEDIA
    clips = real_clips.present(real_clips.read_tracks(), media) if args.clips else {}
    if args.clips and not clips:
        raise ValueError(f"none of the clips is in {media}: name their folder with --media")
    photos = list(real.photos(real.read_outlines(), media))
    ours = Path(args.checkpoint or args.model or "default").name
    others: dict[str, BoxSegmenter] = {}
    if args.classical:
        others = {name: make() for family in FAMILIES.values() for name, make in family.items()}
    dtype = dtype_of(args.precision)
    tools = {ours: real.model_segmenter(args.model, args.checkpoint, args.device, dtype), **others}
    trials = [
        t for name, tool in tools.items() for photo in photos for t in real.score_photo(name, tool, photo)
    ]
    means = real_report.means(trials)
    tables = {"photos": {ours: means[ours]}}
    if others:
        tables["photos"] |= real_report.best_settings(means, FAMILIES)
        tables["photos"][f"{ours} − best other"] = real_report.margins(trials, ours)
    print(real_report.as_text(tables["photos"]))
    print(f"mean IoU of {len(trials) // len(tools)} objects in {len(photos)} photos")
    if clips:
        tables["clips"] = _clips_table(args, clips, ours, others)
        print(real_report.as_text(tables["clips"]))
        print(f"mean J of {sum(map(len, clips.values()))} objects in {len(clips)} clips")
    if args.csv is not None:
        write_table(args.csv, [trial.row() for trial in trials])
    if args.json is not None:
        real_report.write_json(args.json, tables, objects=len(trials) // len(tools), pictures=len(photos))
    if args.sheet is not None:
        real_report.write_sheet(args.sheet, photos, trials, ours)
    return 0


def _clips_table(
    args: argparse.Namespace, clips: dict[Path, list[Track]], ours: str, others: dict[str, BoxSegmenter]
) -> Table:
    from sam2.build_sam import build_sam2_video_predictor, resolve_model
    from sam2.evaluation import real_clips, real_report
    from sam2.evaluation.classical import FAMILIES
    from sam2.ops.precision import dtype_of

    config, weights = resolve_model(args.model or args.checkpoint)
    predictor = build_sam2_video_predictor(
        config, args.checkpoint or weights, device=args.device, dtype=dtype_of(args.precision)
    )
    followed: list[Followed] = []
    for path, tracks in clips.items():
        followed += real_clips.follow_with_model(ours, predictor, path, tracks)
        if others:
            followed += real_clips.follow_with_flow(others, path, tracks)
    means = real_report.clip_means(followed)
    table = {ours: means[ours]}
    if others:
        table |= real_report.best_settings(means, FAMILIES, " + flow")
    return table
