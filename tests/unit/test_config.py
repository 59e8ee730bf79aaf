"""Configurations: names, overrides, interpolation, and what a file may build."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sam2.config import (
    CONFIG_NAMES,
    SHORT_NAMES,
    ConfigError,
    apply_override,
    find_config,
    instantiate,
    load_config,
)

TRUNK = "model.image_encoder.trunk"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class TestNames:
    @pytest.mark.parametrize("packaged", CONFIG_NAMES)
    def test_with_or_without_folder_and_ending(self, packaged: str) -> None:
        path = find_config(packaged)
        assert path.is_file()
        stem = packaged.removesuffix(".yaml")
        for name in (stem, Path(packaged).name, Path(stem + ".yaml").stem, f"sam2/{packaged}", str(path)):
            assert find_config(name) == path

    def test_short_names_without_a_version_mean_2_1(self) -> None:
        assert find_config("tiny").name == "sam2.1_hiera_t.yaml"
        assert find_config("sam2-tiny").name == "sam2_hiera_t.yaml"
        assert find_config("default") == find_config("mini")
        assert set(SHORT_NAMES.values()) == set(CONFIG_NAMES)

    def test_a_packaged_name_wins_over_a_file_here_unless_the_path_is_explicit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "mini.yaml", "model: {}")
        assert find_config("mini.yaml") == find_config("configs/default/mini.yaml")
        assert find_config("./mini.yaml").resolve() == tmp_path / "mini.yaml"
        assert find_config(Path("mini.yaml")).resolve() == tmp_path / "mini.yaml"

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("tinny", "tiny"),
            ("configs/sam2.1/sam2.1_hiera_xl.yaml", "sam2.1/sam2.1_hiera_l.yaml"),
            ("sam2_hiera_tt", "sam2_hiera_t"),
        ],
    )
    def test_unknown_name_suggests_the_nearest(self, name: str, suggestion: str) -> None:
        with pytest.raises(ConfigError, match="did you mean") as caught:
            find_config(name)
        assert suggestion in str(caught.value)

    @pytest.mark.parametrize("name", [Path("absent.yaml"), 3, "zzzzzz"])
    def test_nothing_of_that_name(self, name: object) -> None:
        with pytest.raises(ConfigError):
            find_config(name)  # type: ignore[arg-type]


class TestOverrides:
    def test_change_add_and_remove(self) -> None:
        model = load_config(
            "tiny",
            [
                "model.image_size=256",
                "+model.max_cond_frames_in_attn=4",
                "++model.num_maskmem=3",
                "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
                f"{TRUNK}.stages=[1, 2, 3, 4]",
                f"{TRUNK}.stages.0=5",
                f"{TRUNK}.stages[3]=6",
                "~model.compile_image_encoder",
            ],
        )
        assert (model["image_size"], model["max_cond_frames_in_attn"], model["num_maskmem"]) == (256, 4, 3)
        assert model["sam_mask_decoder_extra_args"] == {"dynamic_multimask_via_stability": True}
        assert model["image_encoder"]["trunk"]["stages"] == [5, 2, 3, 6]
        assert "compile_image_encoder" not in model

    def test_later_overrides_win_and_nothing_is_kept_between_loads(self) -> None:
        assert load_config("tiny", ["model.image_size=256", "model.image_size=128"])["image_size"] == 128
        assert load_config("tiny")["image_size"] == 1024

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text("abc xyz0123:#'", min_size=1),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pqr"), inner, max_size=3)
            ),
        )
    )
    def test_any_yaml_value(self, value: object) -> None:
        tree: dict = {"model": {}}
        apply_override(tree, "++model.extra=" + yaml.safe_dump(value, default_flow_style=True, width=10_000))
        assert tree == {"model": {"extra": value}}

    def test_numbers_in_scientific_notation_are_numbers(self) -> None:
        model = load_config(
            "tiny", ["++model.a=1e-6", "++model.b=2E3", "++model.c=-1.5e2", "++model.d=1e-6x"]
        )
        assert (model["a"], model["b"], model["c"], model["d"]) == (1e-6, 2000.0, -150.0, "1e-6x")
        assert model["memory_encoder"]["fuser"]["layer"]["layer_scale_init_value"] == 1e-6

    def test_an_empty_value_is_an_empty_string(self) -> None:
        assert load_config("mini", ["++model.a="])["a"] == ""

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("model.imagesize=2", "did you mean 'image_size'"),
            ("model.image_encoder.trnk.stages=2", "did you mean 'trunk'"),
            ("~model.imagesize", "did you mean 'image_size'"),
            ("modl.image_size=2", "did you mean 'model'"),
            ("+model.image_size=2", "use ++"),
            ("model.image_size", "write key=value"),
            ("~model.image_size=2", "write key=value"),
            ("=2", "write key=value"),
            ("", "write key=value"),
            ("model.image_size.x=2", "has no keys"),
            ("++model.image_size.x.y=2", "has no keys"),
            (f"{TRUNK}.stages.4=2", "a list of 4"),
            (f"{TRUNK}.stages.first=2", "a list of 4"),
            ("model.image_size=[1", "not valid YAML"),
            ("model.image_size=!!python/object:os.system x", "not valid YAML"),
            ("model=3", "`model` must be"),
            (3, "write key=value"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, override: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
            load_config("tiny", [override])

    def test_one_string_instead_of_a_list(self) -> None:
        with pytest.raises(ConfigError, match="list"):
            load_config("tiny", "model.image_size=2")


class TestFiles:
    def test_published_style_with_other_sections_and_interpolation(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "mine.yaml",
            """# @package _global_
