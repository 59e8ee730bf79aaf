"""Cut an object out of a photo: from a click, then better with a second one.

python examples/image.py [PHOTO X Y]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sam2.build_sam import build_sam2
from sam2.masks.overlay import overlay
from sam2.sam2_image_predictor import SAM2ImagePredictor

MEDIA = Path(__file__).parent / "media"


def main() -> None:
    path, x, y = sys.argv[1:] if len(sys.argv) == 4 else (MEDIA / "chelsea.jpg", 169, 114)
    click = np.array([[float(x), float(y)]])

    predictor = SAM2ImagePredictor(build_sam2())  # the packaged model, on the best device there is
    predictor.set_image(path)  # encoded once; each prompt after that is quick

    # One click may mean a part or the whole: three candidates, each with the model's estimate of its IoU.
    masks, ious, logits = predictor.predict(click, np.array([1]), multimask_output=True)
    for mask, iou in zip(masks, ious):
        print(f"candidate of {int(mask.sum())} pixels, predicted IoU {iou:.2f}")

    # The best candidate goes in again, with a click beside the object that says what does not belong to it.
    best = ious.argmax()
    masks, ious, _ = predictor.predict(
        point_coords=np.concatenate([click, [[5.0, 5.0]]]),
        point_labels=np.array([1, 0]),
        mask_input=logits[best][None],
        multimask_output=False,
    )
    print(f"refined to {int(masks[0].sum())} pixels, predicted IoU {ious[0]:.2f}")

    photo = np.array(Image.open(path).convert("RGB"))
    Path("out").mkdir(exist_ok=True)
    Image.fromarray(overlay(photo, masks > 0, points=click)).save("out/image.png")
    print("out/image.png")


if __name__ == "__main__":
    main()
