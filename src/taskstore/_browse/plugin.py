"""Datasette with our pages, as an ASGI application."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
from datasette import hookimpl
from datasette.app import Datasette
from datasette.plugins import pm
from datasette.utils.asgi import Response

from taskstore._api.store import Store
from taskstore._browse.databases import Databases, ReadingDatabase
from taskstore._browse.guard import App, Guard, Message, Receive, Send
from taskstore._browse.pages import Pages, described, headers_of
from taskstore._browse.source import Source
from taskstore.errors import TaskstoreError

# Datasette's import turns this on for the whole process: what a signal handler raises in one of our
# SQL functions would be printed, and then raised by the query as well.
sqlite3.enable_callback_tracebacks(False)

_THREADS = 4
_PRINTING = "datasette.handle_exception"
"""Datasette's own answer to errors prints them, with all local variables, to stdout."""

_SETTINGS = {
    "allow_download": False,
    "default_cache_ttl": 0,
    "sql_time_limit_ms": 3000,
    "template_debug": False,
    "trace_debug": False,
}
_HIDDEN = {
    "taskstore": (
        "log_evolutions",
        "mirror_keys",
        "mirror_problems",
        "mirror_states",
        "record_index_fields",
        "sync_metadata",
        "taskstore_version",
    ),
    "history": ("commits", "lines", "read_logs"),
}
"""The tables of each database that say nothing of records."""


@attrs.define(eq=False)
class _Plugin:
    """What Datasette asks a plugin.

    Attributes:
        datasette: The one that it serves: all others in this process get nothing.
        pages: Our pages.
    """

    datasette: Any
    pages: Pages

    __name__ = "taskstore-browse"

    @hookimpl  # type: ignore[untyped-decorator] # Datasette has no types
    def register_routes(self, datasette: Any) -> list[tuple[str, Any]]:
        """Return the paths of our pages."""
        return self.pages.routes() if datasette is self.datasette else []

    @hookimpl  # type: ignore[untyped-decorator] # Datasette has no types
    def handle_exception(self, datasette: Any, request: Any, exception: Exception) -> Any:
        """Return the page that shows an error of one of Datasette's own pages."""

        async def answered() -> Any:
            is_ours = datasette is self.datasette
            return await self.pages.failed(request, exception) if is_ours else None

        return answered


@attrs.frozen
class _Refreshing:
    """An ASGI application that reads what is new before a page of Datasette is made."""

    app: App
    databases: Databases
    executor: ThreadPoolExecutor

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"].startswith(("/taskstore", "/history")):
            is_history = scope["path"].startswith("/history")
            read = self.databases.read_history if is_history else self.databases.refresh
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self.executor, read)
            except TaskstoreError as error:
                status, message = described(error)
                answer = Response.text(message, status=status or 500, headers=headers_of(error))
                await answer.asgi_send(send)
                return
        await self.app(scope, receive, send)


@contextmanager
def application(store: Store, host: str, report: Callable[[str], None]) -> Iterator[App]:
    """Give the ASGI application that shows a store, in a block.

    It begins to read the history.

    Args:
        store: The store, which stays open.
        host: The address that the server is bound to.
        report: Called with each line about an error that nobody expected.
    """
    templates = str(Path(__file__).parent / "templates")
    hidden = {
        name: {"tables": {table: {"hidden": True} for table in tables}}
        for name, tables in _HIDDEN.items()
    }
    datasette = Datasette(
        [],
        template_dir=templates,
        settings=_SETTINGS,
        metadata={"title": "Taskstore", "databases": hidden},
        memory=True,
    )
    with (
        ThreadPoolExecutor(_THREADS, "taskstore-browse") as executor,
        closing(Databases(store)) as databases,
    ):
        for name, opener in (("taskstore", databases.cache), ("history", databases.history)):
            datasette.add_database(ReadingDatabase(datasette, opener, executor), name=name)
        datasette.remove_database("_memory")
        databases.begin()
        plugin = _Plugin(datasette, Pages(datasette, Source(store, databases), executor, report))
        pm.register(plugin, f"taskstore-browse-{id(datasette)}")
        printing = pm.get_plugin(_PRINTING)
        if printing is not None:
            pm.unregister(printing)
        try:
            yield Guard(_Refreshing(datasette.app(), databases, executor), host)
        finally:
            pm.unregister(plugin)
            if printing is not None:
                pm.register(printing, _PRINTING)
