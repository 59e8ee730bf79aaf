"""What each memory policy gains or loses against `fifo`, on generated clips of four kinds.

    python bench/policies.py > bench/results/policies.jsonl
    python bench/policies.py --table bench/results/policies.jsonl

The default model follows one object from its exact mask in the first frame: through a plain clip; past a
look-alike that crosses it; behind a post for a third of the clip; out of the picture and back. Seeds are
fixed. One JSON line a clip and policy: J (mean IoU over frames that show the object), J over those after the
event, the share of frames whose presence is told right, predicted IoU, the share of frames trusted, anchors,
processor time a frame (pictures encoded before). The table gives means and, against `fifo` on the same clips,
differences with a 95% bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.data.actors import Actor, posed
from sam2.data.ground import any_ground
from sam2.data.photograph import Photograph, exposed, photograph
from sam2.data.scenes import Scene, camera_matrix, paint_posed, stream_rng
from sam2.data.things import Style, plain
from sam2.evaluation.jf import region_similarity
from sam2.memory import POLICY_NAMES
from sam2.tracking.features import FeatureBudget, FeatureCache

KINDS = ("plain", "crossing", "occlusion", "reappearance")
SIZE = 256
LENGTH = 36
AFTER = {"plain": LENGTH // 2, "crossing": 23, "occlusion": 24, "reappearance": 24}
"""The first frame that counts as after the event."""


@dataclass(frozen=True)
class Footage:
    """Frames uint8 [T, H, W, 3] and the object's masks bool [T, H, W]."""

    frames: list[np.ndarray]
    masks: np.ndarray


def _along(points: Sequence[tuple[float, float, float]], t: float) -> tuple[float, float]:
    """The place at frame `t` on a path of (frame, x, y)."""
    times, xs, ys = zip(*points, strict=True)
    return float(np.interp(t, times, xs)), float(np.interp(t, times, ys))


def footage(kind: str, seed: int) -> Footage:
    """The clip of a kind and a seed; objects that start smaller than 800 pixels are drawn again."""
    for attempt in range(100):
        clip = _drawn(kind, seed, stream_rng(seed, 100 * attempt + KINDS.index(kind)))
        if clip.masks[0].sum() >= 800:
            return clip
    raise AssertionError("a hundred small objects in a row")


def _drawn(kind: str, seed: int, rng: np.random.Generator) -> Footage:
    style = Style(rng, 0.35)
    ground, _ = any_ground(rng, style)
    style.avoid = np.array(ground[-1].parts[0].material.colour, float)
    end, side = LENGTH - 1, rng.choice([-1.0, 1.0])
    y, drift = rng.uniform(0.35, 0.65), rng.uniform(-0.1, 0.1)
    hero = Actor(plain(rng, style), 0, 0, rng.uniform(0.11, 0.16), angle=rng.uniform(0, 6.3))
    still = [
        Actor(plain(rng, style), x, rng.choice([0.15, 0.85]), rng.uniform(0.06, 0.12))
        for x in rng.uniform(0.1, 0.9, 3)
    ]
    near, far = 0.5 - 0.32 * side, 0.5 + 0.32 * side
    paths = {
        "plain": [(0, near, y), (end, far, y + drift)],
        "crossing": [(0, near, y), (end, far, y)],
        "occlusion": [(0, near, y), (10, 0.5, y), (20, 0.5, y), (end - 4, far, y), (end, far, y + drift)],
        "reappearance": [
            (0, 0.5, y),
            (9, 0.5 + 0.8 * side, y),
            (19, 0.5 + 0.8 * side, y),
            (end, 0.5, y + drift),
        ],
    }
    if kind == "reappearance" and seed % 2:  # comes back on the other side
        paths[kind][2] = (9.001, 0.5 - 0.8 * side, y)
        paths[kind].insert(3, (19, 0.5 - 0.8 * side, y))
    moving = [(hero, paths[kind])]
    if kind == "crossing":
        twin = replace(
            hero, angle=hero.angle + rng.normal(0, 0.15), scale=hero.scale * rng.uniform(0.95, 1.05)
        )
        meets = [(0, far, y + 0.03), (end, near, y + 0.03)]
        moving.insert(int(rng.integers(2)), (twin, meets))
    if kind == "occlusion":
        post = Actor(plain(rng, style), 0, 0, 1.25 * hero.scale)
        ring = np.array([[-1.0, -5], [1, -5], [1, 5], [-1, 5]])
        post.parts = [replace(post.parts[0], rings=(ring,), holes=())]
        moving.append((post, [(0, 0.5, 0.5), (end, 0.5, 0.5)]))
    light = (0.4, -0.9)
    scene = Scene([*ground, *still, *(a for a, _ in moving)], light, Photograph())
    view = camera_matrix(SIZE)
    frames, masks = [], []
    for t in range(LENGTH):
        actors = [*ground, *still]
        for actor, path in moving:
            x, place_y = _along(path, t)
            actors.append(replace(actor, x=x, y=place_y))
        poses = [posed(a, view @ a.matrix(), light, SIZE) for a in actors]
        canvas, numbers = paint_posed(scene, actors, poses, view, SIZE)
        mine = numbers[len(ground) + len(still) + [a for a, _ in moving].index(hero)]
        frames.append(photograph(canvas.picture, exposed(scene.photograph, canvas.picture)))
        masks.append(np.isin(np.array(canvas.owner), list(mine)))
    return Footage(frames, np.stack(masks))


