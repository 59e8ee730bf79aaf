"""What reading a 1080p video costs beside the model, and whether it waits for the model or runs meanwhile.

    python bench/video.py decode resize track waiting reverse >> bench/results/video.jsonl
    python bench/video.py track --model tiny --frames 4 --repeats 1 >> bench/results/video.jsonl

The clip is made on the spot: 200 frames of H.264, a disk that crosses a panned, grainy ground. Sides of a
case run in turns; medians over the repeats, in milliseconds a frame: processor time of the whole process (the
codec's threads too) and wall time. One JSON line a side.

    decode   packets to frames, by how the codec may use threads
    resize   frames to the model's bytes: exactly (RGB of the full size, then Pillow), and straight by
             swscale, with the difference in grades
    track    a pass with one object: frames resized before, read when asked for, read ahead; `same`: equal
             bits
    swscale  the same pass over frames that swscale resized: IoU with the exact ones' masks
    waiting  in place of the model, a wait of 15 and of 30 ms a frame, as on another device
    reverse  frames at the model's size, forwards and backwards
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from sam2.build_sam import build_sam2_video_predictor, resolve_model
from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD, LazyFrames, normalize, resize_frame
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking.passes import mask_iou
from sam2.video import VideoSink, open_video

WIDTH, HEIGHT = 1920, 1080
SIZES = (256, 1024)


def make_clip(path: Path, count: int) -> None:
    """The clip."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, ((HEIGHT + 320) // 40, (WIDTH + 640) // 40, 3), np.uint8)
    ground = np.array(Image.fromarray(coarse).resize((WIDTH + 640, HEIGHT + 320))).astype(np.int16)
    grain = rng.normal(0, 6, (5, HEIGHT, WIDTH, 1)).astype(np.int16)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    with VideoSink(path, fps=30, crf=23) as sink:
        for t in range(count):
            top, left = t % 160, 2 * (t % 160)
            frame = ground[top : top + HEIGHT, left : left + WIDTH] + grain[t % 5]
            frame[(x - 400 - 5 * t) ** 2 + (y - 540) ** 2 < 120**2] = (220, 40, 30)
            sink.write(frame.clip(0, 255).astype(np.uint8))


