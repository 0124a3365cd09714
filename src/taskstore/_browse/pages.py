"""The pages: what a request asks for, and the template that shows it."""

from __future__ import annotations

import asyncio
import hashlib
import html
import pkgutil
import re
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

import attrs
from datasette.app import Datasette
from datasette.utils import tilde_decode, tilde_encode
from datasette.utils.asgi import Request, Response

from taskstore._browse.databases import StillReadingError
from taskstore._browse.guard import PAGES
from taskstore._browse.source import UNCOMMITTED, NotThereError, Source
from taskstore._browse.texts import inline, moment
from taskstore._text import visible
from taskstore.errors import InvalidIdError, InvalidNameError, TaskstoreError

T = TypeVar("T")

_STYLE = pkgutil.get_data(__package__, "style.css") or b""
_MARKUP = re.compile(r"<[^<>]*>")
_MOST = 2**62
_AGAIN = "2"
"""After how many seconds a browser asks again for a page that is not ready."""

_NAME = r"(?P<collection>[A-Za-z0-9_-]+)"


class _QueryError(TaskstoreError, ValueError):
    """The part of an address after the "?" that cannot be understood."""


@attrs.frozen
class Pages:
    """Answers requests for our own pages.

    Attributes:
        datasette: It renders the templates.
        source: What they show.
        executor: Where the store is asked.
        report: Called with each line about an error that nobody expected.
    """

    datasette: Datasette
    source: Source
    executor: Executor
    report: Callable[[str], None]

    def routes(self) -> list[tuple[str, Any]]:
        """Return the paths, as regular expressions, and what answers them."""
        record = rf"{PAGES}/collections/{_NAME}/(?P<id>[^/]+)"
        pages: list[tuple[str, Any]] = [
            (rf"{PAGES}/?$", self._collections),
            (rf"{PAGES}/collections/{_NAME}$", self._collection),
            (rf"{record}$", self._record),
            (rf"{PAGES}/commits$", self._commits),
            (rf"{PAGES}/commits/(?P<id>[0-9a-f]{{4,64}}|{UNCOMMITTED})$", self._commit),
        ]
        return [
            (r"/$", _to_pages),
            (rf"{PAGES}/style\.css$", _style),
            *((path, self._answering(page)) for path, page in pages),
            (rf"{record}/value$", self._answering(self._value)),
            (rf"{PAGES}(/.*)?$", self._answering(_nothing)),
        ]

    def _answering(self, page: Callable[[Request], Any]) -> Callable[..., Any]:
        """Return a view that answers with a page, or with the error that it raises."""

        async def view(request: Request) -> Response:
            try:
                found: Response = await page(request)
            except TaskstoreError as error:
                return await self.failed(request, error)
            return found

        return view

    async def failed(self, request: Request, error: Exception) -> Response:
        """Return the page that shows an error; what nobody expected is reported as well."""
        status, message = described(error)
        if status is None:
            status = 500
            message = "There was an error. The terminal of `taskstore browse` has the details."
            for line in "".join(traceback.format_exception(error)).splitlines():
                self.report(line)
        if request.path.endswith(".json"):
            return Response.json({"ok": False, "error": visible(message)}, status=status)
        found = await self._shown(request, "error", status=status, message=message)
        found.headers.update(headers_of(error))
        return found

    async def _asked(self, question: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, partial(question, *arguments))

    async def _shown(
        self, request: Request, template: str, *, status: int = 200, **context: Any
    ) -> Response:
        directory = inline(str(self.source.store.path)).text
        values = {**_TOOLS, **context, "status": status, "directory": directory}
        text = await self.datasette.render_template(
            f"taskstore/{template}.html", values, request=request
        )
        return Response.html(text, status=status)

    async def _collections(self, request: Request) -> Response:
        found = await self._asked(self.source.collections)
        return await self._shown(request, "collections", collections=found)

    async def _collection(self, request: Request) -> Response:
        name = request.url_vars["collection"]
        filter = (request.args.get("filter") or "").strip()
        found = await self._asked(
            self.source.collection, name, request.args.get("after") or None, filter
        )
        query = {"after": found.next or ""} | ({"filter": filter} if filter else {})
        return await self._shown(
            request,
            "collection",
            name=name,
            page=found,
            filter=filter,
            next=_link(PAGES, "collections", name, **query) if found.next else None,
        )

    async def _record(self, request: Request) -> Response:
        collection, id = _record_of(request)
        found = await self._asked(self.source.record, collection, id, _number(request, "before"))
        older = None
        if found.older is not None:
            older = _link(PAGES, "collections", collection, id, before=found.older)
        return await self._shown(
            request, "record", collection=collection, id=id, page=found, older=older
        )

    async def _value(self, request: Request) -> Response:
        collection, id = _record_of(request)
        field = request.args.get("field")
        number = _number(request, "version")
        found = await self._asked(self.source.value, collection, id, field, number)
        return Response.text(found)

    async def _commits(self, request: Request) -> Response:
        offset = _number(request, "offset") or 0
        commits, more = await self._asked(self.source.commits, offset)
        next = None if more is None else _link(PAGES, "commits", offset=more)
        return await self._shown(request, "commits", commits=commits, next=next)

    async def _commit(self, request: Request) -> Response:
        id, offset = request.url_vars["id"], _number(request, "offset") or 0
        found = await self._asked(self.source.commit, id, offset)
        next = None
        if found.next is not None:
            next = _link(PAGES, "commits", found.commit.id or UNCOMMITTED, offset=found.next)
        return await self._shown(request, "commit", page=found, next=next)


