"""`sam2 studio`: the page in which one clicks."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from sam2.cli.arguments import add_model, add_precision, add_verb, at_least

_EXAMPLE = """\
examples:
  sam2 studio                      # media of this folder
  sam2 studio clip.mp4
  sam2 studio photos --host 0.0.0.0 --token-file token.txt
"""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Registers the verb."""
    parser = add_verb(
        verbs,
        "studio",
        "open a page in the browser: click, see, follow, correct, export",
        "Serves a page on this machine in which objects are cut out of pictures and followed through videos. "
        "Everything stays on the machine: sessions are kept in .sam2-studio in the folder.",
        _EXAMPLE,
    )
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        default=Path("."),
        metavar="FOLDER|VIDEO|PICTURE",
        help="what to open; nothing outside its folder can be opened (default: this folder)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; beyond 127.0.0.1 a token guards"
    )
    parser.add_argument(
        "--port", type=at_least(0), default=8765, help="0 for any that is free (default 8765)"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the token; default: a new one at each start"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    add_model(parser)
    add_precision(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    import secrets

    from sam2.studio.guard import is_loopback
    from sam2.studio.server import address, listen
    from sam2.studio.server import run as serve
    from sam2.studio.settings import Settings

    token = args.token_file.read_text().strip() if args.token_file else None
    if token is not None and len(token) < 16:
        raise ValueError(f"the token in {args.token_file} is shorter than 16 characters: make it longer")
    if token is None and not is_loopback(args.host):
        token = secrets.token_urlsafe(24)
    root, start = Settings.of_path(args.path)
    settings = Settings(
        root, start, args.model, args.device, args.host, args.port, token, precision=args.precision
    )
    _check_installed()
    with settings.claimed():
        bound = listen(args.host, args.port)
        url = address(settings, bound.getsockname()[1])
        print(f"sam2 studio: {url}   (Ctrl-C ends it)", flush=True)
        if not args.no_browser:
            _open_browser(url)
        with contextlib.suppress(KeyboardInterrupt):
            serve(settings, bound)
    return 0


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [
        name for name in ("fastapi", "uvicorn", "websockets", "python_multipart") if not find_spec(name)
    ]
    if missing:
        raise ValueError(f"the studio needs {', '.join(missing)}: pip install 'sam2[studio]'")


def _open_browser(url: str) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
