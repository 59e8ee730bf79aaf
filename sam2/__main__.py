"""`python -m sam2` is the command `sam2`."""

from __future__ import annotations

import sys

from sam2.cli import main

if __name__ == "__main__":
    sys.exit(main())
