"""The whole way of training by its commands: data, a run that is killed, its resumption, export, scores."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from e2e_helpers import environment

from sam2.build_sam import build_sam2
from sam2.checkpoint import save_checkpoint
from sam2.config import load_config
from sam2.training.state import load_state
from tests.unit.training_helpers import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

# kill -9 while the second checkpoint is being written
KILLED = """
import os, signal, sys
sys.modules["torch.utils.tensorboard"] = None
import torch
from sam2.cli import main
torch.set_num_threads(1)
flush, flushed = os.fsync, []
def fsync(file):
    flushed.append(file)
    if len(flushed) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(file)
os.fsync = fsync
main(["train", "run.yaml"])
"""


def write_run(path, out, **changes):
    run = {
        "out": out,
        "steps": 3,
        "accumulate": 2,
        "log_steps": 1,
        "picture_steps": 3,
        "save_minutes": 0.0,
        "device": "cpu",
        "model": {"config": "tiny.yaml"},
        "data": [
            {"source": "readers.open_dataset", "args": {"path": "stills"}, "batch": 2},
            {"source": "readers.open_dataset", "args": {"path": "clips"}, "batch": 1, "frames": 3},
        ],
        "pvs": {"clicks": 1},
    }
    path.write_text(yaml.safe_dump(run | changes))


def test_from_data_to_scores(sam2_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def sam2(*arguments):
        # in a process of its own: four times a worker that had run a thousand tests was killed here without a
        # word, so that nothing said what of this test had died
        ended = sam2_process(*arguments)
        assert ended.returncode == 0, (arguments, ended.returncode, ended.stderr)

    scenes = ["--size", "64", "--difficulty", "0,0.2", "--workers", "1"]
    sam2("data", "make", "stills", "--count", "4", *scenes)
    sam2("data", "make", "clips", "--count", "2", "--length", "4", *scenes)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"model": load_config("mini", TINY)}))
    write_run(tmp_path / "run.yaml", "killed")
    write_run(tmp_path / "whole.yaml", "whole", save_minutes=9.0)

    child = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, env=environment(), capture_output=True, timeout=240
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert load_state(tmp_path / "killed/state.pt")["step"] == 1
    sam2("train", "run.yaml", "--resume")
    sam2("train", "whole.yaml")
    whole, killed = (load_state(tmp_path / name / "state.pt") for name in ("whole", "killed"))
    for part in (lambda s: s["weights"], lambda s: s["ema"]["average"]):
        assert all(torch.equal(part(killed)[n], v) for n, v in part(whole).items())
    with open(tmp_path / "killed/metrics.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert list((tmp_path / "killed/tensorboard").glob("events.*"))
    assert (tmp_path / "killed/pictures/0000003.png").exists()

    model = build_sam2("tiny.yaml", "killed/model.safetensors", device="cpu")
    save_checkpoint(model, "official.pt")
    official = torch.load("official.pt", weights_only=True)["model"]
    assert all(torch.equal(official[n], v) for n, v in killed["ema"]["average"].items())
    model_options = ["--model", "tiny.yaml", "--checkpoint", "official.pt", "--device", "cpu"]
    for data, protocol, rows in (("stills", "clicks", "iou_1_clicks"), ("clips", "1-click", "jf")):
        sam2("eval", data, "--protocol", protocol, *model_options)
        folder = tmp_path / f"out/{data}-{protocol}"
        assert 0 <= json.loads((folder / "summary.json").read_text())["means"][rows]["mean"] <= 100
        assert (folder / "objects.csv").exists()
