"""Sheets: a grid of pictures with captions, for reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sam2.masks.colors import Color
from sam2.masks.inputs import as_picture
from sam2.masks.text import builtin_font, shortened

Picture = npt.NDArray[np.uint8]


def sheet(
    pictures: Sequence[npt.ArrayLike],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell_width: int = 480,
    gap: int = 12,
    background: Color = (255, 255, 255),
) -> Picture:
    """A grid of pictures with captions, for reports; each is scaled to ``cell_width``, its shape kept.

    Args:
        pictures: at least one, each RGB ``uint8 [H, W, 3]`` or grey ``[H, W]``, of any sizes.
        captions: a line below each; too long ones are shortened.
        columns: by default as square a grid as there can be.
        cell_width: pixels. Small pictures are enlarged without smoothing. Tall ones are held to 4/3 of it.
        gap: pixels between and around the cells.
        background: RGB.

    Returns:
        ``uint8 [H, W, 3]``.

    Raises:
        ValueError: no picture, another number of captions, or a size that is not positive.
    """
    if not pictures:
        raise ValueError("a sheet needs at least one picture")
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"there are {len(pictures)} pictures but {len(captions)} captions")
    if columns is None:
        columns = int(np.ceil(np.sqrt(len(pictures))))
    if columns < 1 or cell_width < 1 or gap < 0:
        raise ValueError(f"columns={columns}, cell_width={cell_width} and gap={gap} must be positive")
    columns = min(columns, len(pictures))
    cells = [_scaled(as_picture(picture, f"picture {i}"), cell_width) for i, picture in enumerate(pictures)]
    font = builtin_font(max(11, cell_width // 26))
    caption_height = sum(font.getmetrics()) + gap // 2 if captions is not None else 0
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    page = Image.new(
        "RGB",
        (columns * (cell_width + gap) + gap, sum(height + caption_height + gap for height in heights) + gap),
        background,
    )
    draw = ImageDraw.Draw(page)
    ink = (24, 24, 27) if sum(background) > 382 else (255, 255, 255)
    y = gap
    for row_index, (row, height) in enumerate(zip(rows, heights)):
        for column, cell in enumerate(row):
            x = gap + column * (cell_width + gap)
            page.paste(cell, (x + (cell_width - cell.width) // 2, y))
            if captions is not None:
                text = shortened(captions[row_index * columns + column], font, cell_width)
                draw.text((x, y + cell.height + gap // 3), text, fill=ink, font=font)
        y += height + caption_height + gap
    return np.array(page)


def _scaled(picture: Picture, cell_width: int) -> Image.Image:
    height, width = picture.shape[:2]
    factor = min(cell_width / width, 4 / 3 * cell_width / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    smooth = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize(size, smooth)
