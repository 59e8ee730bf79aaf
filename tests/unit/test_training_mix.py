"""Weights between two checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2.build_sam import build_sam2
from sam2.checkpoint import load_checkpoint, save_checkpoint
from sam2.training.mix import main, mixed


def test_chosen_parameters_lie_between() -> None:
    before = {"a.x": torch.zeros(2), "b.x": torch.zeros(2), "n": torch.tensor([1])}
    after = {"a.x": torch.ones(2), "b.x": torch.ones(2), "n": torch.tensor([5])}
    part = mixed(before, after, 0.25, ["a."])
    assert part["a.x"].tolist() == [0.25, 0.25]
    assert part["b.x"].tolist() == [1.0, 1.0]
    assert part["n"].tolist() == [5]
    assert mixed(before, after, 0.25)["b.x"].tolist() == [0.25, 0.25]


def test_what_cannot_be_mixed_is_refused() -> None:
    one, two = {"a": torch.zeros(1)}, {"b": torch.zeros(1)}
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixed(one, one, 1.5)
    with pytest.raises(ValueError, match="a is in one of them only"):
        mixed(one, two, 0.5)
    with pytest.raises(ValueError, match="begins with 'c'"):
        mixed(one, one, 0.5, ["c"])


def test_the_command_writes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = build_sam2("mini", None, device="cpu")
    save_checkpoint(model, tmp_path / "after.safetensors")
    out = tmp_path / "mix.safetensors"
    command = ["mini", str(tmp_path / "after.safetensors"), str(out), "--only", "sam_mask_decoder"]
    assert main([*command, "--share", "0"]) == 0
    packaged, result = (build_sam2("mini", None, device="cpu") for _ in range(2))
    load_checkpoint(packaged, Path(__file__).parents[2] / "sam2/weights/mini.safetensors")
    load_checkpoint(result, out)
    for name, value in result.state_dict().items():
        wanted = packaged if name.startswith("sam_mask_decoder") else model
        torch.testing.assert_close(value, wanted.state_dict()[name])
    assert main([*command, "--share", "2"]) == 1
    assert "between 0 and 1" in capsys.readouterr().err