def described(error: Exception) -> tuple[int | None, str]:
    """Return the status of an answer that says an error, None for an unexpected one, and a text."""
    message = str(getattr(error, "message", None) or error)
    if getattr(error, "message_is_html", False):
        message = html.unescape(_MARKUP.sub(" ", message))
    if isinstance(error, NotThereError | InvalidIdError | InvalidNameError):
        return 404, message
    if isinstance(error, StillReadingError):
        return 503, f"{message} This page will load again."
    if isinstance(error, TaskstoreError):
        return (400 if isinstance(error, ValueError) else 500), message
    # Those of Datasette have one.
    return getattr(error, "status", None), message


def headers_of(error: Exception) -> dict[str, str]:
    """Return the headers of an answer that says an error."""
    return {"refresh": _AGAIN} if isinstance(error, StillReadingError) else {}


async def _nothing(request: Request) -> Response:
    raise NotThereError("There is no such page.")


async def _to_pages() -> Response:
    return Response.redirect(PAGES)


async def _style() -> Response:
    return Response(_STYLE.decode(), content_type="text/css; charset=utf-8")


def _record_of(request: Request) -> tuple[str, str]:
    return request.url_vars["collection"], tilde_decode(request.url_vars["id"])


def _number(request: Request, name: str) -> int | None:
    text = request.args.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < _MOST):
        raise _QueryError(f"{name} is a number from 0 to 2**62, not {text!r}")
    return int(text)


def _link(*parts: str, **query: Any) -> str:
    """Return the address of a page. Ids may have slashes and dots, which browsers change."""
    first, *others = parts
    path = "/".join([first, *map(tilde_encode, others)])
    return f"{path}?{urlencode(query)}" if query else path


def _collection_link(name: str) -> str:
    return _link(PAGES, "collections", name)


def _record_link(collection: str, id: str) -> str:
    return _link(PAGES, "collections", collection, id)


def _value_link(collection: str, id: str, **query: Any) -> str:
    return f"{_record_link(collection, id)}/{_link('value', **query)}"


def _commit_link(id: str | None) -> str:
    return _link(PAGES, "commits", id or UNCOMMITTED)


_TOOLS: dict[str, Any] = {
    "home": PAGES,
    "style": f"{PAGES}/style.css?{hashlib.sha256(_STYLE).hexdigest()[:12]}",
    "collection_link": _collection_link,
    "record_link": _record_link,
    "value_link": _value_link,
    "commit_link": _commit_link,
    "commits_link": _link(PAGES, "commits"),
    "inline": inline,
    "moment": moment,
}
"""What all templates can use."""
