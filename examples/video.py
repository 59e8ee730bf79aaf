"""Follow an object through a video, and write the video with its outline.

python examples/video.py [VIDEO X0 Y0 X1 Y1]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sam2.build_sam import build_sam2_video_predictor
from sam2.masks.overlay import overlay
from sam2.video import VideoSink, open_video

MEDIA = Path(__file__).parent / "media"


def main() -> None:
    path, *corners = sys.argv[1:] if len(sys.argv) == 6 else (MEDIA / "saucer.mp4", 30, 108, 122, 192)
    box = np.array([float(value) for value in corners])

    predictor = build_sam2_video_predictor()  # the packaged model, on the best device there is
    with open_video(path) as video, predictor.init_state(video) as state:
        # Any frame, any number of objects: each has an id of yours.
        predictor.add_new_points_or_box(state, frame_idx=0, obj_id=1, box=box)

        Path("out").mkdir(exist_ok=True)
        with VideoSink("out/video.mp4", timestamps=video.timestamps, force=True) as sink:
            for frame, object_ids, logits in predictor.propagate_in_video(state):
                masks = {number: logit[0].numpy() > 0 for number, logit in zip(object_ids, logits.cpu())}
                sink.write(overlay(video[frame], masks))
    print("out/video.mp4")


if __name__ == "__main__":
    main()