@torch.inference_mode()
def scores(predictor: Any, clip: Footage, kind: str, policies: Sequence[str]) -> list[dict[str, Any]]:
    """One line a policy; each picture is encoded once."""
    features = FeatureCache(FeatureBudget(device_frames=LENGTH))
    visible = clip.masks.reshape(LENGTH, -1).sum(axis=1) >= 30
    after = np.arange(LENGTH) >= AFTER[kind]
    lines = []
    for policy in policies:
        session = predictor.init_state(clip.frames, policy=policy)
        session.features = features
        for t in range(LENGTH):
            predictor.engine.features(session, t)
        predictor.add_new_mask(session, 0, 1, clip.masks[0])
        began = time.process_time()
        for _ in predictor.propagate(session):
            pass
        seconds = (time.process_time() - began) / (LENGTH - 1)
        results = [
            predictor.engine.result(session, t) for t in range(LENGTH)
        ]  # tree search revises earlier frames
        ious = np.array(
            [region_similarity(r.masks[0].numpy(), m) for r, m in zip(results, clip.masks, strict=True)]
        )
        present = np.array([float(r.object_score_logits[0]) > 0 for r in results])
        bank = session.tracks[1].bank
        lines.append(
            {
                "policy": policy,
                "j": float(ious[1:][visible[1:]].mean()),
                "j_after": float(ious[visible & after].mean()),
                "presence": float((present == visible)[1:].mean()),
                "predicted_iou": float(np.mean([float(r.predicted_iou[0]) for r in results[1:]])),
                "trusted": sum(bank.trusted.values()) / max(len(bank.trusted), 1),
                "anchors": sum(bank.anchors.values()),
                "seconds_a_frame": round(seconds, 4),
            }
        )
    return lines


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95% bootstrap interval of a mean over clips."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(differences), (10_000, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    by_kind: dict[str, dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        by_kind[line["kind"]][line["policy"]][line["seed"]] = line
    rows = ["| clips | policy | J | against fifo | J after | against fifo | presence | ms a frame |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for kind, policies in by_kind.items():
        seeds = sorted(set.intersection(*(set(found) for found in policies.values())))
        for policy, found in policies.items():
            cells = [f"{kind} ({len(seeds)})", f"`{policy}`"]
            for key in ("j", "j_after"):
                values = np.array([100 * found[s][key] for s in seeds])
                cells.append(f"{values.mean():.1f}")
                base = np.array([100 * policies["fifo"][s][key] for s in seeds])
                low, high = interval(values - base)
                gain = f"{(values - base).mean():+.1f} ({low:+.1f} to {high:+.1f})"
                cells.append("" if policy == "fifo" else gain)
            cells.append(f"{100 * np.mean([found[s]['presence'] for s in seeds]):.1f}")
            cells.append(f"{1000 * np.median([found[s]['seconds_a_frame'] for s in seeds]):.0f}")
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Scores clips, or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="print the table of a file of lines")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--policies", nargs="+", default=POLICY_NAMES, choices=POLICY_NAMES)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--clips", type=int, default=12, help="clips a kind")
    args = parser.parse_args()
    if args.table is not None:
        print(table([json.loads(line) for line in args.table.read_text().splitlines()]))
        return
    torch.set_num_threads(1)
    predictor = build_sam2_video_predictor(device="cpu")
    for seed in range(args.first, args.first + args.clips):
        for kind in args.kinds:
            for line in scores(predictor, footage(kind, seed), kind, args.policies):
                print(json.dumps({"kind": kind, "seed": seed, **line}), flush=True)


if __name__ == "__main__":
    main()
