"""The options of each format."""

from __future__ import annotations

from dataclasses import dataclass

from sam2.formats.options import Options, boolean, choice, color, number, picture, text


@dataclass(frozen=True)
class OverlayOptions(Options):
    """Masks drawn over the source."""

    opacity: float = number("Opacity of the fill", 0.45, 0.0, 1.0, 0.05)
    outline: bool = boolean("Outlines", True)
    labels: bool = boolean("Names of the objects, where there are several", True)
    prompts: bool = boolean("Clicks and boxes", True)
    container: str = choice("Video as", "mp4", "gif")
    gif_width: int = number("Widest GIF, in pixels", 640, 16, 4096, 16)


@dataclass(frozen=True)
class CocoOptions(Options):
    """COCO annotations."""

    segmentation: str = choice("Masks as", "rle", "polygons")
    tolerance: float = number("Simplify polygons by up to so many pixels", 1.0, 0.0, 20.0, 0.5)
    video: str = choice("Video as", "images", "ytvis")


@dataclass(frozen=True)
class YoloOptions(Options):
    """A YOLO data set."""

    pictures: str = choice("Pictures beside the labels", "jpg", "png", "none")
    tolerance: float = number("Simplify outlines by up to so many pixels", 1.0, 0.0, 20.0, 0.5)


@dataclass(frozen=True)
class LabelStudioOptions(Options):
    """Label Studio tasks."""

    shapes: str = choice("Masks of pictures as", "brush", "polygons")
    tolerance: float = number("Simplify polygons by up to so many pixels", 1.0, 0.0, 20.0, 0.5)
    video: str = choice("Video as", "boxes", "frames")
    results: str = choice("Results as", "predictions", "annotations")
    prefix: str = text("Where the tool finds the media", "/data/local-files/?d=")


@dataclass(frozen=True)
class CvatOptions(Options):
    """CVAT annotations; ``best`` is masks in pictures and polygons in the tracks of a video."""

    shapes: str = choice("Shapes", "best", "masks", "polygons")
    tolerance: float = number("Simplify polygons by up to so many pixels", 1.0, 0.0, 20.0, 0.5)
    video: str = choice("Video as", "tracks", "images")


@dataclass(frozen=True)
class CutOutOptions(Options):
    """Objects alone."""

    container: str = choice("Video as", "png", "webm", "mov")
    together: bool = boolean("All objects in one", False)
    crop: bool = boolean("Pictures cropped to the object", False)


@dataclass(frozen=True)
class BackgroundOptions(Options):
    """Everything but the objects changed."""

    mode: str = choice("Background", "blur", "grey", "color", "picture")
    blur: float = number("Blur, in thousandths of the shorter side", 25.0, 1.0, 200.0, 1.0)
    color: str = color("Colour", "#00b140")
    picture: str = picture("Picture")
    soft: float = number("Softness of the border, in pixels", 1.0, 0.0, 50.0, 0.5)
