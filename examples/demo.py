"""What `make demo` runs: cuts an object out of a real photo and follows one through a clip, with the packaged
model, and says where the results are.

    python examples/demo.py --out out
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from sam2.cli import main as sam2

MEDIA = Path(__file__).parent / "media"


def commands(out: Path) -> list[list[str]]:
    """The two commands of the demo."""
    return [
        ["segment", str(MEDIA / "chelsea.jpg"), "--box", "131,84,212,147",
         "--format", "overlay,cutout,coco", "--out", str(out / "photo"), "--force"],
        ["track", str(MEDIA / "saucer.mp4"), "--box", "30,108,122,192",
         "--format", "overlay,davis,coco", "--out", str(out / "clip"), "--force"],
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Segment a photo and track through a clip.")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    args = parser.parse_args()
    for command in commands(args.out):
        print(f"$ sam2 {shlex.join(command)}")
        if status := sam2(command):
            return status
        print()
    print(f"Look at {args.out / 'photo/overlay.png'} and {args.out / 'clip/overlay.mp4'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
