"""The training loop: micro-batches to optimiser steps, with checkpoints from which a run goes on exactly.

Whatever is random in micro-batch k is drawn after seeding torch from the run's seed and k, so that neither an
interruption nor the number of processes changes what is learnt.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from sam2.training.batches import LoadedBatch, load
from sam2.training.distributed import World, any_of, join, mean_values
from sam2.training.ema import Ema
from sam2.training.optim import freeze, make_optimizer, set_rate
from sam2.training.options import LoopOptions, as_plain
from sam2.training.parallel import share
from sam2.training.report import Means, Reporter
from sam2.training.state import load_state, random_states, save_aside, set_random_states

STATE = "state.pt"
"""The run's checkpoint, under its folder."""


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def model(self) -> nn.Module:
        """Learns; its state dict is what a checkpoint keeps."""

    @property
    def batches(self) -> Any:
        """Micro-batches by number."""

    def losses(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        """`total`, which is minimised, and other means or pairs `NAME`, `NAME_n` to report."""

    def picture(self) -> Image.Image | None:
        """What the last micro-batch's predictions look like."""

    def export(self, path: Path) -> None:
        """Writes the model's present weights for use outside training."""


@dataclass
class Summary:
    """How a run ended."""

    step: int
    finished: bool
    last: dict[str, float] = field(default_factory=dict)
    """The last row of metrics."""
    interrupted: bool = False
    """A signal stopped it."""


class TrainingFailedError(RuntimeError):
    """The loss is no longer a number, or too many samples are corrupt."""


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def seed_for(seed: int, micro_batch: int) -> int:
    """Torch's seed while micro-batch k is computed."""
    return int(np.random.SeedSequence((seed, 3, micro_batch)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def emulates_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is far slower than float32 there, as it is on a CPU without it; measured."""
    if device.type != "cpu":
        return False
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(256, 256, dtype=dtype)
        x @ x  # the first call prepares the kernel
        rounds = []
        for _ in range(3):
            start = time.perf_counter()
            x @ x
            rounds.append(time.perf_counter() - start)
        seconds.append(min(rounds))
    return seconds[1] > 3 * seconds[0]


@contextmanager
def stop_requested() -> Iterator[list[bool]]:
    """A flag that SIGINT and SIGTERM raise, instead of ending the process."""
    flag = [False]

    def stop(_: int, __: FrameType | None) -> None:
        flag[0] = True

    try:
        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever started it handles signals
        yield flag
        return
    try:
        yield flag
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


class Loop:
    """One run of a task under its options."""

    def __init__(self, task: Task, options: LoopOptions, device: torch.device, here: World) -> None:
        if options.accumulate % here.size:
            raise ValueError(f"accumulate is {options.accumulate}; {here.size} processes must divide it")
        self.task = task
        self.options = options
        self.device = device
        self.here = here
        self.out = Path(options.out)
        self.bf16 = options.bf16
        if options.bf16 and emulates_bf16(device):
            self.bf16 = False
            if here.first:
                print("this processor would emulate bfloat16, far slower: training in float32", flush=True)
        freeze(task.model, options.optim.freeze)
        task.model.to(device).train()
        self.parallel = share(task, options.shard, here, device)
        self.optimizer = make_optimizer(task.model, options.optim)
        self.parameters: list[nn.Parameter] = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.ema = Ema(task.model, options.ema)
        self.step = 0
        self.minutes = 0.0
        self.seen = 0
        self.skipped: list[tuple[str, str]] = []

    # -------------------------------------------------------------- checkpoints

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, whole; every process must ask."""
        whole = self.parallel.whole
        return {
            "step": self.step,
            "minutes": self.minutes,
            "seen": self.seen,
            "skipped": self.skipped,
            "weights": whole(self.task.model.state_dict()),
            "ema": whole(self.ema.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
            "random": random_states(),
            "options": as_plain(self.options),
        }

    def restore(self) -> None:
        """Goes back to the last checkpoint of the run's folder."""
        state = load_state(self.out / STATE)
        model, parallel = self.task.model, self.parallel
        try:
            model.load_state_dict(parallel.own(state["weights"], model.state_dict()))
        except RuntimeError as error:
            raise ValueError(f"{self.out / STATE} is of another model: {error}") from error
        average = parallel.own(state["ema"]["average"], self.ema.average)
        self.ema.load_state_dict({**state["ema"], "average": average})
        rates = [{k: g[k] for k in ("peak_lr", "weight_decay")} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(parallel.own_moments(state["optimizer"], self.parameters))
        for group, own in zip(self.optimizer.param_groups, rates, strict=True):
            group.update(own)  # the run file's word, should it have changed
        set_random_states(state["random"])
        self.step, self.minutes = state["step"], state["minutes"]
        self.seen, self.skipped = state["seen"], [(n, r) for n, r in state["skipped"]]

    def save(self) -> bool:
        """Writes the checkpoint and the averaged weights; False where the disk would not take them."""
        state = self.state()
        if not self.here.first:
            return True
        try:
            save_aside(state, self.out / STATE)
            with self.parallel.averaged(self.ema, state["ema"]["average"]):
                self.task.export(self.out / "model.safetensors")
        except (OSError, SafetensorError) as error:
            print(f"checkpoint of step {self.step} not saved, the last one stays: {error}", flush=True)
            return False
        return True

    # -------------------------------------------------------------- steps

    def _own(self, step: int) -> list[int]:
        first = step * self.options.accumulate
        return list(range(first + self.here.rank, first + self.options.accumulate, self.here.size))

    def _numbers(self) -> range:
        first = self.step * self.options.accumulate
        return range(first + self.here.rank, self.options.steps * self.options.accumulate, self.here.size)

    def _optimise(self, loaded: Iterator[LoadedBatch], means: Means) -> None:
        """One optimiser step."""
        options = self.options
        set_rate(self.optimizer, self.step, options.steps, options.optim)
        self.optimizer.zero_grad(set_to_none=True)
        used: list[LoadedBatch] = []
        total = torch.zeros((), device=self.device)
        own = self._own(self.step)
        for k in own:
            batch = next(loaded)
            self._count(batch)
            used.append(batch)
            torch.manual_seed(seed_for(options.seed, k))
            with self.parallel.accumulating(last=k == own[-1]):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    losses = self.parallel.objective(batch, self.device)
                # the processes' gradients are averaged
                (losses["total"] / len(own)).backward()
            total += losses["total"].detach()
            means.add(losses)
        self.parallel.settle()
        norm = self.parallel.clip(self.parameters, options.optim.clip or float("inf"))
        if not torch.isfinite(total + norm):
            self._fail(used)
        means.add({"gradient": norm})
        self.optimizer.step()
        self.ema.update(self.task.model)
        self.step += 1

    def _fail(self, used: list[LoadedBatch]) -> None:
        path = self.out / f"failed_step{self.step}_rank{self.here.rank}.pt"
        content = [vars(u.batch) for u in used]
        save_aside({"step": self.step, "micro_batches": self._own(self.step), "batches": content}, path)
        raise TrainingFailedError(
            f"the loss or its gradient is not a number at step {self.step}; the batch is in {path}, the last"
            f" good weights in {self.out / STATE}. Lower optim.lr, or look at the batch"
        )

    def _count(self, batch: LoadedBatch) -> None:
        self.seen += batch.seen
        if not batch.skipped:
            return
        self.skipped += batch.skipped
        with open(self.out / f"skipped_rank{self.here.rank}.jsonl", "a", encoding="utf-8") as file:
            for name, reason in batch.skipped:
                file.write(json.dumps({"step": self.step, "sample": name, "reason": reason}) + "\n")
        share = len(self.skipped) / self.seen
        if self.seen >= 100 and share > self.options.max_skipped:
            name, reason = self.skipped[-1]
            raise TrainingFailedError(
                f"{len(self.skipped)} of {self.seen} samples are corrupt, more than max_skipped"
                f" {self.options.max_skipped:g}; the last was {name} ({reason})"
            )

    def run(self) -> Summary:
        """Trains from the present step to the end, or to `stop_minutes` or a signal."""
        options = self.options
        self.parallel.accept(self.optimizer)
        reporter = Reporter(self.out, self.step) if self.here.first else None
        loaded = load(self.task.batches, self._numbers(), options.workers, self.device.type == "cuda")
        means = Means()
        start = saved = time.monotonic()
        before = self.minutes
        last: dict[str, float] = {}
        with stop_requested() as stop:
            while self.step < options.steps:
                self._optimise(loaded, means)
                now = time.monotonic()
                self.minutes = before + (now - start) / 60
                if self.step % options.log_steps == 0 or self.step == options.steps:
                    last = mean_values(means.take(), self.here)
                    if reporter is not None:
                        reporter.write(self.step, self.minutes, {**last, "skipped": float(len(self.skipped))})
                if options.picture_steps and self.step % options.picture_steps == 0 and self.here.first:
                    self._draw()
                due = now - saved > 60 * options.save_minutes
                ending, due = any_of([stop[0] or self._late(now - start), due], self.here, self.device)
                if ending:
                    break
                if due:
                    self.save()
                    saved = now
        finished = self.step >= options.steps
        if not self.save() and finished:
            raise OSError(f"the run is finished but its weights could not be saved under {self.out}")
        if reporter is not None:
            reporter.close()
        return Summary(self.step, finished, last, stop[0])

    def _late(self, seconds: float) -> bool:
        limit = self.options.stop_minutes
        return limit is not None and seconds > 60 * limit

    def _draw(self) -> None:
        picture = self.task.picture()
        if picture is not None:
            folder = self.out / "pictures"
            folder.mkdir(exist_ok=True)
            picture.save(folder / f"{self.step:07d}.png")


def run_task(task: Any, options: Any, resume: bool = False, loop: type[Loop] = Loop) -> Summary:
    """Runs a task in this process, or in all that torchrun started.

    loop: what takes the `Task` and its `LoopOptions`.

    Raises ValueError where the folder holds another run's checkpoint and `resume` is not given.
    """
    device = pick_device(options.device)
    out = Path(options.out)
    if not resume and (out / STATE).exists():
        raise ValueError(f"{out} holds a run already: resume it (--resume), or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    here = join(device)
    if device.type == "cuda" and here.size > 1:
        device = torch.device("cuda", here.rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    running = loop(task, options, device, here)
    if resume:
        running.restore()
    return running.run()
