"""The cases of `bench/gpu.py` about videos: frames a second, where the time goes, memory, recompilations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_measure import Work, held_bytes, median_seconds, peak_bytes, release, synchronize, work_of
from peers import PEER
from torch import Tensor

from sam2.build_sam import build_sam2_video_predictor
from sam2.compile import compilations
from sam2.data.scenes import generate_still
from sam2.memory.entry import MemoryEntry, MemorySelection
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.tracking import ObjectPrompt

if TYPE_CHECKING:
    from gpu import Bench

MEMORIES = 16
"""Frames before the one that is looked at: 7 spatial memories and 16 pointers are then full."""


def frames(size: int) -> Iterator[np.ndarray]:
    """An endless clip, uint8 [size, size, 3], of eight frames over and over."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    clip = []
    for t in range(8):
        waves = [np.sin(9 * x + 0.3 * t), np.cos(7 * y - 0.3 * t), np.sin(5 * (x + y))]
        clip.append((127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8))
    while True:
        yield from clip


def prompts(size: int, objects: int) -> list[ObjectPrompt]:
    """A click an object, on a grid."""
    side = int(np.ceil(objects**0.5))
    places = [((i % side + 0.5) * size / side, (i // side + 0.5) * size / side) for i in range(objects)]
    return [ObjectPrompt(i + 1, points=[place], labels=[1]) for i, place in enumerate(places)]


def prepared(bench: Bench, size_name: str, way: str, objects: int) -> SAM2VideoPredictor:
    """Our predictor of a size, run "eager", "static" or "compiled", warmed up for a number of objects."""
    predictor = bench.pair(size_name).ours if way != "compiled" else bench.compiled(size_name)
    predictor.dtype, predictor.static = torch.bfloat16, way != "eager"
    predictor.max_batch = max(objects, 16)
    predictor.warm_up(objects=(objects,), progress=False)
    return predictor


def rate(bench: Bench, predictor: SAM2VideoPredictor, objects: int) -> dict[str, Any]:
    """Frames a second from decoded frame to masks of its size on the device, memories full."""
    device, size = bench.device, bench.size
    release(device)
    clip = frames(size)
    with predictor.stream() as tracker:
        tracker.step(next(clip), prompts(size, objects))
        for _ in range(bench.args.memories):
            _ = tracker.step(next(clip)).masks
        before = compilations()

        def step() -> None:
            _ = tracker.step(next(clip)).masks

        seconds, count = median_seconds(step, device, bench.args.seconds)
    return {
        "frames_per_s": round(1 / seconds, 2),
        "frame_s": round(seconds, 5),
        "frames": count,
        "peak_bytes": peak_bytes(device),
        "compilations_while_timed": compilations() - before,
    }


def their_rate(bench: Bench, size_name: str, objects: int) -> dict[str, Any]:
    """Theirs: a frame's encoding and the tracking of all objects to it, from filled memories.

    Timed apart and added: reading frames, moving them to the card and enlarging masks are left out.
    """
    pair = bench.pair(size_name)
    release(bench.device)
    pixels = pair.pixels.bfloat16()
    encode, _ = median_seconds(
        lambda: pair.video.get_image_features(pixels), bench.device, bench.args.seconds
    )
    session = their_session(bench, size_name, objects)
    track, count = median_seconds(
        lambda: pair.video(session, frame_idx=MEMORIES).pred_masks, bench.device, bench.args.seconds
    )
    return {
        "frames_per_s": round(1 / (encode + track), 2),
        "frame_s": round(encode + track, 5),
        "frames": count,
        "peak_bytes": peak_bytes(bench.device),
    }


def their_session(bench: Bench, size_name: str, objects: int) -> Any:
    """Their session with the memories of `selection`."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    pair, device = bench.pair(size_name), bench.device
    session = Sam2VideoInferenceSession(
        video=pair.pixels.expand(MEMORIES + 1, -1, -1, -1),
        video_height=bench.size,
        video_width=bench.size,
        inference_device=device,
        inference_state_device=device,
        video_storage_device=device,
        dtype=torch.bfloat16,
    )
    encoding = pair.ours.memory_encoder.position_encoding
    for seed in range(objects):
        index = session.obj_id_to_idx(seed + 1)
        chosen = selection(bench, pair.ours, seed)
        for entry in {e.frame_idx: e for _, e in (*chosen.spatial, *chosen.pointers)}.values():
            position = encoding(entry.features.float())
            output = {
                "maskmem_features": entry.features.flatten(2).permute(2, 0, 1),
                "maskmem_pos_enc": position.flatten(2).permute(2, 0, 1).bfloat16(),
                "object_pointer": entry.obj_ptr.bfloat16(),
                "object_score_logits": entry.object_score_logits.bfloat16(),
            }
            first = entry.frame_idx == 0
            session.store_output(index, entry.frame_idx, output_value=output, is_conditioning_frame=first)
    return session


def selection(bench: Bench, model: SAM2VideoPredictor, seed: int) -> MemorySelection:
    """Memories of one object on frames 0 (prompted) to 15, as frame 16 reads them."""
    generator = torch.Generator().manual_seed(seed)
    side, device = bench.size // 16, bench.device
    coarse = torch.randn(MEMORIES, model.mem_dim, side // 4, side // 4, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic").to(device).bfloat16()
    present = torch.full((1, 1), 5.0, device=device)
    memories: dict[int, MemoryEntry] = {}
    for t in range(MEMORIES):
        pointer = torch.randn(1, model.hidden_dim, generator=generator).to(device)
        memories[t] = MemoryEntry(t, t == 0, smooth[t : t + 1], pointer, present)

    recent = {t: entry for t, entry in memories.items() if t > 0}
    bank: Any = SimpleNamespace(conditioning={0: memories[0]}, recent=recent)
    return model.memory_policy.select(bank, MEMORIES, False, MEMORIES + 1)


# ---------------------------------------------------------------- cases


def video(bench: Bench, size_name: str) -> None:
    """Frames a second by number of objects: theirs, ours eager, ours in fixed shapes (CUDA graphs)."""
    for objects in bench.args.objects:
        about = {"size": size_name, "objects": objects}
        if bench.peer_runs("video", **about):
            theirs = bench.attempt(
                "video", partial(their_rate, bench, size_name, objects), package=PEER, way="eager", **about
            )
            if theirs:
                bench.their_frame_s[size_name, objects] = theirs["frame_s"]
        for way in ("eager", "static"):
            run = partial(our_rate, bench, size_name, objects, way)
            bench.attempt("video", run, package="sam2", way=way, **about)


def our_rate(bench: Bench, size_name: str, objects: int, way: str) -> dict[str, Any]:
    """`rate`, with the work of a frame, beside theirs."""
    found = rate(bench, prepared(bench, size_name, way, objects), objects)
    found |= bench.card.shares(frame_work(bench, size_name, objects), found["frame_s"])
    theirs = bench.their_frame_s.get((size_name, objects))
    return found if theirs is None else {**found, "speedup": round(theirs / found["frame_s"], 2)}


def frame_work(bench: Bench, size_name: str, objects: int) -> Work:
    """Of a tracked frame, by its steps on plain layers, whatever the way it is run."""
    if (size_name, objects) not in bench.work:
        with bench.in_bf16():
            steps = steps_of(bench, bench.pair(size_name).ours, size_name, objects)
            counted = [work_of(step) for step in steps.values()]
        bench.work[size_name, objects] = Work(sum(w.flops for w in counted), sum(w.bytes for w in counted))
    return bench.work[size_name, objects]


def compiled(bench: Bench, size_name: str) -> None:
    """Frames a second with compiled modules, and what is compiled after warming up."""
    about = {"size": size_name, "way": "compiled"}
    run = partial(recompilations, bench, size_name)
    if bench.attempt("compiled", run, needs=bench.compiling_s, what="recompilations", **about) is None:
        return
    for objects in bench.args.objects:
        rates = partial(our_rate, bench, size_name, objects, "compiled")
        bench.attempt("compiled", rates, package="sam2", objects=objects, **about)


def stages(bench: Bench, size_name: str) -> None:
    """Each step of a tracked frame by itself, with its share of what the card can do."""
    model = bench.pair(size_name).ours
    for objects in bench.args.objects:
        for name, call in steps_of(bench, model, size_name, objects).items():
            if name == "encode_image" and objects != bench.args.objects[0]:
                continue
            bench.attempt(
                "stages",
                lambda call=call: measured(bench, call),
                size=size_name,
                objects=objects,
                stage=name,
                way="eager",
            )


def measured(bench: Bench, call: Callable[[], Any]) -> dict[str, Any]:
    """Median time of a step in bfloat16, and its work."""

    def in_bf16() -> Any:
        with bench.in_bf16():
            return call()

    seconds, count = median_seconds(in_bf16, bench.device, bench.args.seconds)
    return {"seconds": round(seconds, 6), "calls": count, **bench.card.shares(work_of(in_bf16), seconds)}


def steps_of(
    bench: Bench, model: SAM2VideoPredictor, size_name: str, objects: int
) -> dict[str, Callable[[], Any]]:
    """What a tracked frame of some objects is made of."""
    with bench.in_bf16():
        features = model.encode_image(bench.pair(size_name).pixels)
        selections = [selection(bench, model, seed) for seed in range(objects)]
        embedding = model.condition(features, selections)
        out = model.step(features, selections)
    masks = out.high_res_masks(bench.size).float()
    return {
        "encode_image": lambda: model.encode_image(bench.pair(size_name).pixels),
        "memory_attention": lambda: model.condition(features, selections),
        "decode": lambda: model.decode(
            embedding, features.high_res, multimask_output=model.multimask_output_for_tracking
        ),
        "encode_memory": lambda: model.encode_memory(
            features.embedding, masks, out.object_score_logits, False
        ),
    }


def loop(bench: Bench, size_name: str) -> None:
    """One batch against one by one, against fixed shapes, and against pooled memories: mask IoU.

    On the packaged weights, whose masks mean something: random ones choose between masks by a hair. Then what
    pooling gains, on the size that is asked for.
    """
    with torch.inference_mode(False):
        packaged = build_sam2_video_predictor(device=bench.device, dtype=torch.bfloat16)
    scene = generate_still(7, 256)
    objects = min(16, max(bench.args.objects))
    asked = [ObjectPrompt(i + 1, mask=scene.masks[0][i % len(scene.masks[0])]) for i in range(objects)]

    def masks(batch: int = 16, pooled: bool = False, static: bool = False) -> Tensor:
        packaged.max_batch, packaged.memory_pooling, packaged.static = batch, pooled, static
        with packaged.stream() as tracker:
            tracker.step(scene.frames[0], asked)
            moved = [np.roll(scene.frames[0], 3 * t, axis=1) for t in range(1, 5)]
            return torch.stack([tracker.step(frame).low_res_logits for frame in moved]) > 0

    exact = masks()
    for what, other in (
        ("one by one", {"batch": 1}),
        ("fixed shapes", {"static": True}),
        ("pooled", {"pooled": True}),
    ):
        run = partial(lambda other: iou(masks(**other), exact), other)
        bench.attempt("loop", run, weights="packaged", objects=objects, what=what)
    predictor = bench.pair(size_name).ours
    for pooled in (False, True):
        predictor.memory_pooling = pooled
        about = {"weights": "random", "size": size_name, "objects": objects, "what": f"pooled: {pooled}"}
        bench.attempt("loop", partial(our_rate, bench, size_name, objects, "eager"), **about)
    predictor.memory_pooling = False


def iou(a: Tensor, b: Tensor) -> dict[str, float]:
    """Mean and least IoU of masks bool [..., H, W]; two empty ones have 1."""
    union = (a | b).sum((-2, -1))
    ious = torch.where(union > 0, (a & b).sum((-2, -1)) / union.clamp(min=1), 1.0)
    return {"mask_iou": round(ious.mean().item(), 4), "mask_iou_least": round(ious.min().item(), 4)}


def memory(bench: Bench, size_name: str) -> None:
    """Memory of the device over a long stream of one object."""

    def run() -> dict[str, Any]:
        predictor = prepared(bench, size_name, "static", 1)
        release(bench.device)
        clip, held = frames(bench.size), []
        marks = {bench.args.stream // 10 * k for k in range(1, 11)}
        with predictor.stream() as tracker:
            tracker.step(next(clip), prompts(bench.size, 1))
            for t in range(1, bench.args.stream + 1):
                _ = tracker.step(next(clip)).masks
                if t in marks:
                    synchronize(bench.device)
                    held.append(held_bytes(bench.device))
        grown = None if held[0] is None else held[-1] - held[0]
        return {"frames": t, "held_bytes": held, "grown_bytes": grown, "peak_bytes": peak_bytes(bench.device)}

    bench.attempt("memory", run, size=size_name, objects=1, way="static")


def recompilations(bench: Bench, size_name: str) -> dict[str, Any]:
    """Clicks, objects and memories of every number after warming up: nothing may be compiled or recorded."""
    predictor = bench.compiled(size_name)
    predictor.dtype, predictor.static, predictor.max_batch = torch.bfloat16, True, 16
    most = bench.args.most
    start = time.perf_counter()
    counts = [n for n in (1, 2, 4) if n <= most]
    predictor.warm_up(objects=counts, conditioning=counts, points=counts, progress=False)
    synchronize(bench.device)
    warm_up = time.perf_counter() - start
    before, recorded, clip = compilations(), predictor.steps.recorded, frames(bench.size)
    for count in range(1, most + 1):
        with predictor.stream() as tracker:
            tracker.step(next(clip), prompts(bench.size, count))
            for clicks in range(1, most):
                tracker.step(next(clip))
                points = [[bench.size * (k + 1) / 6, bench.size / 2] for k in range(clicks)]
                tracker.prompt(ObjectPrompt(1, points=points, labels=[1] * clicks))
            for _ in range(bench.args.memories):
                tracker.step(next(clip))
    return {
        "warm_up_s": round(warm_up, 1),
        "recompilations": compilations() - before,
        "graphs_recorded_late": predictor.steps.recorded - recorded,
        "compilations": before,
    }
