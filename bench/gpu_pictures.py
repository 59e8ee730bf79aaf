"""The cases of `bench/gpu.py` about pictures: embedding, clicks, automatic masks, and starting up."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_measure import median_seconds, peak_bytes, release, synchronize, taking_turns, work_of
from torch import Tensor

from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.checkpoint import save_checkpoint
from sam2.export import export_bundle
from sam2.ops.compiler import compile_obstacle
from sam2.sam2_image_predictor import SAM2ImagePredictor

if TYPE_CHECKING:
    from gpu import Bench

BATCHES = (1, 16)
THEIR_POINTS = 64
"""Points at a time in their mask-generation pipeline."""
COLD_START = 10.0
"""Seconds from the start of the process to the first masks, at most."""


def _compared(
    bench: Bench, case: str, size_name: str, calls: dict[str, Callable[[], Any]], **more: Any
) -> None:
    """Ours (and theirs, where they are there) taking turns, with our work."""

    def ours() -> Any:
        with bench.in_bf16():  # theirs needs none: it would take their sums to float32
            return calls["ours"]()

    def run() -> dict[str, Any]:
        release(bench.device)
        seconds = taking_turns({**calls, "ours": ours}, bench.device, bench.args.seconds)
        work = work_of(ours)
        found: dict[str, Any] = {f"{name}_s": round(value, 6) for name, value in seconds.items()}
        if "theirs" in seconds:
            found["speedup"] = round(seconds["theirs"] / seconds["ours"], 2)
        return {**found, **bench.card.shares(work, seconds["ours"]), "peak_bytes": peak_bytes(bench.device)}

    bench.attempt(case, run, size=size_name, **more)


def embed(bench: Bench, size_name: str) -> None:
    """Normalised pictures to their features."""
    pair = bench.pair(size_name)
    for batch in BATCHES:
        pixels = pair.pixels.expand(batch, -1, -1, -1).contiguous()
        half = pixels.bfloat16()
        calls: dict[str, Callable[[], Any]] = {"ours": lambda x=pixels: pair.ours.encode_image(x)}  # type: ignore[misc]
        if bench.peer_runs("embed", size=size_name, batch=batch):
            calls["theirs"] = lambda x=half: pair.video.get_image_features(x)  # type: ignore[misc]
        _compared(bench, "embed", size_name, calls, batch=batch)


def decode(bench: Bench, size_name: str) -> None:
    """One click, or sixteen objects of a click each, on an encoded picture to masks of its size."""
    pair, size = bench.pair(size_name), bench.size
    predictor = SAM2ImagePredictor(pair.ours, dtype=torch.bfloat16)
    predictor.set_image(pair.picture)
    for batch in BATCHES:
        rng = np.random.default_rng(batch)
        points = rng.uniform(0, size, (batch, 1, 2)).astype(np.float32)
        coords = torch.from_numpy(points).to(bench.device)
        labels = torch.ones(batch, 1, dtype=torch.int32, device=bench.device)

        def ours(coords: Tensor = coords, labels: Tensor = labels) -> Any:
            return predictor._predict(coords, labels, img_idx=0)

        calls: dict[str, Callable[[], Any]] = {"ours": ours}
        if bench.peer_runs("decode", size=size_name, batch=batch):
            embeddings = pair.image.get_image_embeddings(pair.pixels.bfloat16())

            def theirs(coords: Tensor = coords, labels: Tensor = labels, embeddings: Any = embeddings) -> Any:
                out = pair.image(
                    image_embeddings=embeddings,
                    input_points=coords[None].bfloat16(),
                    input_labels=labels[None],
                )
                return _enlarged(out.pred_masks[0], size) > 0

            calls["theirs"] = theirs
        _compared(bench, "decode", size_name, calls, batch=batch)


def _enlarged(masks: Tensor, size: int) -> Tensor:
    return F.interpolate(masks.float(), (size, size), mode="bilinear", align_corners=False)


def _stability(logits: Tensor) -> Tensor:
    return ((logits > 1).sum((-2, -1)) / (logits > -1).sum((-2, -1))).nan_to_num(0.0)


# ---------------------------------------------------------------- automatic masks


class StageClock:
    """Seconds of each stage of a generator, the device waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        synchronize(self.device)
        start = time.perf_counter()
        yield
        synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def auto(bench: Bench, size_name: str) -> None:
    """Automatic masks of a picture: each stage alone, and the whole without waiting between the stages.

    Random weights know no good masks: thresholds are set so that a third pass by predicted IoU, and half of
    these by stability. Of theirs, stages as far as the sieve; their suppression and runs are left out.
    """
    pair, points = bench.pair(size_name), bench.args.points
    side = round(points**0.5)
    options = {"points_per_side": side, "points_per_batch": points, "dtype": torch.bfloat16}
    generator = SAM2AutomaticMaskGenerator(
        pair.ours, pred_iou_thresh=0.0, stability_score_thresh=0.0, **options
    )
    data = generator._generate_masks([pair.picture], 1)[0]
    generator.pred_iou_thresh = float(np.quantile(data["iou_preds"], 0.67))
    good = data["stability_score"][data["iou_preds"] > generator.pred_iou_thresh]
    generator.stability_score_thresh = float(np.median(good)) if len(good) else 0.0

    def ours() -> dict[str, Any]:
        release(bench.device)
        clock, found = StageClock(bench.device), generator.generate(pair.picture)
        whole, _ = median_seconds(lambda: generator.generate(pair.picture), bench.device, bench.args.seconds)
        generator.stage = clock
        for _ in range(3):
            generator.generate(pair.picture)
        stages = {f"{name}_s": round(seconds / 3, 5) for name, seconds in clock.seconds.items()}
        generator.stage = lambda name: contextlib.nullcontext()
        peak = peak_bytes(bench.device)
        return {**stages, "whole_s": round(whole, 5), "masks": len(found), "peak_bytes": peak}

    mine = bench.attempt("auto", ours, package="sam2", size=size_name, points=points)
    if not bench.peer_runs("auto", size=size_name, points=points):
        return

    def theirs() -> dict[str, Any]:
        clock = StageClock(bench.device)
        for repeat in range(3):
            if repeat == 1:
                clock.seconds.clear()
            passed = _their_auto(bench, size_name, generator, clock)
        stages = {name: seconds / 2 for name, seconds in clock.seconds.items()}
        whole = sum(stages.values())
        found = {**{f"{name}_s": round(s, 5) for name, s in stages.items()}, "whole_s": round(whole, 5)}
        if mine:
            found["speedup"] = round(whole / mine["whole_s"], 2)
        return {**found, "passed": passed}

    bench.attempt("auto", theirs, package="transformers", size=size_name, points=points)


