"""The explorer's server answers its own page, and no requests of other origins and hosts."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The largest photograph that may be sent, and the largest of other requests, in bytes.
PHOTO_BYTES, JSON_BYTES = 32 * 2**20, 64 * 2**10
#: The header that carries the token of this run.
TOKEN = "x-torchnle-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Reports of units are pages of their own with scripts inside; they are kept in an origin of their own.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class OwnPagesOnly:
    """Refuses requests of other hosts and origins, POSTs without this run's token, and too large ones.

    A page elsewhere can make a browser send requests here: by name (DNS rebinding, seen in Host), from its
    own origin (Origin, Sec-Fetch-Site), as a form or an image. None of them knows the token.

    Args:
        app: What answers the others.
        hosts: The values of Host that mean this server.
        token: The token of this run.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], token: str) -> None:
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # there are no web sockets
        headers = Headers(scope=scope)
        status, reason = refusal(scope["method"], scope["path"], headers, self.hosts, self.token)
        if status:
            await PlainTextResponse(reason, status, dict(_HEADERS))(scope, receive, send)
            return
        await self.app(scope, _limited(receive, _most(scope["path"])), _with_headers(send, scope["path"]))


def refusal(method: str, path: str, headers: Headers, hosts: tuple[str, ...], token: str) -> tuple[int, str]:
    """Judge a request by its headers: (0, "") = it may pass, else the status and the reason.

    Example:
        >>> refusal("GET", "/", Headers({"host": "evil.example"}), ("127.0.0.1:8000",), "t")
        (421, 'this host is not served')
    """
    if headers.get("host", "").lower() not in hosts or len(headers.getlist("host")) > 1:
        return 421, "this host is not served"
    origin = headers.get("origin")
    if origin is not None and origin not in {f"http://{host}" for host in hosts}:
        return 403, "other origins are refused"
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and not (
        path == "/" and headers.get("sec-fetch-mode") == "navigate"
    ):
        return 403, "other sites are refused"
    if method not in ("GET", "HEAD", "POST"):
        return 405, "GET and POST are answered"
    if method == "POST":
        if not hmac.compare_digest(headers.get(TOKEN, "").encode(), token.encode()):
            return 403, "the token of this run is missing; load the page again"
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            return 411, "the length of the content must be stated"
        if int(length) > _most(path):
            return 413, f"more than {_most(path)} bytes are not taken here"
    return 0, ""


def _most(path: str) -> int:
    return PHOTO_BYTES if path == "/api/photo" else JSON_BYTES


def _limited(receive: Receive, most: int) -> Receive:
    """Stop reading where more comes than was stated."""
    seen = 0

    async def read() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > most else message

    return read


def _with_headers(send: Send, path: str) -> Send:
    policy = REPORT_POLICY if path.startswith("/units/") else POLICY

    async def write(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra: dict[str, Any] = _HEADERS | {"content-security-policy": policy}
            present = {name.lower() for name, _ in message.get("headers", [])}
            message["headers"] = [
                *message.get("headers", []),
                *((k.encode(), v.encode()) for k, v in extra.items() if k.encode() not in present),
            ]
        await send(message)

    return write
