"""Speed on a GPU, side by side with `transformers`' SAM 2: same random weights, same card, one process.

    python bench/gpu.py --out bench/results/gpu.jsonl

A JSON line a figure, written at once: what was measured stays if the run is cut short. Times are medians
after warming up, the device waited for; ours run in bfloat16 by autocast, theirs with bfloat16 weights. What
cannot run is named with its reason, and so is what no longer fits into `--budget` seconds. First comes the
card's own rate of matrix products and of copying, the roof for the shares of all others. The cases:

    video    frames a second, by size, number of objects and way: eager, static (CUDA graphs)
    embed    pictures to their features, 1 and 16
    decode   clicks on an encoded picture to masks of its size, 1 and 16
    auto     automatic masks, stage by stage
    stages   the steps of a tracked frame, with FLOPs, bytes and their shares
    loop     a batch of objects against one by one, pooled memories against whole: mask IoU
    memory   memory of the device over a stream of `--stream` frames
    compiled frames a second with compiled modules, and recompilations over changing clicks and objects
    cold     start of a process to the first masks, with a bundle compiled ahead of time and without

The first three run on every size, the two last on `--compiled`, the others on the first size.

`--miniature` runs every case on a small model on the CPU; its figures say nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpu_pictures
import gpu_video
import numpy as np
import peers
import torch
from gpu_measure import Card, Work, release
from torch import Tensor

from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.doctor import environment
from sam2.preprocess import SAM2Transforms
from sam2.sam2_video_predictor import SAM2VideoPredictor

SIZES = ("tiny", "small", "base-plus", "large")
SMALL = [
    "++model.image_encoder.trunk.embed_dim=16",
    "++model.image_encoder.trunk.stages=[1,1,3,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
    "++model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
]
CASES: dict[str, Callable[[Bench, str], None]] = {
    "video": gpu_video.video,
    "embed": gpu_pictures.embed,
    "decode": gpu_pictures.decode,
    "auto": gpu_pictures.auto,
    "stages": gpu_video.stages,
    "loop": gpu_video.loop,
    "memory": gpu_video.memory,
    "compiled": gpu_video.compiled,
    "cold": gpu_pictures.cold,
}
EVERY_SIZE, COMPILING = ("video", "embed", "decode"), ("compiled", "cold")
COMPILING_S = 200.0
"""What compiling may take: with less of the budget left it is not begun."""


@dataclass
class Pair:
    """Both packages' models of one size on the device, and what they look at."""

    ours: SAM2VideoPredictor
    video: Any
    image: Any
    picture: np.ndarray
    pixels: Tensor


