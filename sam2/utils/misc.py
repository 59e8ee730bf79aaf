"""Helpers under the names and signatures of the published `sam2.utils.misc`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sam2.ops import connected_components, fill_small_regions
from sam2.preprocess import IMAGENET_MEAN, IMAGENET_STD, LazyFrames, resize_frame
from sam2.video import open_video, read_picture

# Score of a background pixel that becomes foreground because its hole is filled.
FILLED_HOLE_SCORE = 0.1


def get_sdpa_settings() -> tuple[bool, bool, bool]:
    """What scaled dot-product attention can use here: (old GPU, flash kernels, plain-math kernel on).

    "Old" is a CUDA device before the A100 (compute capability 7), and no CUDA device at all.
    """
    if not torch.cuda.is_available():
        return True, False, True
    capability = torch.cuda.get_device_properties(0)
    flash = capability.major >= 8
    return capability.major < 7, flash, not flash


def get_connected_components(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and areas of 8-connected components; see `sam2.ops.connected_components`."""
    return connected_components(mask)


def mask_to_box(masks: Tensor) -> Tensor:
    """Bounding boxes of masks.

    Args:
        masks: bool [B, 1, H, W].

    Returns:
        int32 [B, 1, 4]: x0, y0, x1, y1 in pixels, the last ones inclusive; (W, H, -1, -1) for an empty
        mask.
    """
    height, width = masks.shape[-2:]
    columns, rows = masks.any(-2), masks.any(-1)
    x = torch.arange(width, device=masks.device, dtype=torch.int32)
    y = torch.arange(height, device=masks.device, dtype=torch.int32)
    return torch.stack(
        [
            torch.where(columns, x, width).amin(-1),
            torch.where(rows, y, height).amin(-1),
            torch.where(columns, x, -1).amax(-1),
            torch.where(rows, y, -1).amax(-1),
        ],
        dim=-1,
    )


def fill_holes_in_mask_scores(mask: Tensor, max_area: float) -> Tensor:
    """Give each hole of at most `max_area` pixels a small positive score (0.1), on any device.

    Args:
        mask: float [..., H, W]; foreground is above 0.
        max_area: pixels of the mask as given, above 0.
    """
    if max_area <= 0:
        raise ValueError(f"max_area must be above 0, got {max_area}; to fill nothing, do not call")
    return fill_small_regions(mask, 0.0, max_area, 0.0, FILLED_HOLE_SCORE)


def concat_points(
    old_point_inputs: dict[str, Tensor] | None, new_points: Tensor, new_labels: Tensor
) -> dict[str, Tensor]:
    """New points [B, N, 2] and labels [B, N] after the old ones, where there are any."""
    if old_point_inputs is None:
        return {"point_coords": new_points, "point_labels": new_labels}
    return {
        "point_coords": torch.cat([old_point_inputs["point_coords"], new_points], dim=1),
        "point_labels": torch.cat([old_point_inputs["point_labels"], new_labels], dim=1),
    }


def _load_img_as_tensor(img_path: str | os.PathLike[str], image_size: int) -> tuple[Tensor, int, int]:
    """A picture as float32 [3, S, S] of 0..1 (not normalised), and its own height and width."""
    picture = read_picture(img_path)
    height, width = picture.shape[:2]
    resized = torch.from_numpy(resize_frame(picture, image_size)).permute(2, 0, 1)
    return resized.float() / 255.0, height, width


def load_video_frames(
    video_path: str | os.PathLike[str] | bytes | Sequence,
    image_size: int,
    offload_video_to_cpu: bool,
    img_mean: Sequence[float] = IMAGENET_MEAN,
    img_std: Sequence[float] = IMAGENET_STD,
    async_loading_frames: bool = False,
    compute_device: torch.device | str | None = None,
) -> tuple[LazyFrames, int, int]:
    """Open a video for the tracker; frames are read, resized and normalised when asked for.

    Args:
        video_path: whatever `sam2.video.open_video` takes: a video file or its bytes, a folder of
            pictures, a list of arrays.
        image_size: S, side of the model's square input in pixels.
        offload_video_to_cpu: hand frames out on the CPU rather than on `compute_device`.
        async_loading_frames: taken as published; every pass reads its frames ahead in threads.
        compute_device: the best there is where None.

    Returns:
        frames (float32 [3, S, S] each), video height, video width (pixels).
    """
    device = torch.device("cpu")
    if not offload_video_to_cpu:
        device = torch.device(compute_device) if compute_device is not None else _best_device()
    reader = open_video(video_path)
    frames = LazyFrames(
        reader,
        image_size,
        device,
        mean=img_mean,
        std=img_std,
        close_reader=reader is not video_path,
    )
    return frames, frames.video_height, frames.video_width


def load_video_frames_from_jpg_images(
    video_path: str | os.PathLike[str],
    image_size: int,
    offload_video_to_cpu: bool,
    img_mean: Sequence[float] = IMAGENET_MEAN,
    img_std: Sequence[float] = IMAGENET_STD,
    async_loading_frames: bool = False,
    compute_device: torch.device | str | None = None,
) -> tuple[LazyFrames, int, int]:
    """`load_video_frames` for a folder of pictures."""
    if not Path(video_path).is_dir():
        raise ValueError(f"{os.fspath(video_path)} is not a folder; load_video_frames takes files")
    return load_video_frames(
        video_path, image_size, offload_video_to_cpu, img_mean, img_std, async_loading_frames, compute_device
    )


def load_video_frames_from_video_file(
    video_path: str | os.PathLike[str] | bytes,
    image_size: int,
    offload_video_to_cpu: bool,
    img_mean: Sequence[float] = IMAGENET_MEAN,
    img_std: Sequence[float] = IMAGENET_STD,
    compute_device: torch.device | str | None = None,
) -> tuple[LazyFrames, int, int]:
    """`load_video_frames` for a video file or its bytes."""
    return load_video_frames(
        video_path,
        image_size,
        offload_video_to_cpu,
        img_mean,
        img_std,
        compute_device=compute_device,
    )


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
