"""Options of the export formats: frozen dataclasses that describe themselves to forms and commands."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T", bound="Options")


def choice(title: str, default: str, *values: str) -> Any:
    """A field with one of some words."""
    return _field(default, title=title, type="choice", choices=[default, *values])


def number(title: str, default: float, low: float, high: float, step: float) -> Any:
    """A field with a number from ``low`` to ``high``; whole where ``step`` is an int."""
    return _field(default, title=title, type="number", min=low, max=high, step=step)


def boolean(title: str, default: bool) -> Any:
    """A field that is on or off."""
    return _field(default, title=title, type="boolean")


def color(title: str, default: str) -> Any:
    """A field with a colour ``#rrggbb``."""
    return _field(default, title=title, type="color")


def text(title: str, default: str) -> Any:
    """A field with one line of text."""
    return _field(default, title=title, type="text")


def picture(title: str) -> Any:
    """A field with the path of a picture, or empty. Whoever takes it from a stranger must check the path."""
    return _field("", title=title, type="picture")


def _field(default: Any, **metadata: Any) -> Any:
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """What can be chosen of one format; made from JSON or from the command line by ``of``.

    Raises:
        ValueError: a value of another kind or out of range; the message names the option.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

    @classmethod
    def of(cls: type[T], values: Mapping[str, Any]) -> T:
        """From names and values; numbers and booleans may be text.

        Raises:
            ValueError: an option that there is not, or a value that it cannot have.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"there is no option {name!r}; there are {', '.join(known) or 'none'}")
        return cls(**values)

    @classmethod
    def schema(cls) -> dict[str, dict[str, Any]]:
        """For forms: by name the title, type, default, and choices or range of each option."""
        return {field.name: {**field.metadata, "default": field.default} for field in dataclasses.fields(cls)}


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    about = field.metadata
    kind = about["type"]
    if kind == "number":
        return _number(field, value)
    if kind == "boolean":
        meaning = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        found = value if isinstance(value, bool) else meaning.get(str(value).lower())
        if found is None:
            raise ValueError(f"{field.name} is true or false, not {value!r}")
        return found
    if kind == "choice" and value not in about["choices"]:
        raise ValueError(f"{field.name} is one of {', '.join(about['choices'])}, not {value!r}")
    if not isinstance(value, str):
        raise ValueError(f"{field.name} must be text, not {value!r}")
    if kind == "color" and not re.fullmatch("#[0-9a-fA-F]{6}", value):
        raise ValueError(f"{field.name} must be a colour such as #30a0ff, not {value!r}")
    return value


def _number(field: dataclasses.Field[Any], value: Any) -> float:
    about = field.metadata
    whole = isinstance(about["step"], int)
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{field.name} must be a number, not {value!r}") from None
    if isinstance(value, bool) or not about["min"] <= found <= about["max"] or (whole and found % 1):
        raise ValueError(
            f"{field.name} must be {'a whole number' if whole else 'a number'} from {about['min']} to "
            f"{about['max']}, not {value!r}"
        )
    return int(found) if whole else found
