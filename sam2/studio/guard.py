"""Who may speak to the studio: host names, origins, the token, the client's cookie, and sizes of requests."""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from sam2.studio.settings import Settings

CLIENT, TOKEN = "sam2_client", "sam2_token"
YEAR = 365 * 24 * 3600
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class TooLargeError(Exception):
    """A request body beyond its limit."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: refuses strangers, knows clients by a cookie, and sets the headers of every answer.

    A page of another site cannot speak to the studio: its `Origin` is foreign, and a name that it lets point
    to this machine (DNS rebinding) is not among the names that the studio answers to.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._names = {"localhost", socket.gethostname().lower(), settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        cookies = _cookies(headers.get("cookie", ""))
        refusal = self._refusal(scope, headers, cookies)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        fresh: list[str] = []
        given = self._given_token(scope)
        if given is not None and self._settings.token is not None:
            fresh.append(_cookie(TOKEN, self._settings.token, YEAR))
            if scope["type"] == "http" and scope["method"] == "GET" and not scope["path"].startswith("/api"):
                await _redirect(scope, send, fresh)
                return
        client = cookies.get(CLIENT, "")
        if not 20 <= len(client) <= 100 or not client.isascii():
            client = secrets.token_urlsafe(24)
            fresh.append(_cookie(CLIENT, client, YEAR))
        scope["state"] = {**scope.get("state", {}), "client": client}
        if scope["type"] == "http":
            await self._http(scope, receive, _with_headers(send, fresh))
        else:
            await self._app(scope, receive, send)

    # ------------------------------------------------------------------ refusals

    def _refusal(
        self, scope: Scope, headers: dict[str, str], cookies: dict[str, str]
    ) -> tuple[int, str] | None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not self._is_known(name):
            return 403, f"the host {host[:100]!r} is refused: open the address that the command printed"
        origin = headers.get("origin")
        if origin is not None and origin.split("://")[-1] != host:
            return 403, f"requests from {origin[:100]!r} are refused: use the studio's own page"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "requests from other sites are refused: use the studio's own page"
        if self._settings.token is not None and not self._has_token(scope, headers, cookies):
            return (
                401,
                "the token is missing or wrong: open the address with ?token= that the command printed",
            )
        return None

    def _is_known(self, name: str) -> bool:
        if is_loopback(name) or name.lower() in self._names:
            return True
        if is_loopback(self._settings.host):
            return False
        try:  # beyond loopback an address may be any of this machine's; an address cannot be rebound
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_token(self, scope: Scope, headers: dict[str, str], cookies: dict[str, str]) -> bool:
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        for found in (cookies.get(TOKEN), bearer, self._given_token(scope)):
            if found and hmac.compare_digest(found.encode(), (self._settings.token or "").encode()):
                return True
        return False

    @staticmethod
    def _given_token(scope: Scope) -> str | None:
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        return query.get("token")

    # ------------------------------------------------------------------ sizes

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._settings.limits
        is_upload = scope["path"] == "/api/uploads"
        limit = limits.upload_bytes + 2**16 if is_upload else limits.json_bytes
        text = f"the request is larger than {limit:,} bytes, which are the most that is taken: send less"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await _refuse(scope, send, 413, text)
            return
        taken = 0
        refused = False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise TooLargeError
            return message

        async def watched(message: MutableMapping[str, Any]) -> None:
            # the application may answer a body that broke off in its own way
            nonlocal refused
            if taken <= limit:
                await send(message)
            elif not refused:
                refused = True
                await _refuse(scope, send, 413, text)

        try:
            await self._app(scope, counted, watched)
        except TooLargeError:
            if not refused:
                await _refuse(scope, send, 413, text)


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _cookie(name: str, value: str, age: int) -> str:
    return f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"


def _with_headers(send: Send, cookies: list[str]) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            extra += [(b"set-cookie", cookie.encode()) for cookie in cookies]
            if b"cache-control" not in present:
                extra.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4000 + status, "reason": detail[:120]})
        return
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    sending = _with_headers(send, [])
    await sending({"type": "http.response.start", "status": status, "headers": headers})
    await sending({"type": "http.response.body", "body": body})


async def _redirect(scope: Scope, send: Send, cookies: list[str]) -> None:
    """To the same page without the token, so that it stays in no history."""
    query = [(k, v) for k, v in parse_qsl(scope["query_string"].decode("latin-1")) if k != "token"]
    target = "/" + scope["path"].lstrip("/") + (f"?{urlencode(query)}" if query else "")
    sending = _with_headers(send, cookies)
    start = {"type": "http.response.start", "status": 303, "headers": [(b"location", target.encode())]}
    await sending(start)
    await sending({"type": "http.response.body", "body": b""})
