"""Which combinations of device, precision and compilation agree with float32, and by how much.

Nothing is passed over in silence: what cannot run is listed with its reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sam2.build_sam import build_sam2
from sam2.compile import compiling
from sam2.doctor.golden import Answers, Deviation, deviations, golden_answers, golden_model, reference
from sam2.ops.compiler import compile_obstacle
from sam2.sam2_image_predictor import SAM2ImagePredictor


@dataclass(frozen=True)
class Precision:
    """One of the precisions, and what agreeing means in it."""

    name: str
    dtype: torch.dtype
    tf32: bool
    """Products of float32 with 10 bits of mantissa, on the matrix units of CUDA cards."""
    largest: float
    """Largest difference, as a share of the largest value."""
    mask_iou: float
    """Least IoU of a mask; masks here are small, so that a pixel counts for up to a hundredth."""


PRECISIONS = {
    p.name: p
    for p in (
        Precision("float32", torch.float32, False, 1e-4, 0.995),
        Precision("tf32", torch.float32, True, 2e-2, 0.97),
        Precision("bfloat16", torch.bfloat16, False, 6e-2, 0.92),
        Precision("float16", torch.float16, False, 1e-2, 0.97),
    )
}
MODES = ("plain", "static", "compiled")
"""As it comes; in a few fixed shapes, on a card as CUDA graphs; these with compiled modules."""
AGREES, DEVIATES, FAILED, NOT_RUN = "agrees", "deviates", "failed", "not run"
LEAST_WEIGHTS_IOU = 0.8


@dataclass(frozen=True)
class Finding:
    """Of one combination."""

    device: str
    precision: str
    mode: str
    verdict: str
    """"agrees"; "deviates" or "failed", which are faults; "not run", with the reason."""
    reason: str | None = None
    deviations: dict[str, Deviation] | None = None

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong that should be right."""
        return self.verdict in (DEVIATES, FAILED)

    def to_json(self) -> dict[str, Any]:
        """Without what is None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def check(
    devices: Sequence[str],
    precisions: Sequence[str] = tuple(PRECISIONS),
    modes: Sequence[str] = MODES,
) -> Iterator[Finding]:
    """Runs the golden model on every combination, one after another.

    Args:
        devices: names in PyTorch; one that is not here is a finding too.
        precisions: names of `PRECISIONS`.
        modes: of `MODES`.
    """
    expected = reference()
    for device in devices:
        missing = _missing(device)
        if missing is not None:
            yield Finding(device, "all", "all", NOT_RUN, missing)
            continue
        for mode in modes:
            for name in precisions:
                yield _finding(device, PRECISIONS[name], mode, expected)


def _missing(device: str) -> str | None:
    """Why a device is not usable; None where it is."""
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda is not None or torch.version.hip is not None
        return "PyTorch sees no card or no driver" if built else "this PyTorch was built without CUDA"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "this is no Mac with Metal, or this PyTorch was built without it"
    return None


def _obstacle(device: str, precision: Precision, mode: str) -> str | None:
    """Why a combination cannot run on a device that is here; None where it should."""
    kind = torch.device(device).type
    if precision.tf32 and (kind != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        return "TF32 is of CUDA cards of capability 8.0 and above"
    if (
        kind == "cuda"
        and precision.dtype == torch.bfloat16
        and torch.cuda.get_device_capability(device) < (8, 0)
    ):
        return "bfloat16 is of CUDA cards of capability 8.0 and above"
    return compile_obstacle(kind) if mode == "compiled" else None


def _finding(device: str, precision: Precision, mode: str, expected: Answers) -> Finding:
    obstacle = _obstacle(device, precision, mode)
    if obstacle is not None:
        return Finding(device, precision.name, mode, NOT_RUN, obstacle)
    try:
        with _matrix_units(precision.tf32), compiling():
            model = golden_model(device)
            model.static = mode != "plain"
            if mode == "compiled":
                model.optimize()
            found = deviations(golden_answers(model, precision.dtype), expected)
    except (
        Exception
    ) as error:  # whatever a driver, a compiler or a kernel raises is what we are here to report
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        return Finding(device, precision.name, mode, FAILED, f"{type(error).__name__}: {first.strip()}")
    finally:
        torch.compiler.reset()  # what was compiled for one model serves no other
    verdict = AGREES if all(_within(d, precision) for d in found.values()) else DEVIATES
    return Finding(device, precision.name, mode, verdict, deviations=found)


def _within(deviation: Deviation, precision: Precision) -> bool:
    masks_agree = deviation.mask_iou is None or deviation.mask_iou >= precision.mask_iou
    return masks_agree and deviation.max <= precision.largest


@contextlib.contextmanager
def _matrix_units(tf32: bool) -> Iterator[None]:
    """TF32 for products and convolutions, or for neither; as it was afterwards."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before


def check_weights(device: str, build: Callable[..., Any] = build_sam2) -> Finding:
    """Whether the packaged weights load, and find a disk that is clicked."""
    y, x = np.mgrid[:192, :256]
    disk = (x - 110) ** 2 + (y - 90) ** 2 < 50**2
    picture = np.where(disk[..., None], (230, 60, 40), (60, 110, 90)).astype(np.uint8)
    try:
        predictor = SAM2ImagePredictor(build(device=device), dtype=torch.float32)
        predictor.set_image(picture)
        masks, ious, _ = predictor.predict(np.array([[110.0, 90.0]]), np.array([1]))
    except Exception as error:  # as above
        return Finding(device, "float32", "packaged weights", FAILED, f"{type(error).__name__}: {error}")
    best = masks[int(ious.argmax())] > 0
    iou = float((best & disk).sum() / (best | disk).sum())
    verdict = AGREES if iou >= LEAST_WEIGHTS_IOU else DEVIATES
    return Finding(
        device, "float32", "packaged weights", verdict, f"IoU {iou:.3f} with a disk that was clicked"
    )
