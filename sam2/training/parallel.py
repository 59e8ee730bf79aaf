"""How processes share the work of a run: one alone, copies of the model (DDP), or parts of it (FSDP2).

Checkpoints do not depend on it: they hold all weights and moments, whole.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from sam2.modeling.backbones.hieradet import MultiScaleBlock
from sam2.training.batches import LoadedBatch
from sam2.training.distributed import World, share_weights
from sam2.training.ema import Ema


class Objective(nn.Module):
    """A task's losses as the forward pass of a module: where DDP and FSDP2 come in."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.model = task.model
        self.task = task

    def forward(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        """What the task reports; `total` alone leads back to the weights."""
        losses = self.task.losses(loaded, device)
        return {name: value if name == "total" else value.detach() for name, value in losses.items()}


class Alone:
    """One process: nothing to share."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.objective: nn.Module = Objective(task)

    def accept(self, optimizer: Any) -> None:
        """Raises ValueError for an optimiser that cannot work so."""

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch, the last of its step or not."""
        return nullcontext()

    def settle(self) -> None:
        """After the last backward pass of a step: gradients as one process would have them."""

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        """Scales gradients down to a norm; returns the norm they had."""
        return nn.utils.clip_grad_norm_(parameters, limit)

    def whole(self, state: Any) -> Any:
        """State as a checkpoint holds it; every process must ask, the first alone is sure to get it."""
        return state

    def own(self, saved: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Undoes `whole` for named tensors, as this process holds those of `like`."""
        return dict(saved)

    def own_moments(self, saved: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
        """Undoes `whole` for an optimiser's state."""
        return saved

    def averaged(self, ema: Ema, average: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """The task's model holds the averaged weights inside; average: the same, whole."""
        return ema.applied(self.task.model)


class Replicated(Alone):
    """Every process holds the whole model; DDP averages their gradients.

    A parameter that only some processes' micro-batches reach (memory, where stills and clips are mixed) gets
    its gradient everywhere; one that no micro-batch of a step reaches gets none, as in one process.
    """

    def __init__(self, task: Any) -> None:
        super().__init__(task)
        # small weights of depthwise convolutions, laid out otherwise: correct, and copied in no time
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self.objective = DistributedDataParallel(
            self.objective, find_unused_parameters=True, broadcast_buffers=False
        )

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        assert isinstance(self.objective, DistributedDataParallel)
        return nullcontext() if last else self.objective.no_sync()


class _ShardedObjective(Objective):
    """Losses that reach every parameter of the root group, with weight 0 where they do not of themselves.

    FSDP2 reduces the gradients that a process has; all must have the same.
    """

    def __init__(self, task: Any) -> None:
        super().__init__(task)
        self.reached: dict[str, bool] = {}
        """Root parameters, and whether a micro-batch of this step reached them."""

    def forward(self, loaded: LoadedBatch, device: torch.device) -> dict[str, Tensor]:
        losses = super().forward(loaded, device)
        reached = _leaves(losses["total"])
        for name, parameter in self.model.named_parameters():
            # blocks that are sharded on their own are reached by every micro-batch
            if isinstance(parameter, DTensor) or not parameter.requires_grad:
                continue
            self.reached[name] = self.reached.get(name, False) or id(parameter) in reached
            if id(parameter) not in reached:
                losses["total"] = losses["total"] + 0 * parameter.sum()
        return losses


def _leaves(total: Tensor) -> set[int]:
    """Identities of the parameters that a scalar depends on."""
    waiting, seen, leaves = [total.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return leaves


class Sharded(Alone):
    """Every process holds a part of each weight, gradient and moment (FSDP2).

    The blocks of the trunk, where most weights are, are gathered one at a time, the rest together.
    """

    def __init__(self, task: Any, here: World, device: torch.device) -> None:
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError as error:
            raise ValueError(
                "shard: fsdp2 needs PyTorch 2.6 or newer: upgrade it, or leave it out"
            ) from error

        self.task = task
        self.device = device
        share_weights(task.model, here)
        # what writes weights for use outside training needs a whole model
        self.twin = copy.deepcopy(task.model).cpu() if here.first else None
        mesh = init_device_mesh(device.type, (here.size,))
        for module in task.model.modules():
            if isinstance(module, MultiScaleBlock):
                fully_shard(module, mesh=mesh)
        self.sharded = _ShardedObjective(task)
        self.objective = self.sharded
        self.root = fully_shard(self.sharded, mesh=mesh)

    def accept(self, optimizer: Any) -> None:
        if not isinstance(optimizer, torch.optim.AdamW):
            raise ValueError(f"shard: fsdp2 works with AdamW alone, not with {type(optimizer).__name__}")

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        self.root.set_requires_gradient_sync(last)
        yield

    def settle(self) -> None:
        names = list(self.sharded.reached)
        reached = [self.sharded.reached[name] for name in names]
        anywhere = torch.tensor(reached, dtype=torch.int32, device=self.device)
        dist.all_reduce(anywhere, dist.ReduceOp.MAX)
        for name, some in zip(names, anywhere.tolist()):
            if not some:
                self.task.model.get_parameter(name).grad = None
        self.sharded.reached.clear()

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        norm = super().clip(parameters, limit)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def whole(self, state: Any) -> Any:
        if isinstance(state, DTensor):
            gathered = state.full_tensor()
            return gathered.cpu() if self.twin is not None else None
        if isinstance(state, dict):
            return {key: self.whole(value) for key, value in state.items()}
        return state

    def own(self, saved: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: _part(value, like.get(name)) for name, value in saved.items()}

    def own_moments(self, saved: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
        moments = {i: self.own(m, dict.fromkeys(m, parameters[i])) for i, m in saved["state"].items()}
        return {**saved, "state": moments}

    @contextmanager
    def averaged(self, ema: Ema, average: Mapping[str, Tensor]) -> Iterator[None]:
        assert self.twin is not None
        parts = self.task.model
        self.twin.load_state_dict(average)
        self.task.model = self.twin
        try:
            yield
        finally:
            self.task.model = parts


def _part(value: Tensor, like: Tensor | None) -> Tensor:
    """This process's part of a whole tensor, where `like` is split and of that shape."""
    if not isinstance(like, DTensor) or like.shape != value.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def share(task: Any, shard: str | None, here: World, device: torch.device) -> Alone:
    """Sets a task's model, already on its device, up for the processes there are."""
    if here.size == 1:
        return Alone(task)
    return Replicated(task) if shard is None else Sharded(task, here, device)