def _their_auto(bench: Bench, size_name: str, sieve: SAM2AutomaticMaskGenerator, clock: StageClock) -> int:
    pair, passed = bench.pair(size_name), 0
    places = torch.as_tensor(sieve.point_grids[0] * bench.size, dtype=torch.bfloat16, device=bench.device)
    with clock("encode"):
        embeddings = pair.image.get_image_embeddings(pair.pixels.bfloat16())
    for batch in places.split(THEIR_POINTS):
        with clock("ask"):
            out = pair.image(
                image_embeddings=embeddings,
                input_points=batch[None, :, None],
                input_labels=torch.ones(1, len(batch), 1, dtype=torch.int32, device=bench.device),
            )
        with clock("sieve"):
            masks = _enlarged(out.pred_masks[0], bench.size).flatten(0, 1)
            good = out.iou_scores[0].flatten() > sieve.pred_iou_thresh
            kept = masks[good & (_stability(masks) >= sieve.stability_score_thresh)] > 0
            passed += len(kept)
    return passed


# ---------------------------------------------------------------- starting up

_FIRST_MASKS = """
import json, sys, time
import numpy as np
import torch
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
options = json.loads(sys.argv[1])
imported = time.time()
model = build_sam2(
    options["config"],
    options["weights"],
    device=options["device"],
    backend=options["backend"],
    hydra_overrides_extra=options["overrides"],
)
loaded = time.time()
predictor = SAM2ImagePredictor(model, dtype=torch.bfloat16)
predictor.set_image(np.zeros((480, 640, 3), np.uint8))
predictor.predict(np.array([[320.0, 240.0]]), np.array([1]))
print(json.dumps({"imported_s": imported - options["began"], "loaded_s": loaded - imported,
                  "first_masks_s": time.time() - options["began"]}))
"""


def cold(bench: Bench, size_name: str) -> None:
    """From the start of a process to its first masks: plain, and with a bundle compiled ahead of time."""
    pair, about = bench.pair(size_name), {"size": size_name}
    with tempfile.TemporaryDirectory() as folder:
        weights, bundle = Path(folder, "model.safetensors"), Path(folder, "bundle")
        save_checkpoint(pair.ours, weights)
        bench.attempt("cold", lambda: _started(bench, size_name, weights, "torch"), backend="torch", **about)
        obstacle = compile_obstacle(bench.device.type)
        if bench.args.miniature:
            obstacle = "compiling takes longer than all of the miniature"
        if obstacle is not None:
            bench.skip("cold", obstacle, backend="aot", **about)
            return

        @torch.inference_mode(False)
        def bundled() -> dict[str, Any]:
            report = export_bundle(bench.image_model(size_name, weights), bundle, "bfloat16")
            found = _started(bench, size_name, weights, f"aot:{bundle}")
            in_time = found["first_masks_s"] <= COLD_START
            return {**found, "export_s": report["seconds"], "within_aim": in_time}

        bench.attempt("cold", bundled, needs=bench.compiling_s, backend="aot", **about)


def _started(bench: Bench, size_name: str, weights: Path, backend: str) -> dict[str, Any]:
    options = {
        "config": bench.config(size_name),
        "weights": str(weights),
        "device": str(bench.device),
        "backend": backend,
        "overrides": bench.overrides(size_name),
        "began": time.time(),
    }
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_MASKS, json.dumps(options)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return {name: round(value, 2) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}
