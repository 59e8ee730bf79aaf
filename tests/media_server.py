"""A server on the loopback that sends video as network cameras and broken lines do."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def serving(stream: bytes, pictures: Sequence[bytes] = ()) -> Iterator[str]:
    """The host and port of a server while the block runs.

    /v.ts: `stream`; /cut.ts: the same, announced twice as long; /motion: `pictures` (JPEG) one after another;
    /silent: no answer for a second.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/silent":
                time.sleep(1.0)
                return
            self.send_response(200)
            if self.path == "/motion":
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for data in pictures:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                return
            self.send_header("Content-Type", "video/mp2t")
            if self.path == "/cut.ts":
                self.send_header("Content-Length", str(2 * len(stream)))
            self.end_headers()
            self.wfile.write(stream)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
