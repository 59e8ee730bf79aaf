"""Two processes learn what one learns that accumulates."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from training_helpers import toy_run

from sam2.training import state

HERE = Path(__file__).parent
SCRIPT = (
    f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
    "sys.modules['torch.utils.tensorboard'] = None\n"
    "from training_helpers import toy_data; toy_data()\n"
    "from sam2.cli import main\n"
    "sys.exit(main(['train', *sys.argv[1:]]))\n"
)


def run(file: Path, processes: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(processes):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        if processes > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", SCRIPT, str(file)]
        children.append(subprocess.Popen(command, cwd=HERE.parents[1], env=env))
    assert [child.wait(timeout=300) for child in children] == [0] * processes


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(tmp_path: Path) -> None:
    saved = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        file = tmp_path / f"{processes}.yaml"
        # stills and clips in one step: only some micro-batches use the memory
        file.write_text(yaml.safe_dump(toy_run(out, steps=3)))
        run(file, processes)
        saved.append(state.load_state(out / "state.pt"))
    one, two = saved
    assert one["step"] == two["step"] == 3
    for key in ("weights",):
        for name, value in one[key].items():
            torch.testing.assert_close(two[key][name], value, rtol=0, atol=2e-5, msg=name)
    moments = [s["optimizer"]["state"] for s in saved]
    assert moments[0].keys() == moments[1].keys()
    for i, moment in moments[0].items():
        torch.testing.assert_close(moments[1][i]["exp_avg"], moment["exp_avg"], rtol=1e-3, atol=1e-6)
