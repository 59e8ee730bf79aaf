"""Colours of objects: the same id has the same colour everywhere."""

from __future__ import annotations

import colorsys
from typing import TypeAlias

Color: TypeAlias = tuple[int, int, int]
"""Red, green, blue, 0..255."""

_FIRST: tuple[Color, ...] = (
    (30, 144, 255),
    (255, 140, 26),
    (46, 204, 113),
    (236, 64, 160),
    (250, 214, 40),
    (142, 84, 233),
    (24, 205, 214),
    (235, 72, 62),
)
_GOLDEN = 0.6180339887498949


def object_color(object_id: int) -> Color:
    """Colour of an object: chosen ones for the ids 1..8, then hues a golden ratio apart."""
    index = object_id - 1
    if 0 <= index < len(_FIRST):
        return _FIRST[index]
    saturation, value = ((0.78, 0.97), (0.55, 1.0), (0.9, 0.8))[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def to_hex(color: Color) -> str:
    """``#rrggbb`` of a colour."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def from_hex(text: str) -> Color:
    """The colour of ``#rrggbb``.

    Raises:
        ValueError: not of that form.
    """
    if len(text) != 7 or text[0] != "#":
        raise ValueError(f"a colour is written #rrggbb, not {text!r}")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
