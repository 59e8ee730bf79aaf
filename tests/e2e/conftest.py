"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from e2e_helpers import Outcome, command, environment, picture_of
from PIL import Image


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Random weights for the packaged configuration `mini`, always the same."""
    import torch

    from sam2.build_sam import build_sam2_video_predictor
    from sam2.checkpoint import save_checkpoint

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_checkpoint(build_sam2_video_predictor("mini", None, device="cpu"), path)
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture_of()).save(path)
    return path


@pytest.fixture
def frames_folder(tmp_path):
    """Five JPEG frames in which a disc moves."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(picture_of(shift=3 * index)).save(folder / f"{index:05d}.jpg", quality=95)
    return folder


@pytest.fixture
def sam2(tmp_path, monkeypatch, capsys) -> Callable[..., Outcome]:
    """Runs the command in this process, in a folder of the test's own."""
    from sam2.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def sam2_process(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m sam2` with the given arguments, in a folder of the test's own."""

    def run(*arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
