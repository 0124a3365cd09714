"""The pages in a browser: Chromium, without a screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from taskstore import Store
from tests.browse.chromium import BrowserError, Chromium, find, running
from tests.browse.sample import append, git, make
from tests.browse.server import served
from tests.browse.site import HOME

TASKS = f"{HOME}/collections/tasks"
VIEWS = {
    "collections": (HOME, "projects"),
    "collection": (TASKS, "Show the opening hours"),
    "filter": (f"{TASKS}?filter=status%3Ddone", "1 record with status=done"),
    "record": (f"{TASKS}/task-1", "The hours are urgent"),
    "deleted record": (f"{TASKS}/task-3", "Finish the colours"),
    "value": (f"{TASKS}/task-1/value?field=title", "Show the opening hours"),
    "commits": (f"{HOME}/commits", "Plan the new site"),
    "commit": (f"{HOME}/commits/uncommitted", 'status: "doing"'),
    "error": (f"{TASKS}/task-9", "Nothing found"),
}
MARKUP = (
    "<script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\">"
    "<svg onload=\"document.title = 'evil'\"><style>* { display: none }</style>"
)


@pytest.fixture(scope="module")
def tab() -> Iterator[Chromium]:
    """A tab of a browser."""
    path = find()
    if path is None:
        no_browser("there is no Chromium on the path")
    with ExitStack() as stack:
        try:
            tab = stack.enter_context(running(path))
        except BrowserError as error:
            no_browser(f"{path} does not start: {error}")
        yield tab


def no_browser(reason: str) -> NoReturn:
    """Skip, or fail where TASKSTORE_BROWSER asks for the browser, as `nox -s browser` does."""
    if "TASKSTORE_BROWSER" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server for the sample store, to which a hostile record was added."""
    folder = tmp_path_factory.mktemp("browser") / "repository"
    directory = make(folder)
    row = {"id": f"{MARKUP}/..", "title": MARKUP, MARKUP: [MARKUP], "updated_at": 5_000}
    append(directory, "hostile", row)
    git(folder, "add", ".taskstore/hostile.jsonl", hour=30)
    git(folder, "commit", "-qm", MARKUP, hour=30)
    with served(folder) as url:
        yield url.removesuffix(HOME)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_shown(view: str, width: int, scheme: str, tab: Chromium, url: str) -> None:
    """Each view shows its text, fits the window, and has the colours that were asked for."""
    path, text = VIEWS[view]
    tab.show_as(width, 800, scheme)
    complaints = [one for one in tab.open(f"{url}{path}") if "status of 404" not in one]
    assert [] == complaints
    assert text in tab.evaluate("document.body.innerText")
    assert width == tab.evaluate("document.documentElement.scrollWidth")
    if view != "value":
        page = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(rgb(page)) > 400) is (scheme == "light")
        letters = tab.evaluate("getComputedStyle(document.body).color")
        assert abs(sum(rgb(page)) - sum(rgb(letters))) > 400


def rgb(color: str) -> list[int]:
    """The red, green and blue of a colour as CSS gives it."""
    return [int(part) for part in color.partition("(")[2].rstrip(")").split(",")[:3]]


@pytest.mark.parametrize("path", ["/taskstore", "/taskstore/records", "/history/record_versions"])
def test_pages_of_datasette_work_without_scripts(path: str, tab: Chromium, url: str) -> None:
    """Datasette's own pages are shown; their scripts are refused, and nothing else is."""
    tab.show_as(1200, 800)
    complaints = tab.open(f"{url}{path}")
    assert [] == [one for one in complaints if "script" not in one and "BLOCKED" not in one]
    assert "record" in tab.evaluate("document.body.innerText")
    assert 0 < tab.evaluate("document.styleSheets.length")
    assert "evil" not in tab.evaluate("document.title")


def test_hostile_values_do_nothing(tab: Chromium, url: str) -> None:
    """Markup in ids, fields, values and messages runs nothing, loads nothing, and is read as text.

    The links lead where they should, though the id looks like a path.
    """
    tab.show_as(1200, 800)
    collection = f"{HOME}/collections/hostile"
    assert [] == tab.open(f"{url}{collection}")
    link = tab.evaluate("document.querySelector('td.id a').href")
    commits = f"{url}{HOME}/commits"
    assert [] == tab.open(commits)
    commit = tab.evaluate("[...document.querySelectorAll('td a')][1].href")
    for page in (link, commits, commit):
        assert [] == tab.open(page)
        assert MARKUP[:100] in tab.evaluate("document.body.innerText")
        assert 0 == tab.evaluate("document.querySelectorAll('script, img, svg, style').length")
        assert "evil" != tab.evaluate("document.title")


def test_another_site_reads_nothing(tab: Chromium, url: str, tmp_path: Path) -> None:
    """A page from elsewhere, in the same browser, cannot read the store, nor show it in a frame."""
    page = tmp_path / "other.html"
    page.write_text(
        f"<iframe src='{url}{HOME}'></iframe><img src='{url}/favicon.ico'>"
        f"<script src='{url}/taskstore/records.json?_shape=array'></script>"
    )
    tab.open(page.as_uri())
    assert {403} == set(tab.statuses(url))
    fetched = f"fetch('{url}{HOME}').then(() => 'read', () => 'refused')"
    assert "refused" == tab.evaluate(fetched)


def test_a_reload_shows_what_is_new(tab: Chromium, tmp_path: Path) -> None:
    """A line that comes while the server runs is there after a reload."""
    directory = tmp_path / ".taskstore"
    with Store.open(directory) as store:
        store.create({"id": "a", "title": "old"}, collection="plans")
    with served(tmp_path) as url:
        page = f"{url}/collections/plans/a"
        tab.open(page)
        assert "title old" in " ".join(tab.evaluate("document.body.innerText").split())
        append(directory, "plans", {"id": "a", "title": "new", "updated_at": 4_000_000_000_000})
        tab.open(page)
        assert "title new" in " ".join(tab.evaluate("document.body.innerText").split())
