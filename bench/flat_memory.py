"""Does memory stay flat? Streams frames with three objects through a tracker and records resident memory.

    python bench/flat_memory.py miniature > bench/results/flat_memory_miniature.jsonl
    python bench/flat_memory.py 1080p > bench/results/flat_memory_1080p.jsonl
    python bench/flat_memory.py plot

`miniature`: 100,000 generated frames through random weights at 64 px, so that they take minutes.
`1080p`: 1,000 frames of an MP4 of 1920 x 1080 through the packaged model, masks made at that size.
`--history all` keeps every mask and memory, in host memory up to 8 MB and then in a file; otherwise the past
is dropped. Each line holds the frame, resident memory and the size of the file in MB, and seconds so far; the
last one how much was gained after the frame from which on memory must be flat. `plot` makes
`docs/images/flat_memory.png` of `bench/results/` (needs matplotlib).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2.build_sam import build_sam2_video_predictor
from sam2.config import instantiate, load_config
from sam2.memory import StorageOptions
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt
from sam2.video import VideoSink, open_live

ROOT = Path(__file__).resolve().parents[1]
MINIATURE = [
    "_target_=sam2.sam2_video_predictor.SAM2VideoPredictor",
    "image_size=64",
    "image_encoder.trunk.embed_dim=8",
    "image_encoder.trunk.stages=[1,1,1,1]",
    "image_encoder.trunk.global_att_blocks=[2]",
    "image_encoder.neck.d_model=32",
    "image_encoder.neck.backbone_channel_list=[64,32,16,8]",
    "image_encoder.neck.position_encoding.num_pos_feats=32",
    "memory_attention.d_model=32",
    "memory_attention.layer.d_model=32",
    "memory_attention.layer.dim_feedforward=32",
    "memory_attention.layer.self_attention.embedding_dim=32",
    "memory_attention.layer.cross_attention.embedding_dim=32",
    "memory_attention.layer.cross_attention.kv_in_dim=16",
    "memory_encoder.in_dim=32",
    "memory_encoder.out_dim=16",
    "memory_encoder.position_encoding.num_pos_feats=16",
    "memory_encoder.mask_downsampler.embed_dim=32",
    "memory_encoder.fuser.layer.dim=32",
    "sam_mlp_dim=32",
]


@dataclass(frozen=True)
class Case:
    """One stream. Memory must be flat from frame `flat_from` on; a line is printed every `every` frames."""

    frames: int
    flat_from: int
    every: int
    width: int
    height: int
    what: str


CASES = {
    "miniature": Case(100_000, 1000, 1000, 48, 36, "generated frames, random weights at 64 px"),
    "1080p": Case(1000, 100, 20, 1920, 1080, "MP4 of 1920 x 1080, the packaged model"),
}


def predictor_of(case: str) -> SAM2VideoPredictor:
    """Random weights at 64 px, or the packaged model."""
    if case == "1080p":
        return build_sam2_video_predictor()
    torch.manual_seed(0)
    model = instantiate(load_config("mini", [f"++model.{item}" for item in MINIATURE]))
    assert isinstance(model, SAM2VideoPredictor)
    return model.eval()


def waves(case: Case, t: int) -> np.ndarray:
    """Drifting colour waves, uint8 [H, W, 3]."""
    y, x = np.mgrid[: case.height, : case.width].astype(np.float32)
    scale = case.width / 48
    channels = [np.sin(x / ((5 + c) * scale) + y / ((7 - c) * scale) + t / 8) for c in range(3)]
    return (127.5 + 127.5 * np.stack(channels, -1)).astype(np.uint8)


def frames_of(name: str, case: Case, count: int, folder: Path) -> Iterator[np.ndarray]:
    """The frames, from arrays at hand or decoded from a file as they are needed."""
    period = [waves(case, t) for t in range(50)]
    if name == "miniature":
        yield from (period[t % 50] for t in range(count))
        return
    path = folder / "stream.mkv"
    with VideoSink(path, fps=30, crf=28) as sink:
        for t in range(count):
            sink.write(period[t % 50])
    del period
    with path.open("rb") as stream, open_live(stream, queue_frames=2) as live:
        for item in live:
            yield item.frame


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(args: argparse.Namespace) -> None:
    """Streams and prints."""
    case = CASES[args.case]
    count = args.frames or case.frames
    predictor = predictor_of(args.case)
    rows, columns = np.mgrid[: case.height, : case.width]
    radius = case.height / 4.5
    masks = [
        (columns - case.width * (i + 1) / 4) ** 2 + (rows - case.height / 2) ** 2 < radius**2
        for i in range(3)
    ]
    prompts = [ObjectPrompt(i, mask=mask) for i, mask in enumerate(masks)]
    storage = StorageOptions(args.history, host_bytes=8_000_000)
    began = time.monotonic()
    before, highest = float("nan"), 0.0
    with tempfile.TemporaryDirectory() as folder, predictor.stream(storage=storage) as tracker:
        for result in tracker.follow(frames_of(args.case, case, count, Path(folder)), {0: prompts}):
            assert len(result.masks) == 3
            done = result.frame_idx + 1
            if done % case.every:
                continue
            now = resident_mb()
            if done <= case.flat_from:
                before = now
            highest = max(highest, now - before)
            line = {
                "frame": done,
                "resident_mb": round(now, 1),
                "file_mb": round(tracker.session.archive.file_nbytes / 1e6, 1),
                "seconds": round(time.monotonic() - began, 1),
            }
            print(json.dumps(line), flush=True)
    summary = {
        "what": f"three objects, {case.what}",
        "history": args.history,
        "frames": count,
        "flat_from": case.flat_from,
        "gained_mb": round(highest, 1),
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time(), 1),
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
    }
    print(json.dumps(summary))


def plot() -> None:
    """Draws what `bench/results/` holds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CASES), figsize=(10, 3.6), layout="constrained")
    for axis, (name, case) in zip(axes, CASES.items(), strict=True):
        lines: list[dict[str, Any]] = []
        highest = 0.0
        for history, style in (("none", "-"), ("all", "--")):
            suffix = "" if history == "none" else "_all"
            path = ROOT / "bench" / "results" / f"flat_memory_{name}{suffix}.jsonl"
            if not path.exists():
                continue
            *lines, summary = map(json.loads, path.read_text().splitlines())
            resident = [line["resident_mb"] for line in lines]
            highest = max(highest, *resident)
            axis.plot(
                [line["frame"] for line in lines],
                resident,
                style,
                label=f"history={history!r}: +{summary['gained_mb']:g} MB after frame {case.flat_from:,}",
            )
        axis.axvline(case.flat_from, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=case.what, xlabel="frame", ylim=(0, 1.25 * highest), xlim=(0, case.frames))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.legend(loc="lower right", fontsize="small", frameon=False)
    axes[0].set_ylabel("resident memory, MB")
    figure.savefig(ROOT / "docs" / "images" / "flat_memory.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=(*CASES, "plot"))
    parser.add_argument("--frames", type=int, help="fewer or more than the case has")
    parser.add_argument("--history", choices=("all", "none"), default="none")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.case == "plot":
        plot()
    else:
        measure(args)


if __name__ == "__main__":
    main()
