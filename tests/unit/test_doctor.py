"""`sam2 doctor`: what agrees, what deviates, and what cannot run, each by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sam2.cli import doctor as verb
from sam2.cli import main
from sam2.compile import CompileError
from sam2.doctor import MODES, PRECISIONS, check, check_weights, checks
from sam2.doctor.golden import deviations, golden_answers, golden_model, reference
from sam2.sam2_video_predictor import SAM2VideoPredictor


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return reference()


def test_the_reference_has_something_to_lose(expected: dict[str, torch.Tensor]) -> None:
    assert {name: tuple(value.shape) for name, value in expected.items()} == {
        "embedding": (1, 128, 8, 8),
        "click": (3, 32, 32),
        "tracked": (4, 2, 96, 128),
    }
    for name in ("click", "tracked"):
        shares = (expected[name] > 0).float().mean((-2, -1))
        assert ((shares > 0.02) & (shares < 0.98)).all()
    again = deviations(golden_answers(golden_model(), torch.float32), expected)
    assert all(found.max < 1e-4 for found in again.values())


def test_deviations_are_told(expected: dict[str, torch.Tensor]) -> None:
    found = {name: value.clone() for name, value in expected.items()}
    found["click"][0] = -found["click"][0]
    found["tracked"][0, 0, 0, 0] = float("nan")
    told = deviations(found, expected)
    assert told["embedding"].max == 0
    assert told["embedding"].mask_iou is None
    assert told["click"].max > 0.5
    assert told["click"].mask_iou == 0
    assert told["tracked"].max == float("inf")
    assert told["tracked"].mask_iou == 0


def test_the_command_knows_all_there_is() -> None:
    assert tuple(PRECISIONS) == verb._PRECISIONS
    assert verb._MODES == MODES


def test_from_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--mode", "plain", "--precision", "float32,tf32,bfloat16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["torch"] == torch.__version__
    assert report["devices"][0]["device"] == "cpu"
    assert report["faults"] == 0
    on_cpu = {f["precision"]: f for f in report["findings"] if f["device"] == "cpu" and f["mode"] == "plain"}
    assert on_cpu["float32"]["verdict"] == on_cpu["bfloat16"]["verdict"] == "agrees"
    assert on_cpu["tf32"]["verdict"] == "not run"
    assert "capability 8.0" in on_cpu["tf32"]["reason"]
    assert on_cpu["float32"]["deviations"]["click"]["max"] < on_cpu["bfloat16"]["deviations"]["click"]["max"]
    if not torch.cuda.is_available():
        assert any(f["device"] == "cuda" and f["verdict"] == "not run" for f in report["findings"])
    assert any(f["mode"] == "packaged weights" and f["verdict"] == "agrees" for f in report["findings"])


def spoiled(change: Callable[[SAM2VideoPredictor], object]) -> Callable[..., SAM2VideoPredictor]:
    def build(device: str = "cpu") -> SAM2VideoPredictor:
        model = golden_model(device)
        change(model)
        return model

    return build


def negate(model: SAM2VideoPredictor) -> None:
    with torch.no_grad():
        model.no_mem_embed.neg_()


def lose(model: SAM2VideoPredictor) -> None:
    del model.memory_encoder


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [(negate, "deviates", "click"), (lose, "failed", "AttributeError: ")],
)
def test_a_fault_is_the_exit_status(
    change: Callable[[SAM2VideoPredictor], object],
    verdict: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    expected: dict[str, torch.Tensor],
) -> None:
    monkeypatch.setattr(checks, "reference", lambda: expected)
    monkeypatch.setattr(checks, "golden_model", spoiled(change))
    assert main(["doctor", "--device", "cpu", "--mode", "plain", "--precision", "float32"]) == 1
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "float32   plain" in line]
    assert verdict in line
    assert reason in line
    assert out.endswith("1 fault\n")


def test_weights_that_do_not_load() -> None:
    def build(**_: Any) -> None:
        raise FileNotFoundError("no weights here")

    finding = check_weights("cpu", build)
    assert finding.is_fault
    assert "no weights here" in (finding.reason or "")


def test_what_cannot_be_compiled_is_named(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setattr(checks, "reference", lambda: expected)
    monkeypatch.setenv("CXX", "no-such-compiler")
    (finding,) = check(["cpu"], ["float32"], ["compiled"])
    assert (finding.verdict, finding.is_fault) == ("not run", False)
    assert "apt-get install g++" in (finding.reason or "")

    def broken(model: SAM2VideoPredictor) -> None:
        raise CompileError("no compiler that works")

    monkeypatch.setattr(checks, "compile_obstacle", lambda device_type: None)
    monkeypatch.setattr(SAM2VideoPredictor, "optimize", broken)
    (finding,) = check(["cpu"], ["float32"], ["compiled"])
    assert finding.is_fault
    assert "no compiler that works" in (finding.reason or "")


def test_modes(monkeypatch: pytest.MonkeyPatch, expected: dict[str, torch.Tensor]) -> None:
    optimized = []
    monkeypatch.setattr(checks, "reference", lambda: expected)
    monkeypatch.setattr(checks, "compile_obstacle", lambda device_type: None)
    monkeypatch.setattr(SAM2VideoPredictor, "optimize", lambda model: optimized.append(model.static))
    static, compiled = check(["cpu"], ["float32"], ["static", "compiled"])
    assert static.verdict == compiled.verdict == "agrees", (static.reason, compiled.reason)
    assert optimized == [True]
