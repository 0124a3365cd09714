"""Who may ask, and what the browser may do with the answer.

A page of any other site, open in the same browser, can send requests to this computer. It must not
read the store. A browser tells the name under which it asks (`Host`), so that a name of theirs that
leads here is refused, and where the request comes from (`Sec-Fetch-Site`, `Origin`).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

import attrs

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS = ("GET", "HEAD")
_NOT_OURS = frozenset({"cross-site", "same-site"})

PAGES = "/-/taskstore"
"""Where our own pages are."""

_OPEN = re.compile(rf"/$|{PAGES}(/|$)|/-/static/|/favicon\.ico$|/(taskstore|history)([/.]|$)")
"""The paths that are served; all else of Datasette tells of the program, not of the store."""

_POLICY = (
    "default-src 'none'; style-src {style}; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_OWN_POLICY = _POLICY.format(style="'self'")
_DATASETTE_POLICY = _POLICY.format(style="'self' 'unsafe-inline'")
"""Pages of Datasette have styles in them. No page has a script that runs."""

_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_local(host: str) -> bool:
    """Say whether only this computer can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@attrs.frozen
class Guard:
    """An ASGI application that refuses what a browser should not be able to ask.

    Attributes:
        app: What answers the rest.
        host: The address that the server is bound to.
    """

    app: App
    host: str

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']!r} is not served")
        is_own = _path(scope).startswith(PAGES)
        with_headers = _with_headers(send, _OWN_POLICY if is_own else _DATASETTE_POLICY)
        refused = self.fault(scope)
        if refused is None:
            await self.app(scope, receive, with_headers)
            return
        status, reason = refused
        await with_headers(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"text/plain; charset=utf-8")],
            }
        )
        await with_headers({"type": "http.response.body", "body": reason.encode()})

    def fault(self, scope: Message) -> tuple[int, str] | None:
        """Return the status and the reason with which a request is refused, or None."""
        if scope["method"] not in _METHODS:
            return 405, "These pages can only be read."
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self.is_ours(hosts[0]):
            return 421, "Open these pages by the address that `taskstore browse` has printed."
        site = _values(scope, b"sec-fetch-site")
        origins = [origin.partition("://")[2] for origin in _values(scope, b"origin")]
        if _NOT_OURS & set(site) or any(origin != hosts[0] for origin in origins):
            return 403, "Another site has asked for this page. Open its address yourself."
        path = _path(scope)
        if _OPEN.match(path) is None or not path.isascii():
            return 404, "There is no such page."
        return None

    def is_ours(self, host: str) -> bool:
        """Say whether a Host header names the address that the server is bound to.

        The port may differ, as it does behind `ssh -L`: another site cannot change its name.
        """
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].lower()
        if is_local(self.host):
            return name in _LOOPBACK or name == _in_url(self.host)
        if name == _in_url(self.host):
            return True
        # On all interfaces there are many addresses, and names that only this computer knows.
        # A number is never a name that leads elsewhere for one site and here for another.
        return _is_any(self.host) and (
            _is_address(name) or name in {"localhost", socket.gethostname().lower()}
        )


def _in_url(host: str) -> str:
    return f"[{host.lower()}]" if ":" in host else host.lower()


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - it is compared


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _path(scope: Message) -> str:
    """Return the path as it was sent, which is also what Datasette goes by."""
    raw: bytes | None = scope.get("raw_path")
    path = scope["path"] if raw is None else raw.decode("latin-1")
    return str(path).partition("?")[0]


def _values(scope: Message, name: bytes) -> list[str]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def _with_headers(send: Send, policy: str) -> Send:
    headers = {**_HEADERS, "content-security-policy": policy}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (key, value)
                for key, value in message.get("headers", ())
                if key.lower().decode("latin-1") not in headers and key.lower() != b"set-cookie"
            ]
            added = [(key.encode(), value.encode()) for key, value in headers.items()]
            message = {**message, "headers": kept + added}
        await send(message)

    return send_with_headers
