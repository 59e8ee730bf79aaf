"""Crops of one picture, encoded when asked about and kept for the next prompt: what `sam2.zoom` looks at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sam2.modeling.outputs import LOGIT_LIMIT
from sam2.zoom import Prompt, View, Window, Zoom, answer, moved, near, paste

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

KEPT_CROPS = 16
"""Crops whose features are kept, and most that are encoded together."""
KEPT_ANSWERS = 256
"""Masks whose crop is remembered, so that it is known where they come back as `mask_input`."""


@dataclass(frozen=True)
class Features:
    """Encoded pictures: the embedding [B, C, H, W], and the maps of strides 4 and 8, finest first."""

    embedding: Tensor
    high_res: list[Tensor]

    def row(self, index: int) -> Features:
        """Of one picture, batch 1."""
        return Features(self.embedding[index][None], [level[index][None] for level in self.high_res])


class CloseUps:
    """Answers prompts on one picture from crops of it.

    Args:
        model: its prompt encoder and mask decoder answer.
        zoom: how to look.
        picture: uint8 RGB [H, W, 3].
        whole: the whole picture, encoded.
        encode: pictures to their features.
        precision: the context in which the model runs.
    """

    def __init__(
        self,
        model: SAM2Base,
        zoom: Zoom,
        picture: np.ndarray,
        whole: Features,
        encode: Callable[[Sequence[np.ndarray]], Features],
        precision: Callable[[], AbstractContextManager],
    ) -> None:
        self.model = model
        self.zoom = zoom
        self.picture = picture
        self.size = (picture.shape[0], picture.shape[1])
        self._everything = Window(0, 0, self.size[1], self.size[0])
        self._whole = whole
        self._encode = encode
        self._precision = precision
        self._crops: OrderedDict[Window, Features] = OrderedDict()
        self._answers: OrderedDict[bytes, View] = OrderedDict()

    def predict(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Masks of B objects, C each; without points or boxes from `mask_input` alone.

        Args:
            point_coords: float [B, N, 2], pixels of the model's input.
            point_labels: int [B, N].
            boxes: float [B, 4] or [B, 2, 2], likewise.
            mask_input: float [1 or B, 1, s, s]; given out here, it is known again by its values.

        Returns:
            mask logits [B, C, H, W] of the picture, predicted IoU [B, C], low-resolution logits [B, C, s, s],
            presence logits [B].
        """
        prompts = self._pixel_prompts(point_coords, point_labels, boxes, mask_input)
        answers = self.answer(prompts, mask_input, multimask_output)
        masks = torch.stack(
            [
                torch.stack([paste(view, self.size, prompt.box, self.zoom) for view, _ in offered])
                for offered, prompt in zip(answers, prompts)
            ]
        )
        ious = torch.tensor([[view.score for view, _ in offered] for offered in answers])
        low_res = torch.stack([torch.stack([small for _, small in offered]) for offered in answers])
        low_res = low_res.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        for offered, given_out in zip(answers, low_res.cpu().numpy()):
            for (view, _), logits in zip(offered, given_out):
                self.remember(view, logits)
        return masks, ious, low_res, torch.tensor([offered[0][0].presence for offered in answers])

    def answer(
        self, prompts: Sequence[Prompt], logits: Tensor | None, multimask: bool
    ) -> list[list[tuple[View, Tensor]]]:
        """Masks of each object, and each as low-resolution logits [s, s] of the whole picture.

        logits: of the masks before, [1 or B, 1, s, s]; what was given out here is known by its values.
        """
        before: list[View | None] = [None] * len(prompts)
        if logits is not None:
            before = [self._known(given) for given in logits.expand(len(prompts), -1, -1, -1)[:, 0]]
        answers = []
        for views in answer(self._look, self.size, prompts, before, multimask, self.zoom):
            small = [moved(view, self._everything).float() for view in views]
            answers.append(list(zip(views, small)))
        return answers

    def remember_mask(self, mask: np.ndarray, given_out: np.ndarray) -> None:
        """The same for a mask bool [H, W] and what stands for it, float32 [s, s]."""
        view = near(mask, self.zoom, given_out.shape[-1])
        if view is not None:
            on_device = view.logits.to(self._whole.embedding.device)
            self.remember(replace(view, logits=on_device), given_out)

    def remember(self, view: View, given_out: np.ndarray) -> None:
        """The view comes back when a caller hands in what was given out for it, float32 [s, s]."""
        self._answers[given_out.tobytes()] = view
        while len(self._answers) > KEPT_ANSWERS:
            self._answers.popitem(last=False)

    def _pixel_prompts(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None,
        mask_input: Tensor | None,
    ) -> list[Prompt]:
        """Prompts in the model's frame as each object's, in pixels of the picture."""
        scale = np.array(self.size[::-1], np.float32) / self.model.image_size
        counts = [len(x) for x in (point_coords, boxes, mask_input) if x is not None]
        prompts = []
        for i in range(counts[0]):
            points, labels, box = np.zeros((0, 2)), np.zeros(0, np.int32), None
            if point_coords is not None and point_labels is not None:
                points, labels = point_coords[i].cpu().numpy() * scale, point_labels[i].cpu().numpy()
            if boxes is not None:
                box = (boxes[i].reshape(2, 2).cpu().numpy() * scale).reshape(4)
            prompts.append(Prompt(points, labels, box))
        return prompts

    def _known(self, logits: Tensor) -> View:
        view = self._answers.get(logits.float().cpu().numpy().tobytes())
        return view or View(self._everything, logits.float(), 0.0, 0.0)

    def _look(
        self, windows: Sequence[Window], prompts: Sequence[Prompt], logits: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `sam2.zoom.Look`."""
        crops = self._features(windows)
        points, labels = self._points(windows, prompts)
        with self._precision():
            sparse, dense = self.model.sam_prompt_encoder(
                points=(points, labels) if points.shape[1] else None, boxes=None, masks=logits
            )
            masks, ious, _, presence = self.model.sam_mask_decoder(
                image_embeddings=crops.embedding,
                image_pe=self.model.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse.expand(len(windows), -1, -1),
                dense_prompt_embeddings=dense.expand(len(windows), -1, -1, -1),
                multimask_output=multimask,
                repeat_image=False,
                high_res_features=crops.high_res,
            )
        return masks.float(), ious.float(), presence.float().flatten()

    def _points(self, windows: Sequence[Window], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Points [B, N, 2] in the model's frame and labels [B, N]: a box's corners first, as kinds 2 and 3.

        Points outside their window are padding.
        """
        points, labels = [], []
        for window, prompt in zip(windows, prompts):
            here, kinds = prompt.points, np.where(window.holds(prompt.points), prompt.labels, -1)
            if prompt.box is not None:
                corners = prompt.box.reshape(2, 2).clip(window[:2], window[2:])
                here, kinds = np.concatenate([corners, here]), np.concatenate([[2, 3], kinds])
            scale = self.model.image_size / np.array(window.size[::-1])
            points.append((here - np.array(window[:2])) * scale)
            labels.append(kinds)
        device = self.model.device
        return (
            torch.from_numpy(np.stack(points).astype(np.float32)).to(device),
            torch.from_numpy(np.stack(labels).astype(np.int32)).to(device),
        )

    def _features(self, windows: Sequence[Window]) -> Features:
        """Features of parts of the picture, a row each; those asked for last are kept."""
        found = {self._everything: self._whole}
        for window in windows:
            if window in self._crops:
                self._crops.move_to_end(window)
                found[window] = self._crops[window]
        new = [window for window in dict.fromkeys(windows) if window not in found]
        for start in range(0, len(new), KEPT_CROPS):
            chunk = new[start : start + KEPT_CROPS]
            made = self._encode([self.picture[w.y0 : w.y1, w.x0 : w.x1] for w in chunk])
            for row, window in enumerate(chunk):
                found[window] = self._crops[window] = made.row(row)
        while len(self._crops) > KEPT_CROPS:
            self._crops.popitem(last=False)
        rows = [found[window] for window in windows]
        levels = zip(*(row.high_res for row in rows))
        return Features(torch.cat([row.embedding for row in rows]), [torch.cat(level) for level in levels])