class Bench:
    """Measures and prints."""

    def __init__(self, clip: Path, args: argparse.Namespace) -> None:
        self.clip = clip
        self.args = args
        self.frames: int = args.frames

    def sides(self, case: str, sides: Mapping[str, Callable[[], Any]], **facts: Any) -> None:
        """Runs the sides in turns and prints a line of each; what the first one gives, others must."""
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        gave: dict[str, Any] = {}
        for _ in range(self.args.repeats):
            for name, side in sides.items():
                cpu, wall = time.process_time(), time.perf_counter()
                gave[name] = side()
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
        first = next(iter(gave.values()))
        for name, spent in times.items():
            cpu, wall = (1e3 * statistics.median(kind) / self.frames for kind in zip(*spent, strict=True))
            same = {} if first is None else {"same": all(map(torch.equal, gave[name], first))}
            self.line(case, name, cpu_ms=round(cpu, 2), wall_ms=round(wall, 2), **same, **facts)

    def line(self, case: str, side: str, **found: Any) -> None:
        """One line of results."""
        where = {"frames": self.frames, "repeats": self.args.repeats, "threads": torch.get_num_threads()}
        known = {**where, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "commit": _commit()}
        print(json.dumps({"case": case, "side": side, **found, **known}), flush=True)

    def decoded(self, kind: str = "AUTO", threads: int = 4) -> Iterable[av.VideoFrame]:
        """The first frames, as the codec gives them."""
        with av.open(str(self.clip)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = kind, threads
            for number, frame in enumerate(container.decode(stream)):
                if number == self.frames:
                    return
                yield frame

    # ------------------------------------------------------------ cases

    def decode(self) -> None:
        def run(kind: str, threads: int) -> None:
            for _ in self.decoded(kind, threads):
                pass

        ways = [("NONE", 1), ("SLICE", 4), ("FRAME", 2), ("FRAME", 4), ("AUTO", 2), ("AUTO", 4), ("AUTO", 8)]
        self.sides("decode", {f"{kind} {n}": lambda k=kind, n=n: run(k, n) for kind, n in ways})

    def resize(self) -> None:
        frames = list(self.decoded())
        scaler = VideoReformatter()

        def rgb(frame: av.VideoFrame) -> np.ndarray:
            return scaler.reformat(frame, format="rgb24").to_ndarray()

        def straight(frame: av.VideoFrame, size: int) -> np.ndarray:
            return scaler.reformat(
                frame, size, size, "rgb24", interpolation=Interpolation.BICUBIC
            ).to_ndarray()

        def each(way: Callable[..., Any], *more: Any) -> Callable[[], None]:
            return lambda: [way(frame, *more) for frame in frames] and None

        ways = {"to RGB": each(rgb)}
        for size in SIZES:
            ways[f"exact, {size}"] = each(lambda f, s: resize_frame(rgb(f), s), size)
            ways[f"swscale, {size}"] = each(straight, size)
        self.sides("resize", ways)
        for size in SIZES:
            pairs = [(resize_frame(rgb(f), size), straight(f, size)) for f in frames[:10]]
            apart = np.abs(np.subtract(*map(np.stack, zip(*pairs, strict=True)), dtype=np.int16))
            self.line("resize", f"swscale, {size}", mean=float(apart.mean().round(3)), most=int(apart.max()))

    def model(self) -> SAM2VideoPredictor:
        """The predictor asked for; random weights where only a configuration is at hand."""
        torch.manual_seed(0)
        name = self.args.model
        config, weights = resolve_model(None) if name == "mini" else (name, None)
        return build_sam2_video_predictor(config, weights, device=self.args.device)

    def masks(self, model: SAM2VideoPredictor, ahead: int, frames: Any = None) -> list[torch.Tensor]:
        """Masks of a pass; `frames` stand in for those of the clip."""
        with model.init_state(self.clip) as session:
            assert isinstance(session.images, LazyFrames)
            session.images.read_ahead = ahead
            if frames is not None:
                session.images = frames
            model.add_new_points_or_box(session, 0, 1, box=[280, 420, 520, 660])
            passed = model.propagate(session, max_frame_num_to_track=self.frames - 1)
            return [result.low_res_logits.cpu() for result in passed]

    def track(self) -> None:
        model = self.model()
        with open_video(self.clip) as reader:
            lazy = LazyFrames(reader, model.image_size, model.device)
            ready = [lazy[i] for i in range(self.frames)]
        self.sides(
            "track",
            {
                "the model alone": lambda: self.masks(model, 0, ready),
                "read when asked": lambda: self.masks(model, 0),
                "read ahead": lambda: self.masks(model, 4),
            },
            model=self.args.model,
            device=str(model.device),
        )

    def swscale(self) -> None:
        model = self.model()
        size, scaler, frames = model.image_size, VideoReformatter(), []
        for frame in self.decoded():
            small = scaler.reformat(frame, size, size, "rgb24", interpolation=Interpolation.BICUBIC)
            pixels = torch.from_numpy(small.to_ndarray()).permute(2, 0, 1).contiguous() / 255.0
            frames.append(normalize(pixels, IMAGENET_MEAN, IMAGENET_STD).to(model.device))
        pairs = zip(self.masks(model, 4), self.masks(model, 4, frames), strict=True)
        ious = [mask_iou(one[0], other[0]) for one, other in pairs]
        found = {"iou_mean": round(statistics.mean(ious), 4), "iou_least": round(min(ious), 4)}
        self.line("swscale", "masks", model=self.args.model, **found)

    def waiting(self) -> None:
        for wait in (0.015, 0.03):
            for size in SIZES:

                def run(ahead: int, size: int = size, wait: float = wait) -> None:
                    with open_video(self.clip) as reader:
                        images = LazyFrames(reader, size, read_ahead=ahead)
                        with images.ahead(range(self.frames)):
                            for index in range(self.frames):
                                images[index]
                                time.sleep(wait)

                ways = {"read when asked": lambda run=run: run(0), "read ahead": lambda run=run: run(4)}
                self.sides("waiting", ways, size=size, model_ms=1e3 * wait)

    def reverse(self) -> None:
        def run(order: range) -> None:
            with open_video(self.clip) as reader:
                images = LazyFrames(reader, 256)
                with images.ahead(order):
                    for index in order:
                        images[index]

        numbers = range(self.frames)
        self.sides("reverse", {"forwards": lambda: run(numbers), "backwards": lambda: run(numbers[::-1])})


def _commit() -> str:
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def main() -> None:
    cases = ("decode", "resize", "track", "swscale", "waiting", "reverse")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", choices=cases)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="mini", help="mini with its weights; others with random ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, 200)
        bench = Bench(clip, args)
        bench.line("clip", "H.264", mbit_s=round(clip.stat().st_size * 8 * 30 / 200 / 1e6, 1))
        for case in args.cases:
            getattr(bench, case)()


if __name__ == "__main__":
    main()
