"""The server of the pages."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from taskstore._api.store import Store
from taskstore._browse.plugin import application

_WAITING = 128
"""How many connections may wait to be accepted."""


class _Server(uvicorn.Server):
    """A server that leaves the handling of signals to its caller."""

    def install_signal_handlers(self) -> None:
        """Do nothing; older versions call this."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing; newer versions call this."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections.

    Args:
        host: The address or name to bind to.
        port: The port; 0 for a free one.

    Raises:
        OSError: The address cannot be used.
    """
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = socket.socket(family, kind, protocol)
    try:
        # Otherwise a port that was in use a minute ago is refused.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_WAITING)
    except BaseException:
        listener.close()
        raise
    return listener


def serve(
    store: Store,
    host: str,
    listener: socket.socket,
    *,
    ready: Callable[[str], None],
    report: Callable[[str], None],
) -> None:
    """Serve the pages of a store until SIGINT or SIGTERM.

    Args:
        store: The store.
        host: The address or name that it listens on.
        listener: What `listen` has given.
        ready: Called with the URL of the first page, once there is one.
        report: Called with each line about an error that nobody expected.
    """
    with application(store, host, report) as app:
        server = _Server(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                ws="none",
            )
        )
        with _ending(server):
            name = f"[{host}]" if ":" in host else host
            ready(f"http://{name}:{listener.getsockname()[1]}/-/taskstore")
            server.run(sockets=[listener])


@contextlib.contextmanager
def _ending(server: uvicorn.Server) -> Iterator[None]:
    """Let both signals end the server, which then finishes what it is answering."""

    def end(*_: object) -> None:
        # A page that takes long is not waited for twice.
        server.force_exit = server.should_exit
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
