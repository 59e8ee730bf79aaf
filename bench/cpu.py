"""Speed on a CPU, side by side with `transformers`' SAM 2: same random weights, same inputs, one process.

    python bench/cpu.py [--model tiny] [--size 1024] [--threads 1] [--only embed click ...] [--repeats 5]

The two take turns (A, B, A, B, ...), after one warm-up each. A JSON line a case: medians of the wall time and
of the processor time of this process (which other processes disturb less), in seconds; the speed-up is that
of the processor time; `difference` is the largest difference of the results, relative to the largest value.

    embed    one picture to its features, already as a normalised tensor
    embed_int8  the picture's embedding by OpenVINO in int8, and the IoU of masks with float32's
    embed_bfloat16  the picture's embedding, both under autocast to bfloat16; beside it ours in float32
    click    one point on an encoded picture to three masks of the picture's size
    auto     `--points` points on an encoded picture (1,024 are the usual grid), 64 at a time, to masks of the
             picture's size that pass both thresholds (as many as pass; RLE and NMS left out on both sides)
    track    one object on an encoded frame, 7 spatial memories and 16 pointers, and its new memory
    track_bfloat16  the same, both under autocast to bfloat16; beside it ours in float32
    pooled   the same, ours with `memory_pooling`; besides, the IoU of the masks with and without
    objects  `--objects` objects on an encoded frame: ours as one batch, theirs one by one (as they do)
    pooled_objects  the same, ours with `memory_pooling`
    loop     the same, ours as one batch against ours one by one
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from peers import fill, test_picture, vision_config
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.backend import ConvertedEncoder, convert_encoder, mark_precision
from sam2.build_sam import build_sam2
from sam2.export.quantize import quantized
from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.modeling.outputs import FrameFeatures
from sam2.ops.precision import precision
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.utils.crops import crops_of

MEMORIES = 16
POINTS_AT_A_TIME = 64
CALIBRATION = 8
"""Generated pictures that calibrate int8."""


class Both:
    """The two packages with the same weights."""

    def __init__(self, model: str, size: int) -> None:
        self.size = size
        overrides = [f"model.image_size={size}"]
        name = f"sam2.1-{model}"
        trunk: Any = build_sam2(name, device="cpu", hydra_overrides_extra=overrides).image_encoder.trunk
        vision = vision_config(trunk, size)
        prompts = {"image_size": size}
        self.their_video = transformers.Sam2VideoModel(
            transformers.Sam2VideoConfig(
                vision_config=vision,
                prompt_encoder_config=prompts,
                image_size=size,
                memory_attention_rope_feat_sizes=[size // 16] * 2,
            )
        ).eval()
        fill(self.their_video)
        self.their_image = transformers.Sam2Model(
            transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompts)
        ).eval()
        weights = self.their_video.state_dict()
        self.their_image.load_state_dict({k: weights[k] for k in self.their_image.state_dict()})
        with tempfile.TemporaryDirectory() as folder:
            self.their_video.save_pretrained(folder)
            self.ours: Any = build_sam2(name, folder, device="cpu", hydra_overrides_extra=overrides)
        self.picture = test_picture(size)

    @cached_property
    def predictor(self) -> SAM2ImagePredictor:
        predictor = SAM2ImagePredictor(self.ours)
        predictor.set_image(self.picture)
        return predictor

    @cached_property
    def pixels(self) -> Tensor:
        return self.predictor._transforms(self.picture)[None]

    @cached_property
    def their_embeddings(self) -> list[Tensor]:
        return self.their_image.get_image_embeddings(self.pixels)

    @cached_property
    def features(self) -> FrameFeatures:
        return self.ours.encode_image(self.pixels)

    def selection(self, seed: int) -> MemorySelection:
        """Memories of one object on frames 0 (prompted) to 15, as frame 16 reads them."""
        generator = torch.Generator().manual_seed(seed)
        side = self.size // 16
        coarse = torch.randn(MEMORIES, self.ours.mem_dim, side // 4, side // 4, generator=generator)
        smooth = F.interpolate(coarse, (side, side), mode="bicubic")
        memories: dict[int, MemoryEntry] = {}
        for t in range(MEMORIES):
            features = smooth[t : t + 1] + 0.2 * torch.randn(smooth[:1].shape, generator=generator)
            pointer = torch.randn(1, self.ours.hidden_dim, generator=generator)
            memories[t] = MemoryEntry(t, t == 0, features.bfloat16(), pointer, torch.full((1, 1), 5.0))
        bank = SimpleNamespace(
            conditioning={0: memories[0]}, recent={t: e for t, e in memories.items() if t > 0}
        )
        return self.ours.memory_policy.select(bank, MEMORIES, False, MEMORIES + 1)

    def session(self, selections: list[MemorySelection]) -> Sam2VideoInferenceSession:
        """The same memories in their session."""
        session = Sam2VideoInferenceSession(
            video=self.pixels.expand(MEMORIES + 1, -1, -1, -1),
            video_height=self.size,
            video_width=self.size,
            dtype=torch.float32,
        )
        encoding = self.ours.memory_encoder.position_encoding
        for seed, selection in enumerate(selections):
            index = session.obj_id_to_idx(seed + 1)
            entries = {e.frame_idx: e for _, e in (*selection.spatial, *selection.pointers)}
            for t, entry in entries.items():
                memory = entry.features.flatten(2).permute(2, 0, 1)
                position = encoding(entry.features.float()).flatten(2).permute(2, 0, 1)
                output = {
                    "maskmem_features": memory,
                    "maskmem_pos_enc": position,
                    "object_pointer": entry.obj_ptr,
                    "object_score_logits": entry.object_score_logits,
                }
                session.store_output(index, t, output_value=output, is_conditioning_frame=t == 0)
        return session

    def track(self, selections: list[MemorySelection]) -> Tensor:
        """Ours: low-resolution logits of objects on the frame; their new memories are made and dropped."""
        out = self.ours.step(self.features, selections)
        self.ours.encode_memory(
            self.features.embedding, out.high_res_masks(self.size), out.object_score_logits, False
        ).bfloat16()
        return out.low_res_masks


def iou(a: Tensor, b: Tensor) -> float:
    """Of two masks given as logits."""
    return (((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum().clamp(min=1)).item()


class Bench:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.both = Both(args.model, args.size)

    def compare(
        self, case: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], **more: Any
    ) -> None:
        a, b = ours(), theirs()  # the warm-up
        difference = (a - b).abs().max() / b.abs().max()
        wall: dict[str, list[float]] = {"ours": [], "theirs": []}
        cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(self.args.repeats):
            for name, call in (("theirs", theirs), ("ours", ours)):
                start, start_cpu = time.perf_counter(), time.process_time()
                call()
                cpu[name].append(time.process_time() - start_cpu)
                wall[name].append(time.perf_counter() - start)
        middle = {
            kind: {n: statistics.median(v) for n, v in times.items()}
            for kind, times in (("wall", wall), ("cpu", cpu))
        }
        line = {
            "case": case,
            "model": self.args.model,
            "size": self.args.size,
            "threads": self.args.threads,
            "repeats": self.args.repeats,
            "ours_cpu_s": round(middle["cpu"]["ours"], 4),
            "theirs_cpu_s": round(middle["cpu"]["theirs"], 4),
            "ours_wall_s": round(middle["wall"]["ours"], 4),
            "theirs_wall_s": round(middle["wall"]["theirs"], 4),
            "speedup": round(middle["cpu"]["theirs"] / middle["cpu"]["ours"], 2),
            "speedup_wall": round(middle["wall"]["theirs"] / middle["wall"]["ours"], 2),
            "difference": float(f"{difference.item():.2g}"),
            **more,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "commit": _commit(),
        }
        print(json.dumps(line), flush=True)

    def _their_embedding(self) -> Tensor:
        side = self.both.size // 16
        levels = self.both.their_video.get_image_features(self.both.pixels).fpn_hidden_states
        return levels[-1].permute(1, 2, 0).unflatten(-1, (side, side))

    # ------------------------------------------------------------------ cases

    def embed(self) -> None:
        both = self.both
        self.compare(
            "embed",
            lambda: both.ours.encode_image(both.pixels).embedding,
            self._their_embedding,
        )

    def embed_bfloat16(self) -> None:
        both = self.both
        self._in_bfloat16(
            "embed_bfloat16",
            lambda: both.ours.encode_image(both.pixels).embedding,
            self._their_embedding,
        )

    def _in_bfloat16(self, case: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> None:
        """Both under autocast; ours in float32 beside them, measured right before."""

        def cast(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
            def run() -> Tensor:
                with precision(torch.device("cpu"), torch.bfloat16):
                    return call().float()

            return run

        exact, times = ours(), []
        for _ in range(self.args.repeats):
            start = time.process_time()
            ours()
            times.append(time.process_time() - start)
        their_exact = theirs()

        def off(found: Tensor, exact: Tensor) -> float:
            return float(f"{((found - exact).abs().mean() / exact.abs().mean()).item():.2g}")

        self.compare(
            case,
            cast(ours),
            cast(theirs),
            ours_float32_cpu_s=round(statistics.median(times), 4),
            ours_off_float32=off(cast(ours)(), exact),
            theirs_off_float32=off(cast(theirs)(), their_exact),
        )

    def embed_int8(self) -> None:
        """The encoder in OpenVINO's int8, and what that does to masks."""
        both = self.both
        ours = copy.deepcopy(both.ours)
        graph = quantized(convert_encoder(ours), both.size, CALIBRATION)
        mark_precision(graph, "bfloat16")
        ours.image_encoder = ConvertedEncoder(ours.image_encoder, graph, both.size)
        fast = SAM2ImagePredictor(ours)
        fast.set_image(both.picture)
        side = np.linspace(0.1, 0.9, 4) * both.size
        points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 1, 2)
        asked = (points, np.ones(points.shape[:2], dtype=np.int32))
        found = [torch.from_numpy(p.predict(*asked)[0] > 0).flatten(0, 1) for p in (both.predictor, fast)]
        both_on, either_on = found[0] & found[1], found[0] | found[1]
        ious = both_on.sum((1, 2)) / either_on.sum((1, 2)).clamp(min=1)
        self.compare(
            "embed_int8",
            lambda: ours.encode_image(both.pixels).embedding,
            self._their_embedding,
            mask_iou=round(float(ious.mean()), 4),
            masks=len(ious),
        )

    def click(self) -> None:
        both = self.both
        point = np.array([[both.size * 0.3, both.size * 0.6]], dtype=np.float32)
        coords = torch.from_numpy(point)[None, None]
        labels = torch.ones(1, 1, 1, dtype=torch.int32)

        def ours() -> Tensor:
            return torch.from_numpy(both.predictor.predict(point, np.array([1]))[2])

        def theirs() -> Tensor:
            out = both.their_image(
                image_embeddings=both.their_embeddings, input_points=coords, input_labels=labels
            )
            _ = self._enlarged(out.pred_masks[0]) > 0
            return out.pred_masks[0, 0]

        self.compare("click", ours, theirs)

    def auto(self) -> None:
        both, side = self.both, round(self.args.points**0.5)
        generator = SAM2AutomaticMaskGenerator(both.ours, points_per_side=side)
        points = generator.point_grids[0].astype(np.float32) * both.size
        batches = [points[i : i + POINTS_AT_A_TIME] for i in range(0, len(points), POINTS_AT_A_TIME)]
        generator.predictor = both.predictor

        def their_batch(batch: np.ndarray) -> tuple[Tensor, Tensor]:
            out = both.their_image(
                image_embeddings=both.their_embeddings,
                input_points=torch.from_numpy(batch)[None, :, None],
                input_labels=torch.ones(1, len(batch), 1, dtype=torch.int32),
            )
            return out.pred_masks[0], out.iou_scores[0]

        # random weights know no good masks: thresholds at which a third, and of these half, pass
        masks, ious = their_batch(batches[0])
        least_iou = ious.flatten().quantile(0.67).item()
        stability = self._stability(self._enlarged(masks[:8]).flatten(0, 1)).median().item()
        generator.pred_iou_thresh, generator.stability_score_thresh = least_iou, stability
        (crop,) = crops_of(0, both.picture, 0, 0.0)
        passed = {"ours": 0, "theirs": 0}

        def ours() -> Tensor:
            asked = (generator._ask_batch(b, b, 0) for b in map(torch.from_numpy, batches))
            found = [generator._sieve(some, crop) for some in asked]
            for data in found:
                for _, logits in generator._at_full_size(data["low_res"], crop):
                    _ = logits > 0
            passed["ours"] = sum(len(data["iou_preds"]) for data in found)
            return torch.cat([data["iou_preds"] for data in found]).mean()

        def theirs() -> Tensor:
            found = []
            for batch in batches:
                masks, ious = their_batch(batch)
                large = self._enlarged(masks).flatten(0, 1)
                scores = ious.flatten()
                keep = (scores > least_iou) & (self._stability(large) > stability)
                _ = large[keep] > 0
                found.append(scores[keep])
            passed["theirs"] = sum(len(scores) for scores in found)
            return torch.cat(found).mean()

        self.compare("auto", ours, theirs, points=len(points), passed=passed)

    def _enlarged(self, masks: Tensor) -> Tensor:
        return F.interpolate(masks, (self.both.size, self.both.size), mode="bilinear", align_corners=False)

    @staticmethod
    def _stability(logits: Tensor) -> Tensor:
        inner = (logits > 1).sum((-2, -1), dtype=torch.int32)
        return (inner / (logits > -1).sum((-2, -1), dtype=torch.int32)).nan_to_num(0.0)

    def _their_track(self, selections: list[MemorySelection]) -> Callable[[], Tensor]:
        session = self.both.session(selections)
        return lambda: self.both.their_video(session, frame_idx=MEMORIES).pred_masks

    def track(self) -> None:
        selections = [self.both.selection(0)]
        self.compare("track", lambda: self.both.track(selections), self._their_track(selections))

    def track_bfloat16(self) -> None:
        selections = [self.both.selection(0)]
        self._in_bfloat16(
            "track_bfloat16", lambda: self.both.track(selections), self._their_track(selections)
        )

    def pooled(self) -> None:
        self._pooled("pooled", 1)

    def pooled_objects(self) -> None:
        self._pooled("pooled_objects", self.args.objects)

    def _pooled(self, case: str, count: int) -> None:
        selections = [self.both.selection(seed) for seed in range(count)]

        def ours() -> Tensor:
            self.both.ours.memory_pooling = True
            try:
                return self.both.track(selections)
            finally:
                self.both.ours.memory_pooling = False

        agreement = iou(ours(), self.both.track(selections))
        theirs = self._their_track(selections)
        self.compare(case, ours, theirs, iou_with_exact=round(agreement, 4), objects=count)

    def objects(self) -> None:
        selections = [self.both.selection(seed) for seed in range(self.args.objects)]
        self.compare(
            "objects",
            lambda: self.both.track(selections),
            self._their_track(selections),
            objects=self.args.objects,
        )

    def loop(self) -> None:
        selections = [self.both.selection(seed) for seed in range(self.args.objects)]
        self.compare(
            "loop",
            lambda: self.both.track(selections),
            lambda: torch.cat([self.both.track([selection]) for selection in selections]),
            objects=self.args.objects,
        )


CASES = (
    "embed",
    "embed_bfloat16",
    "embed_int8",
    "click",
    "auto",
    "track",
    "track_bfloat16",
    "pooled",
    "objects",
    "pooled_objects",
    "loop",
)


def _commit() -> str:
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return run.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="tiny", choices=("tiny", "small", "base-plus", "large"))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--objects", type=int, default=16)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.inference_mode():
        bench = Bench(args)
        for case in args.only:
            getattr(bench, case)()


if __name__ == "__main__":
    main()