defaults:
  - _self_
scratch: {resolution: 512, sizes: [7, 8]}
trainer: {_target_: training.trainer.Trainer, epochs: "${times:2,3}"}
model:
  _target_: sam2.modeling.sam2_base.SAM2Base
  image_size: ${scratch.resolution}
  half: ${model.image_size}
  second: ${scratch.sizes.1}
  text: size ${scratch.resolution} px
""",
        )
        model = load_config(path, ["scratch.resolution=256"])
        assert (model["image_size"], model["half"], model["second"]) == (256, 256, 8)
        assert model["text"] == "size 256 px"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("${absent.key}", "full key"),
            ("${oc.env:HOME}", "full key"),
            ("${.sibling}", "full key"),
            ("${model.a}", "refers to itself"),
            ("x ${${model.b}}", "nested"),
        ],
    )
    def test_other_interpolation_is_refused(self, tmp_path: Path, value: str, message: str) -> None:
        path = write(tmp_path / "mine.yaml", f"model:\n  a: '{value}'\n  b: c\n")
        with pytest.raises(ConfigError, match=message):
            load_config(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no `model:`"),
            ("trainer: {}", "no `model:`"),
            ("model: 3", "no `model:`"),
            ("model: {a: 1, a: 2}", "stands twice"),
            ("model: {a: [1}", "not valid YAML"),
            ("model: {a: !!python/object/apply:os.getcwd []}", "not valid YAML"),
            ("model: &a {b: *a}", "not valid YAML"),
            ("defaults: [base, _self_]\nmodel: {a: 1}", "composed"),
        ],
    )
    def test_files_that_are_no_configuration(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_config(write(tmp_path / "mine.yaml", text))

    def test_a_binary_file(self, tmp_path: Path) -> None:
        path = tmp_path / "model.pt"
        path.write_bytes(b"PK\x03\x04\xff\xfe\x00")
        with pytest.raises(ConfigError, match="as text"):
            load_config(path)

    def test_an_alias_is_a_copy(self, tmp_path: Path) -> None:
        path = write(tmp_path / "mine.yaml", "model: {a: &x {v: 1}, b: *x}")
        assert load_config(path, ["model.a.v=2"]) == {"a": {"v": 2}, "b": {"v": 1}}


def fuser(**changes: object) -> dict:
    block = {"_target_": "sam2.modeling.memory_encoder.CXBlock", "dim": 8}
    return {"_target_": "sam2.modeling.memory_encoder.Fuser", "layer": block, "num_layers": 2} | changes


class TestInstantiate:
    def test_nested_modules(self) -> None:
        module = instantiate(fuser())
        assert module(torch.zeros(1, 8, 4, 4)).shape == (1, 8, 4, 4)
        assert len(module.layers) == 2

    @pytest.mark.parametrize(
        "target",
        [
            "os.system",
            "this.Zen",
            "torch.nn.Linear",
            "sam2_evil.Module",
            "sam2",
            "sam2.config.load_config",
            "sam2.config.os.system",
            "sam2.config.nn",
            "sam2.modeling.memory_encoder.nn.Linear",
            "sam2.modeling.memory_encoder.Tensor",
            "sam2.modeling.memory_encoder.__builtins__",
            "sam2.__main__.main",
            "sam2..config.x",
            "sam2.absent.Module",
            None,
            3,
        ],
    )
    def test_only_modules_of_the_package(self, target: object) -> None:
        with pytest.raises(ConfigError, match="_target_"):
            instantiate({"_target_": target})
        assert "this" not in sys.modules
        assert "sam2.__main__" not in sys.modules

    @pytest.mark.parametrize(
        ("node", "message"),
        [
            ({}, "no _target_"),
            (fuser(num_layer=2), "fuser.num_layer: Fuser has no argument .*did you mean 'num_layers'"),
            (fuser(_args_=[1]), "no argument '_args_'"),
            (fuser(num_layers="two"), "fuser.num_layers must be int, not 'two'"),
            (fuser(num_layers=True), "fuser.num_layers must be int"),
            (fuser(num_layers=2.5), "fuser.num_layers must be int"),
            (fuser(_target_="sam2.modeling.memory_encoder.Fusor"), "did you mean 'Fuser'"),
            (
                fuser(layer={"_target_": "sam2.modeling.memory_encoder.CXBlock"}),
                "fuser.layer: CXBlock needs 'dim'",
            ),
        ],
    )
    def test_arguments_are_checked_by_name_type_and_presence(self, node: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            instantiate(node, "fuser")

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("++model.imagesize=512", "did you mean 'image_size'"),
            ("++model.image_encoder.trunk.embed_dims=3", "did you mean 'embed_dim'"),
            ("++model.memory_attention.layer.cross_attention.rope_thета=3", "rope_theta"),
            (
                "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stabilty=true",
                "did you mean 'dynamic_multimask_via_stability'",
            ),
            ("++model.image_size=big", "model.image_size must be int"),
        ],
    )
    def test_mistyped_keys_of_a_whole_model(self, override: str, message: str) -> None:
        with torch.device("meta"), pytest.raises(ConfigError, match=message):
            instantiate(load_config("mini", [override]))

    def test_arguments_of_base_classes_are_known(self) -> None:
        node = load_config("mini", ["++model._target_=sam2.sam2_video_predictor.SAM2VideoPredictor"])
        with torch.device("meta"):
            assert instantiate(node | {"fill_hole_area": 3}).fill_hole_area == 3
            with pytest.raises(ConfigError, match="did you mean 'fill_hole_area'"):
                instantiate(node | {"fill_hole_are": 3})
