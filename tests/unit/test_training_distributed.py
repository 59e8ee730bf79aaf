"""Processes under torchrun learn what one learns that accumulates, and go on from one another's state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_helpers import toy_data, toy_run

from sam2.training import state
from sam2.training.options import RunOptions, read_options
from sam2.training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Path(__file__).parent
# Stills and clips: a step that no clip is in, then steps in which only some micro-batches, and not always a
# process's last, reach the weights of memory.
SHARED = {"steps": 3, "accumulate": 4}
WORKER = """
import sys
sys.modules["torch.utils.tensorboard"] = None
sys.path.insert(0, sys.argv[1])
import torch
from training_helpers import toy_data
from sam2.cli import main
torch.set_num_threads(1)
toy_data()
for arguments in sys.argv[2:]:
    assert main(["train", *arguments.split()]) == 0, arguments
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process; of two by DDP; of one, two by FSDP2, and one, a step each."""
    folder = tmp_path_factory.mktemp("runs")
    toy_data()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        train(options(folder / "one"))
        train(options(folder / "handed", stop_minutes=0.0))
        recomputed = {"model": {**toy_run(folder)["model"], "checkpoint_activations": True}}
        write(folder / "ddp.yaml", toy_run(folder / "ddp", **SHARED, **recomputed))
        sharded = toy_run(folder / "handed", **SHARED, shard="fsdp2", stop_minutes=0.0, **recomputed)
        write(folder / "handed.yaml", sharded)
        (folder / "worker.py").write_text(WORKER)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        runs = [f"{folder}/ddp.yaml", f"{folder}/handed.yaml --resume"]
        subprocess.run(
            [*launch, folder / "worker.py", HERE, *runs],
            cwd=HERE.parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=540,
        )
        assert state.load_state(folder / "handed" / "state.pt")["step"] == 2
        for name in ("state.pt", "model.safetensors"):
            shutil.copy(folder / "handed" / name, folder / f"sharded_{name}")
        train(options(folder / "handed"), resume=True)
    torch.set_num_threads(before)
    return folder


def options(out: Path, **changes: Any) -> RunOptions:
    return read_options(RunOptions, toy_run(out, **SHARED, **changes))


def write(path: Path, run: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(run))


@pytest.mark.slow
@pytest.mark.parametrize("other", ["ddp", "handed"])
def test_processes_learn_what_one_learns(folder: Path, other: str) -> None:
    one, two = (state.load_state(folder / name / "state.pt") for name in ("one", other))
    assert one["step"] == two["step"] == 3
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=0, atol=2e-5, msg=name)
        average = two["ema"]["average"][name]
        torch.testing.assert_close(average, one["ema"]["average"][name], rtol=0, atol=2e-5, msg=name)
    moments = [s["optimizer"]["state"] for s in (one, two)]
    assert moments[0].keys() == moments[1].keys()
    for i, moment in moments[0].items():
        # a parameter that no micro-batch of a step reached was not touched
        assert moments[1][i]["step"] == moment["step"]
        torch.testing.assert_close(moments[1][i]["exp_avg"], moment["exp_avg"], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_what_a_sharded_run_saves_is_whole(folder: Path) -> None:
    saved = state.load_state(folder / "sharded_state.pt")
    exported = load_file(folder / "sharded_model.safetensors")
    one = state.load_state(folder / "one" / "state.pt")
    assert {n: v.shape for n, v in saved["weights"].items()} == {
        n: v.shape for n, v in one["weights"].items()
    }
    assert exported.keys() == saved["ema"]["average"].keys()
    assert all(torch.equal(exported[n], v) for n, v in saved["ema"]["average"].items())
    assert type(saved["weights"]["image_encoder.trunk.pos_embed"]) is torch.Tensor
