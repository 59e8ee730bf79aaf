"""The options of each format."""

from __future__ import annotations

from dataclasses import dataclass

from sam2.formats.options import Options, boolean, choice, number


@dataclass(frozen=True)
class OverlayOptions(Options):
    """Masks drawn over the source."""

    opacity: float = number("Opacity of the fill", 0.45, 0, 1, 0.05)
    outline: bool = boolean("Outlines", True)
    labels: bool = boolean("Names of the objects, where there are several", True)
    prompts: bool = boolean("Clicks and boxes", True)
    container: str = choice("Video as", "mp4", "gif")
