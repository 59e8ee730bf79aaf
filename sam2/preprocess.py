"""From pictures to model inputs, and from the model's masks back to pictures.

The only code that resizes, normalises or converts coordinates. A picture of any shape becomes a square
of S x S pixels (S the model's `image_size`), each axis scaled by itself. Photos are resized by
antialiased bilinear interpolation of floats, video frames by Pillow's bicubic filter on bytes: that is
how the published models see them, and how the conformance goldens were made.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sam2.ops import fill_small_regions
from sam2.ops.transfer import upload
from sam2.video import VideoReader
from sam2.video.ahead import READ_AHEAD, ReadAhead

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
    kind = image.dtype, image.device
    return (image - _channels(tuple(mean), *kind)) / _channels(tuple(std), *kind)


@functools.lru_cache(maxsize=16)
def _channels(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """One value a channel [3, 1, 1]; kept, since making it on another device waits for that."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


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
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    return np.array(picture.resize((size, size)))


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
    """The frames of a video as model inputs, made when asked for, or in a block of `ahead`, before.

    `frames[i]` is float32 [3, S, S], resized and normalised, on `device`; a slice gives [T, 3, S, S].
    At most `cache_size` frames are held. They go to another device as bytes and are normalised there.
    The reader is asked by one thread at a time.

    Args:
        reader: uint8 RGB frames by index.
        image_size: S, pixels.
        read_ahead: how many frames `ahead` reads before they are asked for, 0 for none.
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
        read_ahead: int = READ_AHEAD,
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
        self.read_ahead = read_ahead
        self.close_reader = close_reader
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self._ahead: ReadAhead[np.ndarray, np.ndarray] | None = None
        self._turn = threading.Lock()

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
        resized = None if self._ahead is None else self._ahead.take(index)
        if index in self._cache:
            self._cache.move_to_end(index)
        else:
            self.put(index, self._resized(self._read(index)) if resized is None else resized)
        return self._cache[index]

    def __iter__(self) -> Iterator[Tensor]:
        with self.ahead(range(len(self))):
            for i in range(len(self)):
                yield self[i]

    @contextmanager
    def ahead(self, order: Iterable[int], wanted: Callable[[int], bool] = lambda _: True) -> Iterator[None]:
        """Reads and resizes frames in threads while others are used; the same bytes, and errors where asked.

        The threads end with the block.

        Args:
            order: the frames that will be asked for. Others can be in between: they are read then.
            wanted: asked shortly before a frame is read; where it says no, the frame is passed over.
        """
        if not self.read_ahead:
            yield
            return
        before = self._ahead
        mine = self._ahead = ReadAhead(self._read, self._resized, order, wanted, self.read_ahead)
        try:
            yield
        finally:
            mine.close()
            if self._ahead is mine:
                self._ahead = before

    def put(self, index: int, resized: np.ndarray) -> None:
        """Holds a frame that `resize_frame` made, uint8 [S, S, 3]."""
        pixels = upload(torch.from_numpy(resized), self.device).permute(2, 0, 1)
        self._cache[index] = normalize(pixels.contiguous().float() / 255.0, self.mean, self.std)
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)

    def close(self) -> None:
        """Drop what is cached, end the reading threads and, where `close_reader` says so, the reader."""
        self._cache.clear()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self.close_reader:
            self.reader.close()

    def _read(self, index: int) -> np.ndarray:
        with self._turn:
            return self.reader.view(index) if isinstance(self.reader, VideoReader) else self.reader[index]

    def _resized(self, frame: np.ndarray) -> np.ndarray:
        return resize_frame(frame, self.image_size)

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "_turn"}
        return {**state, "_cache": OrderedDict(), "_ahead": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turn=threading.Lock())
