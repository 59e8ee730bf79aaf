"""How quickly the studio's server answers, and how it bears many pages at once.

    python bench/studio.py [--minutes 5] [--rounds 2] [--clients 10] >> bench/results/studio.jsonl

One JSON line each for: the start (command to listening, to the page, to the model), clicks with the embedding
ready, alone and beside automatic masks, the first propagated masks, fetching of masks and frames while
scrubbing, and the load (clients that click, scrub and propagate at once, new ones each round; memory before,
at the end, and once idle sessions sleep). Times are of the wall, in seconds; `cpu` is the processor time of
the server, which other programs on the machine do not change; `load` is the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from websockets.sync.client import connect

from sam2.video import VideoSink

WIDTH, HEIGHT = 640, 360
TICK = os.sysconf("SC_CLK_TCK")


def scene(t: int, seed: int = 0) -> np.ndarray:
    """A disc that moves over noise, uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(60, 110, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cx, cy = place(t)
    picture[(x - cx) ** 2 + (y - cy) ** 2 < 50**2] = (225, 70, 40)
    return picture


def place(t: int) -> tuple[float, float]:
    """Centre of the disc."""
    return 320 + 200 * np.sin(t / 40), 180 + 60 * np.cos(t / 25)


def make_media(root: Path, clients: int, frames: int) -> None:
    """A picture and a clip for each client."""
    for client in range(clients):
        Image.fromarray(scene(0, client)).save(root / f"picture{client}.jpg")
        with VideoSink(root / f"clip{client}.mp4", fps=24) as sink:
            for t in range(frames):
                sink.write(scene(t, client))


class Server:
    """The command, as a user starts it."""

    def __init__(self, root: Path) -> None:
        self.began = time.perf_counter()
        command = [sys.executable, "-m", "sam2", "studio", str(root), "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.listening = time.perf_counter() - self.began
        found = re.search(r"http://\S+/", line)
        assert found is not None, line
        self.url = found[0]

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> int:
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Page:
    """One client with a medium."""

    def __init__(self, url: str, path: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=120)
        self.session = self.post("/api/sessions", path=path)["id"]
        state = self.get("")
        self.frames = state["frames"]
        if not state["objects"]:
            self.post(f"/api/sessions/{self.session}/objects")
        host = url.split("//")[1].rstrip("/")
        cookie = f"sam2_client={self.http.cookies['sam2_client']}"
        self._open = ExitStack()
        self._open.callback(self.http.close)
        self.socket = self._open.enter_context(
            connect(
                f"ws://{host}/api/sessions/{self.session}/events",
                additional_headers={"Cookie": cookie},
                max_size=None,
                ping_timeout=None,
            )
        )

    def close(self) -> None:
        self._open.close()

    def post(self, url: str, /, **body: Any) -> Any:
        answer = self.http.post(url, json=body)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.http.get(f"/api/sessions/{self.session}{path}")
        answer.raise_for_status()
        return answer.json() if "json" in answer.headers["content-type"] else answer.content

    def click(self, frame: int, *points: list[float]) -> Any:
        answer = self.http.put(
            f"/api/sessions/{self.session}/prompts/{frame}/1", json={"points": list(points)}
        )
        answer.raise_for_status()
        return answer.json()

    def event(self, kind: str, timeout: float = 120) -> dict[str, Any]:
        """The next event of a kind."""
        while True:
            event: dict[str, Any] = json.loads(self.socket.recv(timeout=timeout))
            if event["type"] == kind:
                return event

    def drain(self) -> None:
        """Passes over what has already been told."""
        try:
            while True:
                self.socket.recv(timeout=0.3)
        except TimeoutError:
            return

    def embed(self, frame: int) -> None:
        """Waits until a frame is prepared."""
        while not self.post(f"/api/sessions/{self.session}/embed", frame=frame)["ready"]:
            time.sleep(0.02)

    def until_idle(self) -> None:
        while self.get("")["job"] is not None:
            time.sleep(0.05)


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 4),
        "max": round(ordered[-1], 4),
        "n": len(ordered),
    }


def report(what: str, **values: Any) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    where = {"cores": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({"what": what, **values, **where, "commit": commit.stdout.strip()}), flush=True)


def measure_start(root: Path) -> Server:
    server = Server(root)
    while True:
        try:
            httpx.get(server.url, timeout=60).raise_for_status()
            break
        except httpx.TransportError:
            time.sleep(0.01)
    page = time.perf_counter() - server.began
    cpu = server.cpu()
    while httpx.get(f"{server.url}api/info", timeout=60).json()["loading"]:
        time.sleep(0.05)
    report(
        "start",
        listening=round(server.listening, 3),
        page=round(page, 3),
        page_cpu=round(cpu, 3),
        model=round(time.perf_counter() - server.began, 3),
        model_cpu=round(server.cpu(), 3),
    )
    return server


def measure_clicks(server: Server, count: int = 40) -> None:
    page = Page(server.url, "picture0.jpg")
    page.embed(0)
    page.click(0, [320, 180, 1])
    before = server.cpu()
    rng = random.Random(0)
    times = [
        timed(lambda: page.click(0, [rng.uniform(250, 390), rng.uniform(160, 280), 1])) for _ in range(count)
    ]
    report("click", size=[WIDTH, HEIGHT], **summary(times), cpu=round((server.cpu() - before) / count, 4))


