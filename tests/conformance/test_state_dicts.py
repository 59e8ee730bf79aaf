"""The eight official configurations have the state dicts of the eight official checkpoints."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sam2.checkpoint import config_shapes, fitting_config
from sam2.config import CONFIG_NAMES

HERE = Path(__file__).resolve().parent
FINGERPRINTS = json.loads((HERE / "state_dicts.json").read_text())
MANIFESTS = HERE.parents[2] / "shared" / "conformance" / "manifests"
OFFICIAL = {Path(name).stem: name for name in CONFIG_NAMES if "default" not in name}


def test_all_eight_are_there() -> None:
    assert set(OFFICIAL) == set(FINGERPRINTS)


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_names_and_shapes_have_the_fingerprint_of_the_checkpoint(name: str) -> None:
    shapes = config_shapes(OFFICIAL[name])
    lines = [f"{key}:{'x'.join(map(str, shape))}" for key, shape in sorted(shapes.items())]
    assert len(lines) == FINGERPRINTS[name]["tensors"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == FINGERPRINTS[name]["sha256"]


@pytest.mark.skipif(not MANIFESTS.is_dir(), reason="the conformance kit is not beside the project")
@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_names_and_shapes_equal_the_manifest(name: str) -> None:
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text())
    assert dict(config_shapes(OFFICIAL[name])) == {key: tuple(shape) for key, shape in manifest.items()}


@pytest.mark.parametrize("name", CONFIG_NAMES)
def test_each_state_dict_is_recognised_as_its_own_configuration(name: str) -> None:
    assert fitting_config(config_shapes(name)) == name
