"""Whatever a store holds stays text on a page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskstore import Store
from taskstore._text import visible
from tests.browse.sample import append, git
from tests.browse.site import HOME, Page, Site, site_of

MARK = "evil"
ROWS = f"{HOME}/collections/rows"

TEXTS = {
    "script": f"<script>{MARK}()</script>",
    "attribute": f'" onmouseover="{MARK}()" x=\'',
    "image": f"<img src=x onerror={MARK}()>",
    "end": f"</pre></td></table></main></body><h1>{MARK}",
    "template": "{{ 7 * 7 }}{% include 'x' %}",
    "comment": f"<!-- {MARK} --><!--",
    "entity": "&lt;b&gt; &#60;b&#62; &amp;amp;",
    "escapes": "\x1b[31mred\x1b]0;title\x07\x9b31m\x00",
    "direction": "\u202egpj.exe\u2066\u200f",
    "lines": f"one\r\ntwo\u2028three\n</pre><script>{MARK}()</script>",
    "unicode": "記録 📚 \U0001f468\u200d\U0001f469\u200d\U0001f467 é e\u0301",
    "url": f"javascript:{MARK}()",
    "style": "</style><style>*{display:none}</style>",
}
IDS = {
    **{name: text for name, text in TEXTS.items() if name != "escapes"},
    "slashes": "a/b//c",
    "up": "../../etc/passwd",
    "dots": "..",
    "dot": ".",
    "percent": "%2e%2e%2f%00%",
    "tilde": "~2F~~7E+ +",
    "query": "a?b=c&d#e",
    "controls": "a\x1b[31m\tb",
    "long": "x" * 256,
    "value": "value",
    "json": 'a"b\\c',
    "ending": "x.json",
}
TAGS = {
    *("html", "head", "meta", "title", "link", "body", "header", "nav", "strong", "a", "main"),
    *("footer", "p", "h1", "h2", "div", "table", "thead", "tbody", "tr", "th", "td", "span"),
    *("time", "pre", "section", "ul", "ol", "li", "form", "input", "button", "code"),
}
"""The elements that our templates have: none that runs anything."""

ATTRIBUTES = {
    *("aria-label", "action", "charset", "class", "content", "href", "lang", "method", "name"),
    *("placeholder", "rel", "scope", "value"),
}


def check(page: Page) -> None:
    """Check that a page has only elements, attributes and addresses of the templates."""
    assert 200 == page.status
    assert set() == {tag for tag, _ in page.tags} - TAGS
    assert set() == {name for _, found in page.tags for name in found} - ATTRIBUTES
    links = [found[name] for _, found in page.tags for name in ("href", "action") if name in found]
    assert [] == [link for link in links if link is None or not link.startswith("/")]
    assert [] == [
        character for character in page.response.text if visible(character) != character != "\n"
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The pages of a store in which everything is hostile, commits too."""
    folder = tmp_path_factory.mktemp("hostile")
    directory = folder / ".taskstore"
    git(folder, "init", "-q")
    rows = [
        {"id": id, "title": text, text: [text, {text: text}], "name": name, "updated_at": 1_000_000}
        for (name, id), text in zip(IDS.items(), [*TEXTS.values()] * 2, strict=False)
    ]
    append(directory, "rows", *rows)
    git(folder, "config", "user.name", TEXTS["script"])
    git(folder, "add", "-A")
    commit(folder, TEXTS["image"])
    changed = [
        {**row, "title": f"{row['title']}\n{row['title']}", "updated_at": 2_000_000} for row in rows
    ]
    append(directory, "rows", *changed)
    git(folder, "add", "-A")
    commit(folder, TEXTS["escapes"].replace("\0", ""))
    with Store.open(directory) as store, site_of(store) as site:
        yield site


def commit(folder: Path, message: str) -> None:
    """Commit under a hostile name."""
    author = f"{MARK}<script> <a@b>".replace("<script>", "&lt;script&gt; \x1b[31m")
    call = ["git", "-c", "user.email=a@b", "commit", "-q", "--author", author, "-F", "-"]
    subprocess.run(call, cwd=folder, input=message.encode(), check=True)


@pytest.fixture(scope="module")
def linked(hostile: Site) -> dict[str, tuple[str, Page]]:
    """The page of each record, and the link to it, by the name that the record has."""
    listed = hostile.get(ROWS)
    check(listed)
    found = {}
    for link in listed.links:
        if link.startswith(f"{ROWS}/"):
            page = hostile.get(link)
            [name] = [name for name in IDS if f"name {name} " in page.words]
            found[name] = link, page
    return found


@pytest.mark.parametrize("name", IDS)
def test_a_record_stays_text(name: str, hostile: Site, linked: dict[str, tuple[str, Page]]) -> None:
    """The page of each record is found by the link to it, and shows id and values as text."""
    link, page = linked[name]
    check(page)
    assert " ".join(visible(IDS[name])[:160].split()) in page.words
    title = [*TEXTS.values()][[*IDS].index(name) % len(TEXTS)]
    for line in title.split("\n"):
        assert " ".join(visible(line).split()) in page.words
    whole = hostile.get(f"{link}/value?field=title")
    assert "text/plain; charset=utf-8" == whole.response.headers["content-type"]
    shown = "\n".join(map(visible, f"{title}\n{title}".split("\n")))
    assert shown == whole.response.text