def measure_clicks_beside_automatic_masks(server: Server) -> None:
    page = Page(server.url, "picture1.jpg")
    page.embed(0)
    page.click(0, [320, 180, 1])
    page.drain()
    page.post(f"/api/sessions/{page.session}/auto", frame=0)
    times: list[float] = []
    share = 0.0
    while share < 1:
        times.append(timed(lambda: page.click(0, [320 + len(times) % 40, 180, 1])))
        event = page.event("auto")
        share = event["done"] / event["total"]
    report("click beside automatic masks", size=[WIDTH, HEIGHT], **summary(times))


def measure_propagation(server: Server) -> None:
    page = Page(server.url, "clip0.mp4")
    x, y = place(0)
    page.embed(0)
    page.click(0, [x, y, 1])
    firsts, seconds = [], []
    for _ in range(5):
        page.until_idle()
        page.drain()
        began = time.perf_counter()
        page.post(f"/api/sessions/{page.session}/propagate", start=0, frames=10)
        page.event("masks")
        firsts.append(time.perf_counter() - began)
        page.event("masks")
        seconds.append(time.perf_counter() - began)
    report("propagation: first masks", **summary(firsts))
    report("propagation: first tracked frame", **summary(seconds))
    page.until_idle()
    before = server.cpu()
    wall = timed(lambda: (page.post(f"/api/sessions/{page.session}/propagate", start=0), page.until_idle()))
    frames = page.frames
    report(
        "propagation: all frames",
        frames=frames,
        per_frame=round(wall / frames, 4),
        cpu=round((server.cpu() - before) / frames, 4),
    )
    before = server.cpu()
    wall = timed(lambda: [page.get(f"/masks?first={f}&last={f + 31}") for f in range(0, frames, 32)])
    report(
        "scrubbing: masks", per_frame=round(wall / frames, 5), cpu=round((server.cpu() - before) / frames, 5)
    )
    before = server.cpu()
    wall = timed(lambda: [page.get(f"/frames/{f}.jpg?width=640") for f in range(frames)])
    report(
        "scrubbing: frames", per_frame=round(wall / frames, 5), cpu=round((server.cpu() - before) / frames, 5)
    )


class Busy(threading.Thread):
    """One page of the load: mostly clicks, some scrubbing, a propagation now and then."""

    def __init__(self, url: str, number: int, end: float) -> None:
        super().__init__()
        self.url, self.number, self.end = url, number, end
        self.clicks: list[float] = []
        self.errors: list[str] = []
        self.events = 0

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:  # counted, and shown in the report
            self.errors.append(f"{type(error).__name__}: {error}"[:200])

    def work(self) -> None:
        rng = random.Random(self.number)
        kind = "clip" if self.number % 2 else "picture"
        page = Page(self.url, f"{kind}{self.number}.{'mp4' if self.number % 2 else 'jpg'}")
        listener = threading.Thread(target=self.listen, args=(page,), daemon=True)
        listener.start()
        page.embed(0)
        turn = 0
        while time.perf_counter() < self.end:
            turn += 1
            frame = 0 if kind == "picture" else rng.choice([0, 0, 0, rng.randrange(page.frames)])
            x, y = place(frame)
            points = [[x + rng.uniform(-40, 40), y + rng.uniform(-40, 40), 1]]
            self.clicks.append(timed(lambda: page.click(frame, *points)))  # noqa: B023
            if kind == "clip" and turn % 8 == 0:
                page.post(f"/api/sessions/{page.session}/propagate", start=frame, frames=20)
                for _ in range(10):
                    page.get(f"/masks/{rng.randrange(page.frames)}")
                    page.get(f"/frames/{rng.randrange(page.frames)}.jpg?width=640")
            if turn % 11 == 0:
                page.post(f"/api/sessions/{page.session}/undo")
            time.sleep(rng.uniform(1.0, 3.0))
        listener.join()
        page.until_idle()
        page.close()

    def listen(self, page: Page) -> None:
        while time.perf_counter() < self.end:
            try:
                page.socket.recv(timeout=5)
                self.events += 1
            except TimeoutError:
                continue


def measure_load(server: Server, clients: int, minutes: float, turn: int) -> None:
    before, cpu = server.memory(), server.cpu()
    began = time.perf_counter()
    pages = [Busy(server.url, number, began + 60 * minutes) for number in range(clients)]
    memory = []
    for page in pages:
        page.start()
    while any(page.is_alive() for page in pages):
        time.sleep(10)
        memory.append(server.memory())
    end = server.memory()
    time.sleep(150)  # until idle sessions have let go and what was freed is given back
    report(
        "load",
        clients=clients,
        minutes=minutes,
        round=turn,
        errors=[error for page in pages for error in page.errors],
        click=summary([t for page in pages for t in page.clicks]),
        events=sum(page.events for page in pages),
        cpu_share=round((server.cpu() - cpu) / (time.perf_counter() - began), 2),
        memory={
            "before": before,
            "quarter": memory[len(memory) // 4],
            "end": end,
            "idle": server.memory(),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2, help="of the load, each by new clients")
    parser.add_argument("--frames", type=int, default=60, help="of each clip")
    parser.add_argument("--skip-load", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this script
    with tempfile.TemporaryDirectory() as folder:
        make_media(Path(folder), args.clients, args.frames)
        server = measure_start(Path(folder))
        try:
            measure_clicks(server)
            measure_clicks_beside_automatic_masks(server)
            measure_propagation(server)
            if not args.skip_load:
                for turn in range(args.rounds):  # memory must not grow again
                    measure_load(server, args.clients, args.minutes, turn + 1)
        finally:
            server.close()


if __name__ == "__main__":
    main()
