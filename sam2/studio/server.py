"""The command's server: a socket that listens first, then the page, then the model."""

from __future__ import annotations

import socket

from sam2.studio.guard import is_loopback
from sam2.studio.settings import Settings


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; another port where this one is taken.

    Raises:
        OSError: no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for wanted in (port, 0):
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, wanted))
            bound.listen(128)
        except OSError:
            bound.close()
            if wanted == 0:
                raise
            continue
        return bound
    raise AssertionError("a free port is always found or an error raised")


def address(settings: Settings, port: int) -> str:
    """What to open in the browser."""
    host = settings.host
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    elif is_loopback(host) and ":" not in host:
        host = "127.0.0.1"
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={settings.token}" if settings.token else "")


def run(settings: Settings, bound: socket.socket) -> None:
    """Serves until Ctrl-C."""
    import uvicorn

    from sam2.studio.app import create_app

    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=32 * 2**20,
        ws_max_queue=4,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=300,  # a request must not meet a connection that is just being closed
    )
    uvicorn.Server(config).run(sockets=[bound])