def test_commits_stay_text(hostile: Site) -> None:
    """Messages and authors are text, in the list and on their pages."""
    page = hostile.get(f"{HOME}/commits")
    check(page)
    assert TEXTS["image"] in page.text
    links = [link for link in page.links if f"{HOME}/commits/" in link]
    assert 2 == len(links)
    for link in links:
        check(hostile.get(link))


@pytest.mark.parametrize("table", ["taskstore/records", "history/record_changes"])
def test_the_pages_of_datasette_keep_values_as_text(table: str, hostile: Site) -> None:
    """Datasette escapes values, and no script runs whatever it does."""
    page = hostile.get(f"/{table}")
    assert f"{MARK}()" in page.text
    found = [(tag, attributes) for tag, attributes in page.tags if MARK in str(attributes)]
    assert [] == [tag for tag, attributes in found if tag not in ("a", "option", "input")]
    assert [] == [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    policy = page.response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src")
    assert "script" not in policy


@pytest.mark.parametrize("path", ["/{}", "/{}/x", "?after={}", "?filter={}", "/a/value?field={}"])
def test_an_address_stays_text(path: str, site: Site) -> None:
    """What was asked for, and is not there, is text in the answer as well."""
    for text in ("<script>evil()</script>", "%3Cscript%3Eevil()%3C/script%3E", "~3Cscript~3E"):
        page = site.get(f"{HOME}/collections/tasks{path.format(text)}")
        assert page.status in (400, 404)
        assert [] == [tag for tag, _ in page.tags if tag == "script"]


def test_long_values_are_cut(tmp_path: Path) -> None:
    """A text of a megabyte makes no page long, and a link leads to the whole."""
    text = "<b>" + "0123456789" * 100_000
    lines = "\n".join(f"line {n} {n % 7}" for n in range(50_000))
    rows = [
        {"id": "a", "title": text, "text": lines, "list": [text] * 2, "updated_at": 1_000_000},
        {"id": "a", "title": f"{text}!", "text": f"x\n{lines}", "updated_at": 2_000_000},
    ]
    append(tmp_path / ".taskstore", "rows", *rows)
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        for path in (HOME, ROWS, f"{ROWS}/a", f"{HOME}/commits", f"{HOME}/commits/uncommitted"):
            page = site.get(path)
            check(page)
            assert len(page.response.content) < 50_000
        whole = f"{ROWS}/a/value?field=title"
        assert whole in site.get(f"{ROWS}/a").links
        assert f"{text}!" == site.get(whole).response.text
        old = json.loads(site.get(f"{ROWS}/a/value?version=0").response.text)
        assert rows[0] == old
        assert len(site.get("/taskstore/records").response.content) < 50_000


def test_many_fields_and_links_are_cut(tmp_path: Path) -> None:
    """A record with thousands of fields, and as many links, has a page that can be read."""
    fields = {f"field{n}": f"r{n}" for n in range(5_000)}
    targets = [{"id": f"r{n}", "back": ["a"] * 50, "updated_at": 1_000_000} for n in range(300)]
    append(
        tmp_path / ".taskstore", "rows", {"id": "a", **fields, "updated_at": 1_000_000}, *targets
    )
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        page = site.get(f"{ROWS}/a")
    check(page)
    assert "4700 more fields" in page.words
    assert 100 == sum(f"{ROWS}/r" in link for link in page.links)
    assert len(page.response.content) < 300_000


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "a", "n": 123456789012345678901234567890, "updated_at": 5}',
        '{"id": "a", "n": "\\ud800", "\\udfff": 1, "updated_at": 5}',
        '{"id": "a", "n": "\\u0000", "n": 1e400, "updated_at": 5}',
        '{"id": "a", "n": ' + "[" * 60 + "]" * 60 + ', "updated_at": "0001-01-01T00:00:00Z"}',
        '{"id": "a", "n": 1' + "0" * 5000 + ', "updated_at": 253402300799999}',
        '{"id": "a", "$revision": "x", "n": 1, "updated_at": 5}',
        '{"id": "a", "": {"": ""}, "updated_at": null}',
    ],
)
def test_odd_lines_have_pages(line: str, tmp_path: Path) -> None:
    """A line that a log may have is shown, or reported as no record; nothing breaks."""
    directory = tmp_path / ".taskstore"
    append(directory, "rows", {"id": "b", "n": "a", "updated_at": 4})
    with open(directory / "rows.jsonl", "a", encoding="utf-8") as log:
        log.write(f"{line}\n")
    with Store.open(directory) as store, site_of(store) as site:
        for path in (HOME, ROWS, f"{ROWS}/b", f"{HOME}/commits", f"{HOME}/commits/uncommitted"):
            check(site.get(path))
        page = site.get(f"{ROWS}/a")
        if "$revision" in line:
            assert "a cannot be read taskstore verify says why" in page.words
        else:
            is_there = store.get("rows", "a") is not None
            assert (200 if is_there else 404) == page.status
        assert site.get(f"{ROWS}/a/value").status in (200, 404)
