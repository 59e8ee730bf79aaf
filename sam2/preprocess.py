"""From pictures to model inputs, and from the model's masks back to pictures.

The only code that resizes, normalises or converts coordinates. A picture of any shape becomes a square
of S x S pixels (S the model's `image_size`), each axis scaled by itself. Photos are resized by
antialiased bilinear interpolation of floats, video frames by Pillow's bicubic filter on bytes: that is
how the published models see them, and how the conformance goldens were made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sam2.ops import fill_small_regions

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# How far from the threshold the score of a filled hole or a dropped island lies.
FILL_MARGIN = 10.0


class SAM2Transforms(nn.Module):
    """Photo to model input; pixels to model coordinates; low-resolution logits to masks of the photo.

    Args:
        resolution: S, side of the model's square input in pixels.
        mask_threshold: logits above it are foreground.
        max_hole_area: holes of at most this many low-resolution pixels are filled; 0 fills none.
        max_sprinkle_area: islands of at most this many low-resolution pixels are dropped; 0 drops none.
    """

    def __init__(
        self,
        resolution: int,
        mask_threshold: float,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area
        self.mean = IMAGENET_MEAN
        self.std = IMAGENET_STD

    def forward(self, x: np.ndarray | Image.Image | Tensor) -> Tensor:
        """One photo as float32 [3, S, S], normalised, on its own device.

        Args:
            x: uint8 RGB [H, W, 3] array, PIL image, or tensor [3, H, W]; floats lie in 0..1.
        """
        if isinstance(x, Image.Image):
            x = np.array(x.convert("RGB"))
        if isinstance(x, np.ndarray):
            x = _as_tensor(x).permute(2, 0, 1)
        photo = x.float() if x.is_floating_point() else x.float().div_(255)
        side = (self.resolution, self.resolution)
        resized = F.interpolate(photo[None], side, mode="bilinear", antialias=True, align_corners=False)
        return normalize(resized[0], self.mean, self.std)

    def forward_batch(self, img_list: Iterable[np.ndarray | Image.Image | Tensor]) -> Tensor:
        """Photos, of any shapes, as float32 [B, 3, S, S]."""
        return torch.stack([self(img) for img in img_list])

    def transform_coords(
        self, coords: Tensor, normalize: bool = False, orig_hw: tuple[int, int] | None = None
    ) -> Tensor:
        """Points [..., 2] (x, y) in the model's S x S frame.

        Args:
            coords: pixels of the original picture where `normalize` is true, else shares (0..1) of its
                width and height.
            orig_hw: height and width of the original picture; needed where `normalize` is true.
        """
        if normalize:
            if orig_hw is None:
                raise ValueError("coordinates in pixels need orig_hw, the picture's (height, width)")
            h, w = orig_hw
            coords = coords / coords.new_tensor([w, h])
        return coords * self.resolution

    def transform_boxes(
        self, boxes: Tensor, normalize: bool = False, orig_hw: tuple[int, int] | None = None
    ) -> Tensor:
        """Boxes [..., 4] (x0, y0, x1, y1) as corner points [B, 2, 2] in the model's frame."""
        return self.transform_coords(boxes.reshape(-1, 2, 2), normalize, orig_hw)

    def postprocess_masks(self, masks: Tensor, orig_hw: tuple[int, int]) -> Tensor:
        """Low-resolution logits [B, C, h, w] as float32 logits [B, C, H, W] of the original picture.

        Small holes and islands (8-connected components) go before the resize.
        """
        cleaned = fill_small_regions(
            masks.float(), self.mask_threshold, self.max_hole_area, self.max_sprinkle_area, FILL_MARGIN
        )
        # planes one by one: twice as fast on a CPU as channels together
        planes = F.interpolate(
            cleaned.flatten(0, 1)[:, None], tuple(orig_hw), mode="bilinear", align_corners=False
        )
        return planes.unflatten(0, cleaned.shape[:2])[:, :, 0]


