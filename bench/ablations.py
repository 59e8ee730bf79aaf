"""What in the generated pictures moves the scores on real photos: training with one thing left out at a time.

    OMP_NUM_THREADS=1 python bench/ablations.py --start mini --steps 200 --out runs/ablations [--minutes 180]
    python bench/ablations.py --out runs/ablations --table

Writes a pool of stills with everything and one without each name of `sam2.data.without` (scenes of the same
seed, so the same objects), trains the start's weights on each in the way of the first phase of
`sam2/training/recipes/mini_zoom.yaml`, but in one process and with the rate falling along a cosine, and
scores the averaged weights: mean IoU from a box and from one, three and five clicks, on the real objects as
`sam2 eval real` does and on held-out generated stills with everything in them. Training with everything is
repeated with several seeds, which show what chance alone does; the start is scored untrained. One JSON line a
run goes to `lines.jsonl` in the folder; runs that it holds are not made again, and one cut off goes on.

The table shows the scores of training with everything, behind ± their deviation s over its seeds, then how
much each thing left out changes them, in points of IoU. There, behind ± stands the deviation that such a
difference has by chance: s * sqrt(1/n + 1/k), n and k being the runs with everything and without that thing
(the start, untrained, has none of its own). What does not exceed twice that says nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2.build_sam import resolve_model
from sam2.data.clip import Clip
from sam2.data.pool import write_pool
from sam2.data.recipe import Recipe
from sam2.data.without import NAMES
from sam2.evaluation import clicks, real
from sam2.training import pretrain_dense
from sam2.training.loop import STATE
from sam2.training.pretrain_dense import PhaseOptions, read_phases, run_phases

RECIPE = Path(pretrain_dense.__file__).parent / "recipes" / "mini_zoom.yaml"
FULL, UNTRAINED = "everything", "untrained"
COLUMNS = ("box", "click_1", "click_3", "click_5")
SETS = ("real", "generated")
HELD_OUT = Recipe(size=256, difficulty=(0.2, 0.7), seed=90001)
TARGETS = 12
"""Targets of a held-out still, at most."""


@dataclass(frozen=True)
class Settings:
    """What all runs of a folder share."""

    start: str
    """Digest of the weights."""
    steps: int
    count: int
    """Scenes of a pool."""
    size: int
    """Side of its pictures, pixels."""
    accumulate: int
    """Micro-batches of four pictures in a step."""
    photos: int
    """Real photos scored, all if 0."""
    stills: int
    """Held-out generated stills scored."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", default="mini", help="weights to start from: a file, or a name (mini)")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of a run (default 200)")
    parser.add_argument(
        "--only", nargs="*", choices=NAMES, default=NAMES, metavar="NAME", help="leave out these"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablations"), help="folder of pools, runs, lines"
    )
    parser.add_argument(
        "--minutes", type=float, help="begin no run that would not end within so many minutes"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs with everything (default 3)")
    parser.add_argument("--repeats", type=int, default=1, help="runs without each thing (default 1)")
    parser.add_argument("--count", type=int, default=1536, help="scenes of a pool (default 1536)")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches in a step (default 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes that write pools (default 1)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default 1)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--miniature", action="store_true", help="next to nothing, to see that it works")
    parser.add_argument("--table", action="store_true", help="print the table of what is done, and no more")
    return parser.parse_args(arguments)


def planned(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Runs (name, seed) in their order: first what the others are compared with."""
    left_out = [(name, seed) for seed in range(args.repeats) for name in NAMES if name in args.only]
    return [(UNTRAINED, 0), *((FULL, seed) for seed in range(args.seeds)), *left_out]


def phase(name: str, seed: int, args: argparse.Namespace, settings: Settings, weights: str) -> PhaseOptions:
    """The training without `name`, its pool written where it is not there yet."""
    first = read_phases(RECIPE)[0]
    without = () if name == FULL else (name,)
    pool = replace(
        first.pools[0],
        folder=str(args.out / "pools" / name),
        count=settings.count,
        size=settings.size,
        without=without,
    )
    # The phase itself would write it with all cores.
    recipe = Recipe(pool.size, pool.length, pool.difficulty, seed=pool.seed, without=without)
    write_pool(pool.folder, recipe, pool.count, args.workers)
    warmup = min(first.optim.warmup, settings.steps // 5)
    return replace(
        first,
        out=str(args.out / "runs" / f"{name}-{seed}"),
        start=weights,
        steps=settings.steps,
        accumulate=settings.accumulate,
        seed=seed,
        device=args.device,
        pools=(pool,),
        optim=replace(first.optim, schedule="cosine", final=0.03, warmup=warmup),
    )


def score(
    weights: str, photos: Sequence[real.Photo], stills: Sequence[Clip], device: str | None
) -> dict[str, Any]:
    """Mean IoU by set and column, and the number of objects of each set."""
    segmenter = real.model_segmenter(None, weights, device)
    trials = [trial.iou for photo in photos for trial in real.score_photo("", segmenter, photo)]
    found = [one for still in stills for one in clicks.score_still(segmenter, still)[0]]
    drawn = [{"box": one.box, **{f"click_{k}": one.clicks[k - 1] for k in (1, 3, 5)}} for one in found]
    rows: dict[str, Sequence[Mapping[str, float]]] = {"real": trials, "generated": drawn}
    means = {name: {c: float(np.mean([r[c] for r in of])) for c in COLUMNS} for name, of in rows.items()}
    return {**means, "objects": {name: len(of) for name, of in rows.items()}}


def read_lines(out: Path) -> list[dict[str, Any]]:
    """The runs that are done."""
    path = out / "lines.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown. Raises ValueError while no run with everything is done."""
    values: dict[str, list[np.ndarray]] = {}
    for line in lines:
        row = [100 * line[of][column] for of in SETS for column in COLUMNS]
        values.setdefault(line["run"], []).append(np.array(row))
    if FULL not in values:
        raise ValueError(f"no run with {FULL} is done yet: there is nothing to compare with")
    full = np.stack(values[FULL])
    mean = full.mean(0)
    spread = full.std(0, ddof=1) if len(full) > 1 else None

    def cells(numbers: np.ndarray, chance: np.ndarray | None, sign: str) -> str:
        texts = [f"{number:{sign}.1f}" for number in numbers]
        if chance is not None:
            texts = [f"{text} ± {off:.1f}" for text, off in zip(texts, chance, strict=True)]
        return " | ".join(texts)

    heads = [f"{of}, {column.replace('_', ' ')}" for of in SETS for column in COLUMNS]
    rows = [
        f"| run | runs | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
        f"| {FULL} | {len(full)} | {cells(mean, spread, '')} |",
    ]
    for name in (UNTRAINED, *NAMES):
        if name in values:
            runs = np.stack(values[name])
            share = 1 / len(full) + (0 if name == UNTRAINED else 1 / len(runs))
            chance = None if spread is None else spread * np.sqrt(share)
            title = name if name == UNTRAINED else f"without {name}"
            rows.append(f"| {title} | {len(runs)} | {cells(runs.mean(0) - mean, chance, '+')} |")
    return "\n".join(rows)


def run(args: argparse.Namespace) -> int:
    """All runs that are not done; returns the exit status."""
    torch.set_num_threads(args.threads)
    _, weights = resolve_model(args.start)
    if weights is None:
        raise ValueError(f"{args.start!r} names no weights to start from")
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:12]
    small = args.miniature
    settings = Settings(
        digest,
        1 if small else args.steps,
        4 if small else args.count,
        64 if small else read_phases(RECIPE)[0].pools[0].size,
        args.accumulate,
        1 if small else 0,
        1 if small else 8,
    )
    lines = read_lines(args.out)
    for line in lines:
        if line["settings"] != asdict(settings):
            changed = [k for k, v in asdict(settings).items() if line["settings"].get(k) != v]
            raise ValueError(
                f"{args.out} holds runs of other settings ({', '.join(changed)}): name a new one"
            )
    photos = list(real.photos(real.read_outlines()))[: settings.photos or None]
    held_out = write_pool(args.out / "pools" / "held_out", HELD_OUT, settings.stills, args.workers)
    stills = [held_out.painting(i).clip(TARGETS) for i in range(settings.stills)]
    device = None if args.device == "auto" else args.device
    begun, longest = time.monotonic(), 0.0
    done = {(line["run"], line["seed"]) for line in lines}
    for name, seed in planned(args):
        if (name, seed) in done:
            continue
        start = time.monotonic()
        if args.minutes is not None and start - begun + longest > 60 * args.minutes:
            print(f"out of time before {name}, seed {seed}", flush=True)
            break
        trained: str = weights
        training = processor = 0.0
        if name != UNTRAINED:
            options = phase(name, seed, args, settings, weights)
            clock, busy = time.monotonic(), time.process_time()
            if not run_phases([options]).finished:
                print(f"stopped in {name}, seed {seed}: begin again to go on", flush=True)
                return 130
            training, processor = time.monotonic() - clock, time.process_time() - busy
            trained = str(Path(options.out) / "model.safetensors")
        clock = time.monotonic()
        line = {
            "run": name,
            "seed": seed,
            **score(trained, photos, stills, device),
            "train_s": round(training, 1),
            "train_cpu_s": round(processor, 1),
            "score_s": round(time.monotonic() - clock, 1),
            "settings": asdict(settings),
        }
        with (args.out / "lines.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if name != UNTRAINED:
            (Path(options.out) / STATE).unlink()  # a hundred megabytes, needed only to go on
        print(json.dumps({key: line[key] for key in line if key != "settings"}), flush=True)
        longest = max(longest, time.monotonic() - start)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parse(arguments)
    try:
        if args.table:
            print(table(read_lines(args.out)))
            return 0
        return run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
