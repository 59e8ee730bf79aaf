"""Does memory stay flat? Streams generated frames with three objects and prints resident memory.

    python bench/flat_memory.py --frames 100000 --history none > bench/results/flat_memory_none.jsonl

A miniature configuration with random weights (64 px), so that 100,000 frames take minutes. `--history all`
keeps every mask and memory, in host memory up to 8 MB and then in a file. Each line holds the frame, resident
memory and the file's size in MB, seconds so far; the last one says how much was gained after frame 1,000.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import time

import numpy as np
import torch

from sam2.config import instantiate, load_config
from sam2.memory import StorageOptions
from sam2.tracking import ObjectPrompt

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


def resident_mb() -> float:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # not Linux: the peak is all there is
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--history", choices=("all", "none"), default="none")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    predictor = instantiate(load_config("mini", [f"++model.{item}" for item in MINIATURE])).eval()
    y, x = np.mgrid[:36, :48].astype(np.float32)
    frames = [
        np.stack([127.5 + 127.5 * np.sin(x / (5 + c) + y / (7 - c) + t / 8) for c in range(3)], -1)
        for t in range(50)
    ]
    pictures = [frame.astype(np.uint8) for frame in frames]
    prompts = [ObjectPrompt(i, mask=(x - 10 - 12 * i) ** 2 + (y - 18) ** 2 < 64) for i in range(3)]
    began = time.monotonic()
    baseline = resident_mb()
    highest = 0.0
    with predictor.stream(storage=StorageOptions(args.history, host_bytes=8_000_000)) as tracker:
        for t in range(args.frames):
            tracker.step(pictures[t % len(pictures)], prompts if t == 0 else ())
            if (t + 1) % 1000 == 0:
                gc.collect()
                now = resident_mb()
                baseline = now if t + 1 == 1000 else baseline
                highest = max(highest, now - baseline)
                line = {
                    "frame": t + 1,
                    "resident_mb": round(now, 1),
                    "file_mb": round(tracker.session.archive.file_nbytes / 1e6, 1),
                    "seconds": round(time.monotonic() - began, 1),
                }
                print(json.dumps(line), flush=True)
    summary = {
        "what": "resident memory gained after frame 1,000, three objects, 64 px",
        "history": args.history,
        "frames": args.frames,
        "gained_mb": round(highest, 1),
        "seconds": round(time.monotonic() - began, 1),
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