class Bench:
    """What the cases share: the card, one pair of models at a time, and where lines go."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        self.size: int = args.size
        self.began = time.monotonic()
        self._pair: tuple[str, Pair] | None = None
        self._compiled: tuple[str, SAM2VideoPredictor] | None = None
        self.compiling_s = 0.0 if args.miniature else COMPILING_S
        self.their_frame_s: dict[tuple[str, int], float] = {}
        self.work: dict[tuple[str, int], Work] = {}
        around = environment()
        self.about = {
            "card": next(d["name"] for d in around["devices"] if d["device"].startswith(self.device.type)),
            "driver": around["driver"],
            "torch": around["torch"],
            "cuda": around["cuda"],
            "transformers": None if peers.missing() else _version("transformers"),
            "commit": _commit(),
            "date": datetime.date.today().isoformat(),
            "image_size": self.size,
        }
        self.card = Card.measure(self.device, args.seconds)
        self.write(
            "card", {"about": self.about, **{k: float(f"{v:.4g}") for k, v in asdict(self.card).items()}}
        )

    # ------------------------------------------------------------------ models

    def config(self, size_name: str) -> str:
        """The configuration of one of `--sizes`."""
        return "sam2.1-tiny" if self.args.miniature else f"sam2.1-{size_name}"

    def overrides(self, size_name: str) -> list[str]:
        """Those of the configuration, for our own builders."""
        return [f"++model.image_size={self.size}", *(SMALL if self.args.miniature else [])]

    @torch.inference_mode(False)
    @torch.no_grad()
    def pair(self, size_name: str) -> Pair:
        """The models of a size; those of another are dropped."""
        if self._pair is None or self._pair[0] != size_name:
            self._pair = self._compiled = None
            release(self.device)
            name, extra = self.config(size_name), self.overrides(size_name)[1:]
            ours, video, image = peers.pair(name, self.size, extra, "cpu")
            moved = [None if m is None else m.to(self.device, torch.bfloat16) for m in (video, image)]
            picture = peers.test_picture(self.size)
            pixels = SAM2Transforms(self.size, 0.0)(picture)[None].to(self.device)
            self._pair = size_name, Pair(ours.to(self.device), moved[0], moved[1], picture, pixels)
        return self._pair[1]

    @torch.inference_mode(False)
    @torch.no_grad()
    def compiled(self, size_name: str) -> SAM2VideoPredictor:
        """Our predictor of a size with its modules compiled."""
        ours = self.pair(size_name).ours
        if self._compiled is None or self._compiled[0] != size_name:
            name, overrides = self.config(size_name), [*self.overrides(size_name), "++model.fill_hole_area=0"]
            device = self.device
            other = build_sam2_video_predictor(name, None, device=device, hydra_overrides_extra=overrides)
            other.load_state_dict(ours.state_dict())
            other.optimize()
            self._compiled = size_name, other
        return self._compiled[1]

    @torch.inference_mode(False)
    def image_model(self, size_name: str, weights: Path) -> Any:
        """Our model for pictures, as another process builds it."""
        name, overrides = self.config(size_name), self.overrides(size_name)
        return build_sam2(name, weights, device=self.device, hydra_overrides_extra=overrides)

    def in_bf16(self) -> AbstractContextManager[Any]:
        """Autocast for our modules; theirs have bfloat16 weights."""
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    # ------------------------------------------------------------------ lines

    def write(self, case: str, values: dict[str, Any]) -> None:
        """A line on standard output and in `--out`, at once."""
        line = json.dumps({"case": case, **values, "at_s": round(time.monotonic() - self.began, 1)})
        print(line, flush=True)
        if self.args.out is not None:
            with self.args.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def skip(self, case: str, reason: str, **about: Any) -> None:
        """A line that says why a figure is missing."""
        self.write(case, {**about, "skipped": reason})

    def peer_runs(self, case: str, **about: Any) -> bool:
        """Whether theirs can run; a line says why not."""
        reason = peers.missing()
        if reason is not None:
            self.skip(case, reason, package=peers.PEER, **about)
        return reason is None

    def out_of_time(self, case: str, needs: float = 0.0, **about: Any) -> bool:
        """Whether fewer than `needs` seconds of the budget are left; a line says so."""
        left = self.args.budget - (time.monotonic() - self.began)
        if left < needs:
            self.skip(case, f"out of time: {left:.0f} s of --budget {self.args.budget:.0f} are left", **about)
        return left < needs

    def attempt(
        self, case: str, run: Callable[[], dict[str, Any]], needs: float = 0.0, **about: Any
    ) -> dict[str, Any] | None:
        """A figure, or a line that says why there is none; the run goes on."""
        if self.out_of_time(case, needs, **about):
            return None
        try:
            with torch.inference_mode():
                found = run()
        except Exception as error:  # memory that runs out, a kernel that is missing: the rest is wanted too
            self.failed(case, error, **about)
            return None
        self.write(case, {**about, **found})
        return found

    def failed(self, case: str, error: Exception, **about: Any) -> None:
        """A line with what went wrong."""
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        self.write(case, {**about, "failed": f"{type(error).__name__}: {first.strip()}"})
        release(self.device)


def _version(package: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(package)


def _commit() -> str:
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return run.stdout.strip()


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; those left out are of the card, or of the miniature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--compiled", nargs="*", choices=SIZES, default=["tiny"], help="sizes that are compiled"
    )
    parser.add_argument("--objects", nargs="+", type=int)
    parser.add_argument("--size", type=int, help="side of the input, pixels")
    parser.add_argument("--seconds", type=float, help="of one measurement")
    parser.add_argument("--points", type=int, help="of automatic masks")
    parser.add_argument("--memories", type=int, help="frames before the first that is timed")
    parser.add_argument("--stream", type=int, help="frames whose memory is watched")
    parser.add_argument(
        "--most", type=int, help="objects, and clicks on one frame, while counting recompilations"
    )
    parser.add_argument("--budget", type=float, default=510, help="seconds after which nothing new begins")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="lines are added to this file, too")
    parser.add_argument("--miniature", action="store_true")
    args = parser.parse_args(argv)
    small: dict[str, Any] = {
        "objects": [1, 2],
        "size": 64,
        "seconds": 0.0,
        "points": 9,
        "memories": 3,
        "stream": 20,
        "most": 2,
    }
    full: dict[str, Any] = {
        "objects": [1, 16, 64],
        "size": 1024,
        "seconds": 1.0,
        "points": 1024,
        "memories": 16,
        "stream": 3000,
        "most": 4,
    }
    for name, value in (small if args.miniature else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.miniature:
        args.device, args.sizes, args.compiled = "cpu", args.sizes[:1], args.sizes[:1]
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA card here: --miniature runs every case on the CPU")
    return args


def main(argv: list[str] | None = None) -> None:
    """Runs the cases."""
    args = parse(argv)
    torch.manual_seed(0)
    with torch.inference_mode():
        bench = Bench(args)
    # tracing takes longer than all of the miniature, which calls what would be compiled as it is
    with torch.compiler.set_stance("force_eager" if args.miniature else "default"):
        for case, size_name in planned(args):
            run_case(bench, case, size_name)


def run_case(bench: Bench, case: str, size_name: str) -> None:
    """One case; what goes wrong in it becomes a line, and the next ones run."""
    if bench.out_of_time(case, size=size_name):
        return
    try:
        with torch.inference_mode():
            CASES[case](bench, size_name)
    except Exception as error:  # of what a case prepares
        bench.failed(case, error, size=size_name)


def planned(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Case and size, in order: models of a size are made once, and what compiles comes last."""
    first = args.sizes[0]
    plain = [
        (case, size)
        for size in args.sizes
        for case in args.only
        if case not in COMPILING and (case in EVERY_SIZE or size == first)
    ]
    return plain + [(case, size) for size in args.compiled for case in args.only if case in COMPILING]


if __name__ == "__main__":
    main()
