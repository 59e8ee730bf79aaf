"""The image encoder while other programs have some of the cores: how the threads of OpenMP wait decides.

    python bench/busy.py [--model mini] [--threads 2] [--busy 0 1] [--spins default 3000] [--pictures 30]

For each number of busy processes (in sessions of their own, as other programs are: Linux shares the cores out
among sessions) and each way of waiting one process encodes pictures; they take turns. A JSON line each: the
median time of a picture, in milliseconds. `default` is what the library does by itself, `passive`
OMP_WAIT_POLICY=passive, a number GOMP_SPINCOUNT; `sam2` sets 3000. It is GNU's OpenMP alone that heeds these,
PyTorch's on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack

WORK = """
import statistics, sys, time
import torch
from sam2.build_sam import build_sam2
name, threads, pictures = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
model = build_sam2(None if name == "mini" else f"sam2.1-{name}", device="cpu")
picture = torch.randn(1, 3, model.image_size, model.image_size)
times = []
with torch.inference_mode():
    model.image_encoder(picture)
    for _ in range(pictures):
        start = time.perf_counter()
        model.image_encoder(picture)
        times.append(time.perf_counter() - start)
print(1e3 * statistics.median(times))
"""


def encode(args: argparse.Namespace, spins: str) -> float:
    """The median time of a picture in a process of its own, milliseconds."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if spins == "passive":
        environment["OMP_WAIT_POLICY"] = spins
    elif spins != "default":
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, "-c", WORK, args.model, str(args.threads), str(args.pictures)]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="mini", choices=("mini", "tiny", "small", "base-plus", "large"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--spins", nargs="+", default=["default", "3000"])
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for busy in args.busy:
        with ExitStack() as stack:
            for _ in range(busy):
                endless = [sys.executable, "-c", "while True: pass"]
                other = stack.enter_context(subprocess.Popen(endless, start_new_session=True))
                stack.callback(other.kill)
            for _ in range(args.repeats):
                for spins in args.spins:
                    line = {"model": args.model, "threads": args.threads, "busy": busy, "spins": spins}
                    print(json.dumps({**line, "ms": round(encode(args, spins), 1)}), flush=True)


if __name__ == "__main__":
    main()
