"""The verbs about training and data, on a model of a few thousand parameters."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from e2e_helpers import REPOSITORY
from PIL import Image

from sam2.cli import data as data_verb
from sam2.cli import evaluate as eval_verb
from tests.unit.training_helpers import TINY

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _no_tensorboard(monkeypatch):
    # slow to import and not what is tested
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)


@pytest.fixture
def stills(tmp_path):
    """Six pictures of a disc, with masks."""
    y, x = np.mgrid[:64, :80]
    for number in range(6):
        disc = (x - 20 - 6 * number) ** 2 + (y - 30) ** 2 < (8 + number) ** 2
        picture = np.random.default_rng(number).integers(0, 90, (64, 80, 3), np.uint8)
        picture[disc] = (230, 60 + 20 * number, 90)
        for folder in ("images", "masks"):
            (tmp_path / "discs" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "discs" / "images" / f"{number}.jpg", quality=95)
        Image.fromarray(disc.astype(np.uint8) * 255).save(tmp_path / "discs" / "masks" / f"{number}.png")
    return tmp_path / "discs"


@pytest.fixture
def tiny(tmp_path):
    """A configuration and random weights for it."""
    import torch

    from sam2.checkpoint import save_checkpoint
    from sam2.config import load_config
    from sam2.training.options import ModelOptions
    from sam2.training.run import build_model

    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"model": load_config("mini", TINY)}))
    torch.manual_seed(0)
    save_checkpoint(build_model(ModelOptions(overrides=TINY)), tmp_path / "tiny.pt")
    return ["--model", "tiny.yaml", "--checkpoint", "tiny.pt", "--device", "cpu"]


def write_run(folder: Path, **changes: Any) -> Path:
    """A run of two steps on generated pictures and clips."""
    run: dict[str, Any] = {
        "out": "out/run",
        "steps": 2,
        "log_steps": 1,
        "picture_steps": 0,
        "device": "cpu",
        "model": {"overrides": list(TINY)},
        "data": [
            {"source": "scenes.generate_still", "args": {"size": 64, "difficulty": 0.1}, "batch": 2},
            {
                "source": "motion.generate_clip",
                "args": {"size": 64, "length": 4, "difficulty": 0.1},
                "batch": 1,
                "frames": 3,
            },
        ],
        "pvs": {"clicks": 1},
        "optim": {"warmup": 0},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run | changes))
    return path


# ---------------------------------------------------------------- train, pretrain


def test_a_run_ends_with_weights_and_goes_on_when_told(sam2, tmp_path):
    run = write_run(tmp_path)
    outcome = sam2("train", run)
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "finished at step 2; weights: out/run/model.safetensors"
    assert sam2("train", run).refused("holds a run already", "--resume")
    assert (
        sam2("train", run, "--resume", "--set", "steps=3")
        .out.splitlines()[-1]
        .startswith("finished at step 3")
    )
    with open(tmp_path / "out/run/metrics.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stpes=3", ["unknown option stpes", "did you mean 'steps'?"]),
        ("optim.lr=fast", ["optim.lr is 'fast'", "a number"]),
        ("data.0.batch=0", ["batch is 0"]),
        ("data.7.batch=1", ["'7' is not a place in a list of 2"]),
        ("data.first.batch=1", ["'first' is not a place in a list of 2"]),
        ("model.overrides.0.x=1", ["has no options"]),
        ("steps", ["'steps' is not KEY=VALUE"]),
        ("steps=[", ["not valid YAML"]),
        ("data.0.source=scenes.generate", ["no data source 'scenes.generate'"]),
        ("data.0.args.colour=1", ["colour"]),
        ("optim.freeze=[trunk]", ["no parameter is called 'trunk'"]),
        ("accumulate=0", ["accumulate is 0"]),
    ],
)
def test_a_mistake_in_a_run_is_named(sam2, tmp_path, change, words):
    assert sam2("train", write_run(tmp_path), "--set", change).refused(*words)


def test_files_that_are_no_run(sam2, tmp_path):
    assert sam2("train", "missing.yaml").refused("missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    assert sam2("train", "list.yaml", "--set", "a=1").refused("list.yaml", "a mapping of options")
    (tmp_path / "photo.yaml").write_bytes(b"\xff\xd8\xff")
    assert sam2("train", "photo.yaml").refused("photo.yaml is not valid YAML")
    assert sam2("train", write_run(tmp_path), "--resume").refused("start without --resume")


def test_a_loss_that_is_no_number_ends_the_run(sam2, tmp_path):
    run = write_run(tmp_path, optim={"warmup": 0, "lr": 1e30, "clip": None}, steps=9)
    outcome = sam2("train", run)
    assert outcome.code == 1
    assert outcome.err.startswith("sam2: error: the loss or its gradient is not a number at step")
    assert list((tmp_path / "out/run").glob("failed_step*_rank0.pt"))


INTERRUPTED = """
import importlib, os, signal, sys
from sam2.cli import main

