"""Pillow's own font, so that text looks the same everywhere and no file is needed."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont


@lru_cache(maxsize=32)
def builtin_font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow, ``size`` in pixels. Letters beyond ASCII mostly show as boxes."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """``text`` on one line, cut short with an ellipsis where it is wider than ``width`` pixels."""
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
