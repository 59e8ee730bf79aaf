"""Muon, and bfloat16 where a processor only emulates it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sam2.training import loop
from sam2.training.loop import emulates_bf16
from sam2.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 64), (2, 64, 16)])
def test_matrices_become_nearly_orthogonal(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    given = torch.randn(shape)
    made = orthogonal(given)
    assert made.shape == given.shape
    assert made.dtype == torch.float32
    values = torch.linalg.svdvals(made)
    assert values.quantile(0.1) > 0.5  # a random square matrix has some near 0, which stay small
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    towards = (made * (u @ v)).sum((1, 2)) / (made.norm(dim=(1, 2)) * (u @ v).norm(dim=(1, 2)))
    assert towards.min() > 0.95


def test_scale_does_not_matter_and_nothing_stays_nothing() -> None:
    matrices = torch.randn(2, 8, 12)
    torch.testing.assert_close(orthogonal(1e3 * matrices), orthogonal(matrices), atol=1e-4, rtol=1e-3)
    assert not orthogonal(torch.zeros(1, 4, 4)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon to compare with")
def test_steps_are_those_of_pytorch_but_for_its_bfloat16() -> None:
    torch.manual_seed(0)
    own = [nn.Parameter(torch.randn(s)) for s in ((32, 16), (16, 32), (16, 32))]
    theirs = [nn.Parameter(p.detach().clone()) for p in own]
    ours = Muon(own, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="original")
    for _ in range(4):
        for p, q in zip(own, theirs):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        reference.step()
    for p, q in zip(own, theirs):
        torch.testing.assert_close(p, q, atol=2e-3, rtol=0)
    assert ours.state[own[0]].keys() == reference.state[theirs[0]].keys()


def test_a_parameter_without_a_gradient_stays() -> None:
    moved, still = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    moved.grad = torch.eye(4)
    Muon([moved, still], lr=0.1).step()
    assert not torch.equal(moved, torch.ones(4, 4))
    assert torch.equal(still, torch.ones(4, 4))


def test_only_matrices() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_emulated_bfloat16_is_told_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {torch.float32: 1.0, torch.bfloat16: 1.0}
    now = [0.0]
    real = torch.Tensor.__matmul__

    def timed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        now[0] += clock[a.dtype]
        return real(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", timed)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    assert not emulates_bf16(torch.device("cpu"))
    clock[torch.bfloat16] = 10.0
    assert emulates_bf16(torch.device("cpu"))
    assert not emulates_bf16(torch.device("cuda"))