place, name, nth = sys.argv[1], sys.argv[2], int(sys.argv[3])
module, _, inside = place.partition(":")
holder = importlib.import_module(module)
holder = getattr(holder, inside) if inside else holder
original, calls = getattr(holder, name), []

def interrupted(*args):
    calls.append(args)
    if len(calls) == nth:
        os.kill(os.getpid(), signal.SIGINT)
    return original(*args)

setattr(holder, name, interrupted)
sys.exit(main(sys.argv[4:]))
"""


def interrupted(tmp_path, place, name, nth, *command):
    """Runs a command that gets a Ctrl-C at the nth call of a function, in a process of its own."""
    call = [sys.executable, "-c", INTERRUPTED, place, name, str(nth), *map(str, command)]
    return subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)


def test_ctrl_c_saves_first(sam2, tmp_path):
    run = write_run(tmp_path, steps=50)
    outcome = interrupted(tmp_path, "sam2.training.run:PvsTask", "losses", 3, "train", run)
    assert outcome.returncode == 130, outcome.stderr
    assert "stopped at step 3 of 50; --resume goes on" in outcome.stdout
    assert sam2("train", run, "--resume", "--set", "steps=4").code == 0


def test_a_pretrained_trunk_is_taken_up(sam2, tmp_path):
    run = yaml.safe_load(write_run(tmp_path).read_text())
    mae = {key: run[key] for key in ("steps", "log_steps", "picture_steps", "device", "model")}
    mae |= {"out": "out/mae", "data": run["data"][:1]}
    (tmp_path / "mae.yaml").write_text(yaml.safe_dump(mae))
    assert sam2("pretrain", "mae.yaml").out.splitlines()[-1].endswith("out/mae/model.safetensors")
    given = ["--set", "model.init=out/mae/model.safetensors"]
    assert sam2("train", "run.yaml", *given).refused("out/mae/model.safetensors")
    assert sam2("train", "run.yaml", *given, "--set", "model.init_partial=true").code == 0


def test_the_run_files_of_the_page_are_valid():
    from sam2.training.options import RunOptions, read_options
    from sam2.training.pretrain import PretrainOptions

    page = (REPOSITORY / "docs" / "training.md").read_text()
    runs = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    ]
    kinds = [PretrainOptions if run["out"] == "runs/mae" else RunOptions for run in runs]
    options = [read_options(kind, run) for kind, run in zip(kinds, runs, strict=True)]
    assert [o.out for o in options] == ["runs/first", "runs/lora", "runs/mae"]


def test_a_run_starts_from_a_model_by_its_name(monkeypatch):
    from sam2.training import run as runs
    from sam2.training.options import ModelOptions

    asked = []
    monkeypatch.setattr(runs, "load_checkpoint", lambda _, path: asked.append(path))
    monkeypatch.setattr(runs, "resolve_model", lambda name: (name, f"weights of {name}"))
    runs.build_model(ModelOptions(overrides=TINY, init="mini"))
    runs.build_model(ModelOptions(overrides=TINY, init="facebook/sam2.1-hiera-small"))
    runs.build_model(ModelOptions(overrides=TINY, init="mine.pt"))
    assert asked == ["weights of mini", "weights of facebook/sam2.1-hiera-small", "mine.pt"]


# ---------------------------------------------------------------- finetune, eval


def test_fine_tuning_and_judging(sam2, tmp_path, stills, tiny):
    quick = ["--steps", "2", "--check-steps", "1", "--clicks", "1", "--batch", "2"]
    outcome = sam2("finetune", stills, "--out", "out/discs", *quick, *tiny)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("before: IoU from a click")
    assert lines[-2].startswith("after: ")
    assert lines[-1] == "weights: out/discs/model.safetensors"
    again = sam2("finetune", stills, "--out", "out/discs", *quick, *tiny)
    assert again.refused("out/discs/model.safetensors is there already", "--force")
    tuned = ["--model", "tiny.yaml", "--checkpoint", "out/discs/model.safetensors", "--device", "cpu"]
    judged = sam2("eval", stills, "--protocol", "clicks", *tuned)
    assert judged.code == 0
    assert re.search(r"^iou_1_clicks +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]$", judged.out, re.MULTILINE)
    assert "6 objects of 6; by object: out/discs-clicks/objects.csv" in judged.out
    with open(tmp_path / "out/discs-clicks/objects.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    assert (tmp_path / "out/discs-clicks/worst.png").exists()
    assert sam2("eval", stills, "--protocol", "clicks", *tuned).refused("holds results already", "--force")


def test_stopping_fine_tuning_keeps_the_best(tmp_path, stills, tiny):
    command = ["finetune", stills, "--out", "out", "--clicks", "1", "--batch", "2", *tiny]
    outcome = interrupted(tmp_path, "sam2.training.finetune", "interact", 1, *command)
    assert outcome.returncode == 0, outcome.stderr
    assert "(interrupted, 1 steps)" in outcome.stdout
    assert (tmp_path / "out/model.safetensors").exists()
    assert json.loads((tmp_path / "out/finetune.json").read_text())["reason"] == "interrupted"


def test_what_cannot_be_learnt_from_or_judged_is_refused(sam2, tmp_path, stills, tiny):
    (stills / "images/0.jpg").write_bytes(b"damaged")
    unread = sam2("eval", stills, "--protocol", "clicks", *tiny)
    assert "not read: 1, listed in out/discs-clicks/summary.json; the first:" in unread.out
    assert "0.jpg" in unread.out
    assert sam2("eval", stills, "--protocol", "1-click", "--limit", "2", *tiny).refused(
        "no object could be scored"
    )
    assert sam2("eval", stills, "--protocol", "click").refused("invalid choice", "did you mean 'clicks'?")
    assert sam2("eval", "nowhere", "--protocol", "clicks", *tiny).refused("nowhere does not exist")
    assert sam2("finetune", "nowhere", "--out", "out", *tiny).refused("nowhere does not exist")
    for path in sorted((stills / "images").iterdir())[1:]:
        path.unlink()
    assert sam2("finetune", stills, "--out", "out", *tiny).refused("holds 1 clips", "at least 2")
    assert sam2("finetune", stills, "--out", "out", "--held-out", "1", *tiny).refused("held_out is 1.0")


def test_the_options_of_fine_tuning_are_all_there(sam2):
    from sam2.training.finetune import FinetuneOptions

    text = " ".join(sam2("finetune", "--help").out.split())
    described = text.split(" what: ")[1].split(" example")[0]
    for option in fields(FinetuneOptions):
        if option.name in ("data", "overrides"):
            continue
        _, flag, rest = described.partition(f"--{option.name.replace('_', '-')} ")
        assert flag, option.name
        if option.default not in (None, MISSING):
            default = option.default if isinstance(option.default, str) else f"{option.default:g}"
            assert f"(default {default})" in rest.split(" --")[0]


def test_choices_are_those_of_the_library():
    from sam2.data import pool, readers
    from sam2.evaluation import run

    assert [name.replace("-", " ") for name in eval_verb.PROTOCOLS] == [*run.STILLS, *run.CLIPS]
    assert data_verb.FORMATS == readers.FORMATS
    assert set(data_verb.CODECS) == set(pool.CODECS)


# ---------------------------------------------------------------- data


def test_a_pool_is_made_checked_and_shown(sam2, tmp_path):
    made = ["data", "make", "pool", "--count", "3", "--size", "48", "--difficulty", "0,0.2", "--workers", "1"]
    outcome = sam2(*made, "--length", "2")
    assert (outcome.code, outcome.out.splitlines()[-1]) == (0, "3 scenes: pool")
    assert sam2("data", "check", "pool").out == "3 clips (pool), no problems\n"
    assert sam2(*made).refused("another recipe", "length")
    assert sam2("data", "show", "pool", "--count", "2").out == "2 of 3 clips: sheet.png\n"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 2 * (320 + 12) + 12  # two frames a row
    assert sam2("data", "show", "pool").refused("sheet.png exists", "--force")
    assert sam2("data", "show", "pool", "--out", "sheet.xyz").refused(".xyz")
    assert sam2("data", "make", "q", "--difficulty", "0.5,0.2").refused("two rising numbers")
    assert sam2("data", "make", "q", "--difficulty", "hard").refused("'hard' is not LOW,HIGH")


def test_ctrl_c_keeps_the_scenes_that_are_made(sam2, monkeypatch):
    from sam2.data import pool

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "_write_shard", interrupted)
    outcome = sam2("data", "make", "pool", "--count", "3", "--size", "48", "--workers", "1")
    assert outcome.code == 130
    assert outcome.err == "sam2: interrupted; what pool holds stays, begin again to go on\n"


def test_check_names_each_file_at_fault(sam2, stills):
    assert sam2("data", "check", stills).out == "6 clips (pairs), no problems\n"
    (stills / "images/2.jpg").write_bytes(b"damaged")
    (stills / "masks/4.png").unlink()
    Image.new("L", (80, 64)).save(stills / "masks/5.png")
    outcome = sam2("data", "check", stills, "--format", "pairs")
    assert outcome.code == 1
    assert outcome.err == f"sam2: 3 problems in {stills}\n"
    named = {Path(line.split(": ")[0]).relative_to(stills).as_posix() for line in outcome.out.splitlines()}
    assert named == {"images/2.jpg", "images/4.jpg", "masks/5.png"}
    assert sam2("data", "check", "nowhere").refused("nowhere does not exist")
    assert sam2("data", "check", stills, "--split", "val").refused("no split 'val'")
    assert sam2("data").refused("ACTION")
