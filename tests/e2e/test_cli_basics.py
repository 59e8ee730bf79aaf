"""Help, version, the list of models, and how errors look."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from e2e_helpers import command, environment

import sam2 as package

VERBS = ["segment", "auto", "track", "models", "doctor", "export"]
VERBS += ["finetune", "train", "pretrain", "eval", "data"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_importing_the_command_loads_nothing_heavy():
    loaded = python("import sys, sam2.cli; print(*sys.modules)").stdout.split()
    assert not {"torch", "numpy", "scipy", "av", "PIL"} & set(loaded)


@pytest.mark.parametrize("arguments", [["--help"], ["track", "--help"], ["--version"]])
def test_help_is_quick(arguments):
    code = f"from sam2.cli import main; main({arguments!r})"

    def seconds(run: str) -> float:
        began = os.times()
        python(run)
        ended = os.times()
        return ended.children_user + ended.children_system - began.children_user - began.children_system

    # processor time, and less what Python itself takes, so that a busy machine does not count
    assert seconds(code) - seconds("pass") < 0.3


def test_version(sam2):
    outcome = sam2("--version")
    assert (outcome.code, outcome.out) == (0, f"sam2 {package.__version__}\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(sam2, verb):
    outcome = sam2(verb, "--help")
    assert outcome.code == 0
    assert f"\n  sam2 {verb}" in outcome.out.split("example", 1)[1]


def test_help_names_every_verb(sam2):
    assert all(f"\n    {verb} " in sam2("--help").out for verb in VERBS)


def test_no_verb(sam2):
    assert sam2().refused("VERB", "--help")


def test_unknown_verb_suggests_the_nearest(sam2):
    assert sam2("segmnt", "photo.png").refused("segmnt", "did you mean 'segment'?")


def test_unknown_format_suggests_the_nearest(sam2, photo):
    assert sam2("segment", photo, "--point", "3,3", "--format", "cocco").refused("did you mean 'coco'?")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--point", "3"], "x,y"),
        (["--point", "3,4,5"], "label"),
        (["--point", "a,b"], "numbers"),
        (["--box", "1,2,3"], "x0,y0,x1,y1"),
    ],
)
def test_malformed_options(sam2, photo, given, words):
    assert sam2("segment", photo, *given).refused(words, "sam2 segment --help")


def test_unknown_option(sam2, photo):
    assert sam2("segment", photo, "--pont", "3,3").refused("--pont")


def test_debug_shows_the_traceback(sam2):
    quiet = sam2("segment", "missing.png", "--point", "3,3")
    loud = sam2("segment", "missing.png", "--point", "3,3", "--debug")
    assert quiet.refused("missing.png")
    assert loud.code == 2
    assert "Traceback" in loud.err
    assert loud.err.splitlines()[-1] == quiet.err.splitlines()[-1]


def test_models_lists_what_there_is(sam2, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    text = sam2("models").out
    models = {model["name"]: model for model in json.loads(sam2("models", "--json").out)}
    assert len(models) == 9
    assert all(f"\n{name} " in f"\n{text}" for name in models)
    assert models["mini"]["hub_id"] is None
    assert models["mini"]["state"] in ("packaged", "missing")
    large = models["large"]
    assert (large["hub_id"], large["image_size"]) == ("facebook/sam2.1-hiera-large", 1024)
    assert (large["parameters"], large["state"], large["checkpoint"]) == (224_446_642, "remote", None)


def test_models_finds_what_the_hub_has_cached(sam2, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub/models--facebook--sam2.1-hiera-tiny/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "sam2.1_hiera_tiny.pt").write_bytes(b"weights")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    states = {model["name"]: model for model in json.loads(sam2("models", "--json").out)}
    assert states["tiny"]["state"] == "cached"
    assert states["tiny"]["checkpoint"].endswith("sam2.1_hiera_tiny.pt")
    assert states["small"]["state"] == "remote"


def test_the_module_runs_as_the_command():
    done = subprocess.run(command("--version"), env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"sam2 {package.__version__}\n")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    with subprocess.Popen(
        command("models"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "3000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_threads_wait_asleep_unless_the_user_says_how(given: dict[str, str], expected: str) -> None:
    script = (
        "import contextlib, os, sys\n"
        "from sam2.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['--version'])\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    around = {k: v for k, v in environment().items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.run(
        [sys.executable, "-c", script], env=around | given, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == expected