def normalize(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Float pictures [..., 3, H, W] of 0..1, less the mean, divided by the deviation, per channel."""
    return (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]


def mask_to_logits(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask bool [H, W] as the low-resolution logits float32 [1, h, w] that `predict` takes as `mask_input`.

    They run from -10 outside to 10 inside; where an edge crosses a pixel of the small mask, by its share.

    Args:
        size: (h, w), a quarter of the model's input size.
    """
    share = torch.from_numpy(mask.astype(np.float32))[None, None]
    small = F.interpolate(share, size, mode="bilinear", antialias=True, align_corners=False)
    return (small[0] * 20.0 - 10.0).numpy()


def resize_frame(frame: np.ndarray | Image.Image, size: int) -> np.ndarray:
    """A uint8 RGB frame [H, W, 3] as uint8 [size, size, 3], by Pillow's bicubic filter."""
    picture = frame if isinstance(frame, Image.Image) else Image.fromarray(frame)
    return np.array(picture.convert("RGB").resize((size, size)))


def _as_tensor(array: np.ndarray) -> Tensor:
    """The array's memory as a tensor; a copy only where PyTorch cannot share it."""
    shareable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if shareable else array.copy())


class FrameReader(Protocol):
    """What `LazyFrames` reads: `sam2.video.open_video` gives one."""

    width: int
    height: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...

    def close(self) -> None: ...


class LazyFrames:
    """The frames of a video as model inputs, made when asked for.

    `frames[i]` is float32 [3, S, S], resized and normalised, on `device`; a slice gives [T, 3, S, S].
    At most `cache_size` frames are held. They go to another device as bytes and are normalised there.

    Args:
        reader: uint8 RGB frames by index.
        image_size: S, pixels.
        prefetch: read the next frame in a thread of its own while the last one is used. All reading
            then happens in that thread.
        close_reader: `close` closes the reader too.
    """

    def __init__(
        self,
        reader: FrameReader,
        image_size: int,
        device: torch.device | str = "cpu",
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        cache_size: int = 4,
        prefetch: bool = False,
        close_reader: bool = False,
    ) -> None:
        if cache_size < 1:
            raise ValueError(f"cache_size must be at least 1, got {cache_size}")
        self.reader = reader
        self.image_size = image_size
        self.device = torch.device(device)
        self.video_height = reader.height
        self.video_width = reader.width
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.cache_size = cache_size
        self.prefetch = prefetch
        self.close_reader = close_reader
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self._ahead: tuple[int, Future[np.ndarray]] | None = None
        self._last = -1
        self._worker: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int | slice) -> Tensor:
        """One frame, or a stack of them.

        Raises:
            IndexError: beyond the video's ends.
        """
        if isinstance(index, slice):
            return torch.stack([self[i] for i in range(*index.indices(len(self)))])
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"frame {index} of a video of {count} frames")
        index = int(index) % count
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        frame = self._to_model(self._read(index))
        self._cache[index] = frame
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return frame

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def close(self) -> None:
        """Drop what is cached, end the reading thread and, where `close_reader` says so, the reader."""
        self._cache.clear()
        self._ahead = None
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None
        if self.close_reader:
            self.reader.close()

    def _load(self, index: int) -> np.ndarray:
        return resize_frame(self.reader[index], self.image_size)

    def _read(self, index: int) -> np.ndarray:
        """The resized bytes of a frame; in `prefetch`, the next one in the same direction is begun."""
        if not self.prefetch:
            return self._load(index)
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sam2-frames")
        if self._ahead is not None and self._ahead[0] == index:
            pending = self._ahead[1]
        else:
            pending = self._worker.submit(self._load, index)
        following = index + (1 if index > self._last else -1)
        self._last = index
        self._ahead = None
        if 0 <= following < len(self):
            self._ahead = (following, self._worker.submit(self._load, following))
        return pending.result()

    def _to_model(self, frame: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)
        return normalize(pixels.contiguous().float() / 255.0, self.mean, self.std)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict(), "_ahead": None, "_worker": None}
