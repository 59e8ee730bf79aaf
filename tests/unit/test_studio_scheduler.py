"""One thread for the model: who goes first, who takes turns, and what replaces what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sam2.studio.hub import FRAMES, Outbox
from sam2.studio.scheduler import PATIENCE, BusyError, Scheduler, StoppedError, SupersededError


class Held:
    """A scheduler whose thread is held at its first work until the block ends."""

    def __init__(self, **options: Any) -> None:
        self.scheduler = Scheduler(**options)
        self._go = threading.Event()
        self.done: list[str] = []

    def __enter__(self) -> Held:
        started = threading.Event()

        def hold() -> None:
            started.set()
            self._go.wait(10)

        self.scheduler.request("nobody", hold)
        assert started.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._go.set()

    def ask(self, owner: str, name: str, **options: Any) -> Any:
        return self.scheduler.request(owner, lambda: self.done.append(name), **options)

    def slices(self, owner: str, name: str, count: int) -> Any:
        def steps() -> Iterator[None]:
            for number in range(count):
                self.done.append(f"{name}{number}")
                yield

        return self.scheduler.background(owner, steps())


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.scheduler.close()


def test_requests_go_before_slices_and_slices_are_never_starved(held: Held) -> None:
    with held:
        work = held.slices("a", "s", 2)
        last = [held.ask("b", f"r{i}") for i in range(PATIENCE + 2)][-1]
    last.result(10)
    work.future.result(10)
    assert held.done[: PATIENCE - 1] == [f"r{i}" for i in range(PATIENCE - 1)]
    assert held.done.index("s0") < held.done.index(f"r{PATIENCE + 1}") < held.done.index("s1")


def test_owners_take_turns_at_requests_and_at_slices(held: Held) -> None:
    with held:
        futures = [held.ask("a", f"a{i}") for i in range(3)] + [held.ask("b", "b0"), held.ask("c", "c0")]
        works = [held.slices("a", "x", 2), held.slices("b", "y", 2)]
    for future in (*futures, *(work.future for work in works)):
        future.result(10)
    assert held.done == ["a0", "b0", "c0", "a1", "a2", "x0", "y0", "x1", "y1"]


def test_a_newer_request_takes_the_place_of_one_that_waits(held: Held) -> None:
    with held:
        old = held.ask("a", "old", key="prompt")
        others = [held.ask("a", "other", key="preview"), held.ask("b", "stranger", key="prompt")]
        new = held.ask("a", "new", key="prompt")
    with pytest.raises(SupersededError):
        old.result(10)
    for future in (new, *others):
        future.result(10)
    assert sorted(held.done) == ["new", "other", "stranger"]


def test_one_owner_cannot_queue_without_end() -> None:
    held = Held(waiting=3)
    with held:
        futures = [held.ask("a", str(i)) for i in range(3)]
        with pytest.raises(BusyError, match="3 requests"):
            held.ask("a", "one too many")
        futures.append(held.ask("b", "another owner"))
    for future in futures:
        future.result(10)
    held.scheduler.close()


def test_what_is_not_ready_lets_others_pass(held: Held) -> None:
    loaded = threading.Event()
    with held:
        waiting = held.ask("a", "model", ready=loaded.is_set)
        passing = held.ask("a", "rename")
    passing.result(10)
    assert held.done == ["rename"]
    loaded.set()
    held.scheduler.notify()
    waiting.result(10)


def test_cancelled_work_ends_and_errors_reach_who_asked(held: Held) -> None:
    with held:
        work = held.slices("a", "s", 1000)
        failing = held.scheduler.request("a", lambda: 1 / 0)
        work.cancel()
    with pytest.raises(ZeroDivisionError):
        failing.result(10)
    with pytest.raises(StoppedError):
        work.future.result(10)
    assert held.done == []


def test_closing_answers_whoever_waits() -> None:
    held = Held()
    with held:
        waiting = held.ask("a", "later", ready=lambda: False)
    held.scheduler.close()
    with pytest.raises(StoppedError):
        waiting.result(10)
    with pytest.raises(StoppedError):
        held.ask("a", "too late")


def test_a_slow_page_gets_the_newest_of_a_bounded_queue() -> None:
    async def run() -> list[dict[str, Any]]:
        outbox = Outbox(asyncio.get_running_loop())
        for revision in range(3):
            outbox.put({"type": "session", "session": {"revision": revision}})
        for frame in range(10 * FRAMES):
            outbox.put({"type": "masks", "frame": frame})
            outbox.put({"type": "progress", "done": frame})
        outbox.put({"type": "masks", "frame": 10 * FRAMES - 2, "newer": True})
        got = []
        while True:
            try:
                got.append(await asyncio.wait_for(outbox.get(), 0.05))
            except asyncio.TimeoutError:
                return got

    got = asyncio.run(run())
    assert len(got) == FRAMES + 2
    assert [e["session"]["revision"] for e in got if e["type"] == "session"] == [2]
    assert [e["done"] for e in got if e["type"] == "progress"] == [10 * FRAMES - 1]
    masks = [e["frame"] for e in got if e["type"] == "masks"]
    assert sorted(masks) == list(range(9 * FRAMES, 10 * FRAMES))
    assert masks[-1] == 10 * FRAMES - 2
