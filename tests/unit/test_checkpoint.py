"""Checkpoints: what is read, what is refused, and what the errors say."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sam2.checkpoint
from sam2.checkpoint import (
    CheckpointError,
    config_shapes,
    fitting_config,
    load_checkpoint,
    read_state_dict,
    save_checkpoint,
)
from sam2.config import instantiate, load_config


class Pair(nn.Module):
    """Two layers are enough to read, write and mismatch."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 1)


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


class TestRoundTrip:
    @pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors"])
    def test_saved_and_loaded(self, tmp_path: Path, name: str) -> None:
        model, other = Pair(), Pair()
        save_checkpoint(model, tmp_path / name)
        load_checkpoint(other, tmp_path / name)
        assert same(values(model), values(other))
        assert os.listdir(tmp_path) == [name]

    def test_the_pt_file_has_the_official_layout(self, tmp_path: Path) -> None:
        save_checkpoint(Pair(), tmp_path / "model.pt")
        content = torch.load(tmp_path / "model.pt", weights_only=True)
        assert list(content) == ["model"]
        assert set(content["model"]) == set(Pair().state_dict())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
    def test_other_precisions_are_cast_to_the_models(
        self, tmp_path: Path, dtype: torch.dtype, name: str
    ) -> None:
        model, other = Pair(), Pair()
        save_checkpoint(model, tmp_path / name, dtype=dtype)
        assert {value.dtype for value in read_state_dict(tmp_path / name).values()} == {dtype}
        load_checkpoint(other, tmp_path / name)
        assert {value.dtype for value in other.state_dict().values()} == {torch.float32}
        assert same({k: v.to(dtype).float() for k, v in values(model).items()}, values(other))

    def test_bare_and_legacy_files_and_files_of_a_trainer(self, tmp_path: Path) -> None:
        model = Pair()
        torch.save(model.state_dict(), tmp_path / "bare.pt")
        torch.save(
            {"model": model.state_dict()}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False
        )
        trainer = {"model": model.state_dict(), "optimizer": {"state": {}, "groups": [1e-3]}, "epoch": 3}
        torch.save(trainer, tmp_path / "trainer.pt")
        for name in ("bare.pt", "legacy.pt", "trainer.pt"):
            assert same(read_state_dict(tmp_path / name), values(model))

    def test_the_content_decides_and_not_the_ending(self, tmp_path: Path) -> None:
        model = Pair()
        save_checkpoint(model, tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").rename(tmp_path / "model.pt")
        assert same(read_state_dict(tmp_path / "model.pt"), values(model))

    @pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
    def test_others_may_read_what_is_saved(self, tmp_path: Path, name: str) -> None:
        save_checkpoint(Pair(), tmp_path / name)
        (tmp_path / "usual").touch()
        assert (tmp_path / name).stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_a_file_can_be_loaded_and_saved_in_its_place(self, tmp_path: Path) -> None:
        model, path = Pair(), tmp_path / "model.pt"
        save_checkpoint(model, path)
        load_checkpoint(model, path)
        save_checkpoint(model, path)
        assert same(read_state_dict(path), values(model))


class TestSaving:
    def test_a_failed_save_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model, path = Pair(), tmp_path / "model.pt"
        save_checkpoint(model, path)

        def full_disk(content: object, target: Path) -> None:
            Path(target).write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr(sam2.checkpoint.torch, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(Pair(), path)
        assert same(read_state_dict(path), values(model))
        assert os.listdir(tmp_path) == ["model.pt"]

    @pytest.mark.parametrize(
        ("name", "message"), [("model.bin", ".safetensors"), ("absent/model.pt", "no folder")]
    )
    def test_where_it_cannot_write(self, tmp_path: Path, name: str, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(Pair(), tmp_path / name)


class Payload:
    """Pickles to a call that makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def safetensors_bytes() -> bytes:
    header = json.dumps({"first.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


class TestRefusedFiles:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"not a checkpoint", "cannot read"),
            (b"\x00" * 100, "cannot read"),
            (b"\x80\x02", "cannot read"),
            (b"PK\x03\x04" + bytes(50), "cannot read"),
            (b"<!DOCTYPE html><html><body>404</body></html>", "cannot read"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
            (safetensors_bytes()[:-3], "cannot read"),
            (struct.pack("<Q", 1 << 60) + b"{}", "cannot read"),
            (pickle.dumps([1, 2, 3]), "cannot read|no state dict"),
        ],
    )
    def test_damaged_content(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(Pair(), path)
        assert "model.pt" in str(caught.value)

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
    def test_truncated_files(self, tmp_path: Path, zipped: bool, share: float) -> None:
        path = tmp_path / "model.pt"
        torch.save({"model": Pair().state_dict()}, path, _use_new_zipfile_serialization=zipped)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError, match="cannot read"):
            load_checkpoint(Pair(), path)

    @pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
    def test_a_malicious_pickle_runs_nothing(self, tmp_path: Path, kind: str) -> None:
        path, target = tmp_path / "model.pt", tmp_path / "made by the pickle"
        content = {"model": Pair().state_dict(), "extra": Payload(target)}
        if kind == "pickle":
            path.write_bytes(pickle.dumps(content))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
        with pytest.raises(CheckpointError, match="cannot read"):
            load_checkpoint(Pair(), path)
        assert not target.exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"model": {}}, "no state dict"),
            ({}, "no state dict"),
            ([torch.zeros(1)], "no state dict"),
            ({"epoch": 3}, "'epoch' is int"),
            ({"model": {"first.weight": 3}}, "'first.weight' is int"),
            ({"model": {"first.weight": torch.zeros(2, dtype=torch.int8)}}, "floating point"),
        ],
    )
    def test_content_that_is_no_table_of_weights(self, tmp_path: Path, content: object, message: str) -> None:
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(Pair(), tmp_path / "model.pt")

    def test_missing_files(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.pt", tmp_path):
            with pytest.raises(FileNotFoundError, match="no checkpoint file"):
                load_checkpoint(Pair(), path)


class TestMismatch:
    def test_names_and_shapes_that_differ_are_named_and_nothing_is_loaded(self, tmp_path: Path) -> None:
        model = Pair()
        before = values(model)
        tensors = Pair(width=4).state_dict()
        tensors["third.weight"] = tensors.pop("second.bias")
        save_file(dict(tensors), tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(model, tmp_path / "model.safetensors")
        message = str(caught.value)
        assert "the file lacks second.bias" in message
        assert "the model has no third.weight" in message
        assert "first.weight ((4, 2), model (3, 2))" in message
        assert "none of the packaged configurations" in message
        assert same(values(model), before)

    def test_the_configuration_that_fits_is_named(self, tmp_path: Path) -> None:
        shapes = config_shapes("configs/sam2/sam2_hiera_t.yaml")
        torch.save(
            {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, tmp_path / "model.pt"
        )
        with torch.device("meta"):
            model = instantiate(load_config("sam2.1-tiny"))
        with pytest.raises(CheckpointError, match="no_obj_embed_spatial") as caught:
            load_checkpoint(model, tmp_path / "model.pt")
        assert "fits the configuration 'configs/sam2/sam2_hiera_t.yaml'" in str(caught.value)

    def test_image_weights_alone_do_for_pictures_only(self, tmp_path: Path) -> None:
        names = [
            name
            for name in config_shapes("configs/default/mini.yaml")
            if not name.startswith(sam2.checkpoint.MEMORY_PARTS)
        ]
        model = instantiate(load_config("mini"))
        tensors = {name: value + 1 for name, value in model.state_dict().items() if name in names}
        save_file(tensors, tmp_path / "image.safetensors")
        memory = model.maskmem_tpos_enc.clone()
        with pytest.raises(CheckpointError, match="image model alone"):
            load_checkpoint(model, tmp_path / "image.safetensors")
        load_checkpoint(model, tmp_path / "image.safetensors", image_only=True)
        assert same({name: model.state_dict()[name] for name in names}, tensors)
        assert torch.equal(model.maskmem_tpos_enc, memory)

    def test_no_packaged_configuration_fits_something_else(self) -> None:
        assert fitting_config({"weight": (3, 2)}) is None
