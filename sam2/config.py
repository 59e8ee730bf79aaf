"""Model configurations: YAML with `_target_` nodes, changed by override strings, turned into modules.

The published configurations and override strings work as they are; Hydra is not used. The differences
are on the safe side: `_target_` reaches the package's own modules only, and every key is checked
against the class that receives it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

CONFIG_ROOT = Path(__file__).parent / "configs"

# Short names. Those without a version mean SAM 2.1.
SHORT_NAMES = {
    "mini": "configs/default/mini.yaml",
    "default": "configs/default/mini.yaml",
    **{
        f"{prefix}{size}": f"configs/{family}/{family}_hiera_{key}.yaml"
        for prefix, family in (("", "sam2.1"), ("sam2.1-", "sam2.1"), ("sam2-", "sam2"))
        for key, size in (("t", "tiny"), ("s", "small"), ("b+", "base-plus"), ("l", "large"))
    },
}
# Every configuration that comes with the package, the newest first.
CONFIG_NAMES = tuple(sorted(set(SHORT_NAMES.values()), key=lambda name: ("sam2.1" not in name, name)))

# Options that SAM2Base hands on as they are, and who receives them.
_HANDED_ON = {"sam_mask_decoder_extra_args": "sam2.modeling.sam.mask_decoder.MaskDecoder"}
_TARGET = re.compile(r"sam2(\.[A-Za-z][A-Za-z0-9_]*)+")
_OVERRIDE = re.compile(r"(?P<op>\+\+|\+|~)?(?P<key>[^=\s~+]+)(?P<assign>=(?P<value>.*))?", re.DOTALL)
_INTERPOLATION = re.compile(r"\$\{([^${}]*)\}")
_PLAIN_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
}


class ConfigError(ValueError):
    """A configuration, key, override or `_target_` that cannot be used; the message says what to write."""


# ---------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that `1e-6` is a number and a repeated key an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$|[-+]?\.\d+[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _parse_yaml(text: str, what: str) -> Any:
    try:
        return _unshared(yaml.load(text, Loader=_Loader))
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ConfigError(f"{what} is not valid YAML: {' '.join(str(error).split())}") from error


def _unshared(node: Any) -> Any:
    """A copy in which YAML aliases no longer share a node, so that an override changes one place only."""
    if isinstance(node, dict):
        return {str(key): _unshared(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_unshared(value) for value in node]
    return node


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the name most like `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def find_config(name: str | os.PathLike[str]) -> Path:
    """The file of a configuration.

    `name` is a short name ("mini", "tiny", "sam2-large"), a packaged file with or without its folder and
    ".yaml" ("configs/sam2.1/sam2.1_hiera_t.yaml", "sam2_hiera_b+"), or the path of a file. A packaged name
    wins over a file of that name in the working directory: write `./name.yaml`, or pass a `Path`, for the
    latter.

    Raises:
        ConfigError: nothing has that name; the nearest one is suggested.
    """
    if isinstance(name, os.PathLike):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"there is no configuration file {str(path)!r}")
        return path
    if not isinstance(name, str):
        raise ConfigError(f"a configuration is a name or a path, not {type(name).__name__} {name!r}")
    known = {key: value.removeprefix("configs/") for key, value in SHORT_NAMES.items()}
    for packaged in CONFIG_NAMES:
        relative = packaged.removeprefix("configs/")
        known |= {relative: relative, relative.rsplit("/", 1)[1]: relative}
    asked = name.removeprefix("sam2/configs/").removeprefix("configs/")
    for candidate in (asked, f"{asked}.yaml"):
        if candidate in known:
            return CONFIG_ROOT / known[candidate]
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.is_file():
            return path
    raise ConfigError(
        f"unknown configuration {name!r}{nearest(asked, known)} "
        f"(known: {', '.join(SHORT_NAMES)}, or the path of a YAML file)"
    )


def load_config(name: str | os.PathLike[str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The `model` node of a configuration as plain data, overrides applied and `${...}` filled in.

    Args:
        name: see `find_config`.
        overrides: `model.a.b=value` changes a key that exists, `+model.a=value` adds one that does not,
            `++model.a=value` does either, `~model.a` removes one. Values are YAML; lists are indexed by
            number (`model.image_encoder.trunk.stages.2=5`).

    Sections other than `model` (a trainer's) are read for `${section.key}` and otherwise left alone.

    Raises:
        ConfigError: unknown name, invalid YAML, no `model` node, or an override that does not fit.
    """
    path = find_config(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {str(path)!r} as text: {error}") from error
    tree = _parse_yaml(text, f"the configuration {str(path)!r}")
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise ConfigError(f"the configuration {str(path)!r} has no `model:` node")
    composed = [part for part in tree.get("defaults") or [] if part != "_self_"]
    if composed:
        raise ConfigError(f"{str(path)!r} is composed of other files ({composed}); write it as one file")
    if isinstance(overrides, str):
        raise ConfigError(f"overrides are a list of strings, not one string: write [{overrides!r}]")
    for override in overrides:
        apply_override(tree, override)
    model = _fill_in(tree["model"], tree, ())
    if not isinstance(model, dict):
        raise ConfigError(f"`model` must be a mapping, not {model!r}")
    return model


# ---------------------------------------------------------------- overrides


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Applies one override string (see `load_config`) to `tree` in place.

    Raises:
        ConfigError: the string cannot be read, or its key is absent (present, for `+`).
    """
    match = _OVERRIDE.fullmatch(override.strip()) if isinstance(override, str) else None
    op, assign = (match["op"] or "", match["assign"]) if match else ("", None)
    if match is None or (assign is None) != (op == "~"):
        raise ConfigError(
            f"cannot read the override {override!r}: write key=value, +key=value, ++key=value or ~key"
        )
    *parents, leaf = re.sub(r"\[(\d+)\]", r".\1", match["key"]).split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        slot = _slot(node, part, parents[:depth], override)
        if isinstance(node, dict) and node.get(slot) is None:
            if op.startswith("+"):
                node[slot] = {}
            elif slot not in node:
                raise _absent(slot, node, parents[:depth], override)
        node = node[slot]
    slot = _slot(node, leaf, parents, override)
    present = isinstance(node, list) or slot in node
    if op == "+" and present:
        raise ConfigError(f"override {override!r}: {match['key']!r} is there already; use ++ to change it")
    if op in ("", "~") and not present:
        raise _absent(slot, node, parents, override)
    if op == "~":
        del node[slot]
    else:
        value = match["value"].strip()
        node[slot] = _parse_yaml(value, f"the value of override {override!r}") if value else ""


def _slot(node: Any, part: str, path: Sequence[str], override: str) -> Any:
    """`part` as a key of the mapping or an index of the list `node`."""
    if isinstance(node, dict):
        return part
    where = ".".join(path)
    if not isinstance(node, list):
        raise ConfigError(f"override {override!r}: {where!r} is {node!r} and has no keys")
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(
            f"override {override!r}: {where!r} is a list of {len(node)}; {part!r} is no index of it"
        )
    return int(part)


def _absent(key: str, node: dict[str, Any], path: Sequence[str], override: str) -> ConfigError:
    where = f"under {'.'.join(path)!r}" if path else "at the top"
    hint = "" if override.startswith("~") else " (++ adds a new key)"
    return ConfigError(f"override {override!r}: there is no {key!r} {where}{nearest(key, node)}{hint}")


def _fill_in(node: Any, tree: dict[str, Any], pending: tuple[str, ...]) -> Any:
    """`node` with each `${a.b}` replaced by the value at that key of the whole file."""
    if isinstance(node, dict):
        return {key: _fill_in(value, tree, pending) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill_in(value, tree, pending) for value in node]
    if not isinstance(node, str) or "${" not in node:
        return node

    def value_of(key: str) -> Any:
        if key in pending:
            raise ConfigError(f"{node!r} refers to itself")
        found: Any = tree
        for part in key.split("."):
            if isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise ConfigError(
                    f"cannot fill in {node!r}: only the full key of a value in the same file, "
                    f"such as ${{model.image_size}}, can stand there"
                )
        return _fill_in(found, tree, (*pending, key))

    whole = _INTERPOLATION.fullmatch(node)
    if whole:
        return value_of(whole[1])
    filled = _INTERPOLATION.sub(lambda match: str(value_of(match[1])), node)
    if "${" in filled:
        raise ConfigError(f"cannot fill in {node!r}: nested ${{...}} is not supported")
    return filled


# ---------------------------------------------------------------- building


def instantiate(node: dict[str, Any], where: str = "model") -> Any:
    """Builds the module that `node` describes, its `_target_` children first.

    Raises:
        ConfigError: `_target_` is not an `nn.Module` of this package, or a key is not an argument of it, has
            the wrong type or is missing. `where` is the dotted path for these messages.
    """
    if "_target_" not in node:
        raise ConfigError(f"{where} has no _target_, so there is no class to build")
    target = resolve_target(node["_target_"], where)
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    _check_arguments(target, arguments, where)
    for key, value in arguments.items():
        if key in _HANDED_ON and isinstance(value, dict):
            receiver = resolve_target(_HANDED_ON[key], f"{where}.{key}")
            _check_arguments(receiver, value, f"{where}.{key}", complete=False)
    built = {key: _build_children(value, f"{where}.{key}") for key, value in arguments.items()}
    return target(**built)


def _build_children(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        if "_target_" in value:
            return instantiate(value, where)
        return {key: _build_children(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_build_children(item, f"{where}.{index}") for index, item in enumerate(value)]
    return value


def resolve_target(target: Any, where: str = "model") -> type[nn.Module]:
    """The class a `_target_` names: an `nn.Module` defined inside `sam2.*`; nothing else is imported.

    Raises:
        ConfigError: any other target.
    """
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise ConfigError(
            f"{where}._target_ is {target!r}: only classes of this package (sam2.…) can be built from a file"
        )
    module_name, class_name = target.rsplit(".", 1)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigError(f"{where}._target_ is {target!r}: there is no module {error.name!r}") from error
    found = getattr(module, class_name, None)
    if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith("sam2."):
        return found
    classes = [
        key for key, item in vars(module).items() if inspect.isclass(item) and issubclass(item, nn.Module)
    ]
    raise ConfigError(
        f"{where}._target_ is {target!r}: {module_name} defines no nn.Module of that name"
        f"{nearest(class_name, classes)}"
    )


def _parameters(target: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The constructor's named arguments, those of its bases included where it takes **kwargs."""
    found: dict[str, inspect.Parameter] = {}
    for cls in target.__mro__:
        if cls is nn.Module:
            break
        init = vars(cls).get("__init__")
        if init is None:
            continue
        own = list(inspect.signature(init).parameters.values())[1:]
        found = {p.name: p for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} | found
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return found


def _check_arguments(
    target: type[nn.Module], arguments: dict[str, Any], where: str, complete: bool = True
) -> None:
    known = _parameters(target)
    for key, value in arguments.items():
        if key not in known:
            raise ConfigError(
                f"{where}.{key}: {target.__name__} has no argument {key!r}{nearest(key, known)}"
            )
        allowed = _PLAIN_TYPES.get(str(known[key].annotation))
        fits = allowed is None or (
            isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
        )
        if not fits:
            raise ConfigError(f"{where}.{key} must be {known[key].annotation}, not {value!r}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in arguments]
    if complete and missing:
        raise ConfigError(f"{where}: {target.__name__} needs {missing[0]!r}, which is not given")
