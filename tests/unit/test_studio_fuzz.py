"""The studio's interface under requests that its own description makes up: no answer of 500 or more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from studio_helpers import HOST, Browser, make_media, serving

from sam2.studio.settings import Limits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(900)]

OPERATIONS = 26
EXAMPLES = 12


def ask(browser: Browser, case: Any) -> Any:
    """Sends a made-up request in this browser's name."""
    asked = case.as_transport_kwargs(base_url=f"http://{HOST}")
    known = ("method", "url", "params", "json", "data", "headers", "files")
    given = {key: value for key, value in asked.items() if key in known}
    given["headers"] = {k: v for k, v in dict(given.get("headers") or {}).items() if k.lower() != "cookie"}
    if isinstance(given.get("data"), bytes | str):
        given["content"] = given.pop("data")
    return browser.request(**given)


def test_no_made_up_request_breaks_the_server(tmp_path: Path) -> None:
    root = make_media(tmp_path / "root", frames=3)
    with serving(root, Limits(objects=8)) as browser:
        sessions = [browser.open(path)["id"] for path in ("picture.png", "clip.mp4")]
        browser.click(sessions[1], [20, 18, 1])
        schema = schemathesis.openapi.from_dict(browser.app.openapi())
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) >= OPERATIONS
        answered = {fuzz(browser, sessions, operation) for operation in operations} - {None}
        assert len(answered) >= OPERATIONS / 2, "the requests made up are too wild to say anything"
        assert browser.get("/api/info").status_code == 200


def fuzz(browser: Browser, sessions: list[str], operation: Any) -> str | None:
    """Asks one operation with right and wrong values, mostly of sessions that there are.

    Returns:
        the operation, where a request was granted.
    """
    granted: list[str] = []
    keeps = operation.method.upper() != "DELETE" or "objects" in operation.path or "prompts" in operation.path

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), choice=st.integers(0, 3), small=st.integers(0, 3))
    def run(case: Any, choice: int, small: int) -> None:
        parameters = case.path_parameters or {}
        if "session_id" in parameters and choice < 2 and keeps:
            parameters["session_id"] = sessions[choice]
        for name in ("frame", "obj"):
            if name in parameters and choice < 2:
                parameters[name] = small
        answer = ask(browser, case)
        assert answer.status_code < 500, (case.method, case.path, answer.text)
        if answer.status_code >= 400:
            assert answer.json()["detail"]
        else:
            granted.append(operation.label)

    run()
    return granted[0] if granted else None
