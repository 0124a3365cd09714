"""The pages of a store without a server: requests go to the application itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import attrs
import httpx

from taskstore import Store
from taskstore._browse.guard import App
from taskstore._browse.plugin import application

HOME = "/-/taskstore"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("div", "td", "th"):
            # They begin on a line, or in a column, of their own.
            self.texts.append("\n")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@attrs.frozen
class Page:
    """An answer, read as a browser reads it."""

    response: httpx.Response

    @property
    def status(self) -> int:
        """The status of the answer."""
        return self.response.status_code

    @property
    def text(self) -> str:
        """What a person can read, without markup."""
        return "".join(self._read().texts)

    @property
    def words(self) -> str:
        """The same, with single spaces in place of all white space."""
        return " ".join(self.text.split())

    @property
    def tags(self) -> list[tuple[str, dict[str, str | None]]]:
        """The elements, each with its attributes."""
        return self._read().tags

    @property
    def links(self) -> list[str]:
        """Where the links lead, in their order."""
        return [found["href"] or "" for tag, found in self.tags if tag == "a"]

    def link(self, rel: str) -> str | None:
        """Where the link with a relation leads, if there is one."""
        found = [one["href"] for tag, one in self.tags if tag == "a" and one.get("rel") == rel]
        return found[0] if found else None

    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.response.text)
        reader.close()
        return reader


@attrs.frozen
class Site:
    """The pages of a store.

    Attributes:
        app: The application.
        reports: What it has said of errors that nobody expected.
    """

    app: App
    reports: list[str]
    _runner: asyncio.Runner

    def get(self, path: str, method: str = "GET", **headers: str) -> Page:
        """The answer to a request, by an address as a browser sends it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Page(self._runner.run(self._asked(method, path, named)))

    async def _asked(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=_as_httpx(self.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers)


def _as_httpx(app: App) -> Any:
    return app


@contextmanager
def site_of(store: Store, host: str = "127.0.0.1") -> Iterator[Site]:
    """The pages of a store, in a block."""
    reports: list[str] = []
    with asyncio.Runner() as runner, application(store, host, reports.append) as app:
        yield Site(app, reports, runner)
    assert [] == reports
