"""Which requests get a page, and that pages change nothing."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from taskstore import Store
from taskstore._browse.databases import Databases
from taskstore._browse.guard import Guard, is_local
from tests.browse.sample import make
from tests.browse.site import HOME, Page, Site, site_of

PATHS = [
    "/",
    HOME,
    f"{HOME}/style.css",
    f"{HOME}/collections/tasks",
    f"{HOME}/collections/tasks/task-1",
    f"{HOME}/collections/tasks/task-1/value",
    f"{HOME}/commits",
    f"{HOME}/nothing",
    "/taskstore",
    "/taskstore/records",
    "/taskstore/records.json",
    "/taskstore/nothing.json",
    "/history",
    "/nothing",
]
FOREIGN = ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example"]


async def nothing(*_: object) -> None:
    """An application that answers nothing."""


def is_ours(bound: str, host: str) -> bool:
    """Return whether a server on an address accepts a Host header."""
    return Guard(nothing, bound).is_ours(host)


@pytest.mark.parametrize("host", [*FOREIGN, "127.0.0.2", "0.0.0.0", "[::]", "x@localhost", ""])
@pytest.mark.parametrize("path", [HOME, "/taskstore.json", f"{HOME}/style.css"])
def test_another_name_is_refused(host: str, path: str, site: Site) -> None:
    """A name that leads here, but is not ours, reads nothing: the browser serves another site."""
    page = site.get(path, Host=host)
    assert (421, 1) == (page.status, len(page.response.text.splitlines()))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8001", "localhost:80", "LOCALHOST", "[::1]:8"]
)
def test_the_names_of_this_computer_are_ours(host: str, site: Site) -> None:
    """The usual names of this computer are taken, with any port."""
    assert 200 == site.get(HOME, Host=host).status


def test_the_names_follow_from_the_address() -> None:
    """A server on another address answers to that one; on all of them, to numbers."""
    assert is_ours("10.1.2.3", "10.1.2.3:8001")
    assert is_ours("fe80::1", "[FE80::1]:8001")
    assert is_ours("box.lan", "box.lan")
    assert not is_ours("10.1.2.3", "localhost")
    assert not is_ours("box.lan", "box.lan.evil.example")
    for bound in ("0.0.0.0", "::"):
        assert is_ours(bound, "10.1.2.3:80")
        assert is_ours(bound, "[::1]")
        assert is_ours(bound, socket.gethostname())
        assert not any(is_ours(bound, host) for host in FOREIGN)
    assert [True, True, True, False, False] == [
        is_local(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "box.lan")
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.parametrize("path", [HOME, "/taskstore?sql=select+1", "/taskstore/records.json"])
def test_another_site_cannot_ask(headers: dict[str, str], path: str, site: Site) -> None:
    """What a page of another site asks for in the same browser is refused."""
    assert 403 == site.get(path, **headers).status


@pytest.mark.parametrize("source", ["same-origin", "none"])
def test_a_person_can_ask(source: str, site: Site) -> None:
    """A link of our own, and a typed address, are answered."""
    assert 200 == site.get(HOME, Sec_Fetch_Site=source).status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_pages_are_only_read(method: str, site: Site) -> None:
    """No method but GET and HEAD is answered."""
    assert {405} == {site.get(path, method).status for path in (HOME, "/taskstore", "/-/messages")}
    assert 200 == site.get(HOME, "HEAD").status


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_confined(path: str, site: Site) -> None:
    """No answer is kept, framed, or shared with another site, and none may run a script."""
    page = site.get(path, Origin="http://127.0.0.1", Cookie="ds_actor=x")
    headers = page.response.headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert ("unsafe-inline" in policy) is not path.startswith(HOME)
    assert ("no-store", "nosniff", "DENY") == (
        headers["cache-control"],
        headers["x-content-type-options"],
        headers["x-frame-options"],
    )
    assert "same-origin" == headers["cross-origin-resource-policy"]
    assert {"access-control-allow-origin", "set-cookie"}.isdisjoint(headers)


@pytest.mark.parametrize(
    "path",
    [
        "/-/metadata",
        "/-/plugins.json",
        "/-/databases.json",
        "/-/threads",
        "/-/auth-token",
        "/-/allow-debug",
        "/_internal",
        "/_internal/databases.json",
        "/_memory?sql=select+1",
        "/taskstore.db",
        "/history.db",
        "/etc/passwd",
        "/-/taskstoreX",
        "/taskstoreX",
    ],
)
def test_nothing_else_is_served(path: str, site: Site) -> None:
    """The pages of Datasette about itself are not there, and no database can be downloaded."""
    assert site.get(path).status in (403, 404)


@pytest.mark.parametrize("start", ["/-/static/", f"{HOME}/", "/-/taskstore/templates/"])
@pytest.mark.parametrize(
    "rest", ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/app.py", "app.py"]
)
def test_no_file_outside_is_served(start: str, rest: str, site: Site) -> None:
    """No address leads out of the folders of the program."""
    page = site.get(f"{start}{rest}")
    assert page.status in (302, 403, 404)
    assert "root:" not in page.response.text
    assert "import" not in page.response.text


@pytest.mark.parametrize("database", ["taskstore", "history"])
@pytest.mark.parametrize(
    "sql",
    [
        "delete from records",
        "with x as (select 1) delete from record_versions",
        "select 1; drop table records",
        "attach '/tmp/x.db' as x",
        "pragma writable_schema = on",
        "pragma journal_mode = delete",
        "pragma query_only = off",
        "select * from pragma_user_version(9)",
        "vacuum into '/tmp/x.db'",
        "select load_extension('x')",
        "select writefile('/tmp/x', 'x')",
        "select readfile('/etc/passwd')",
        "explain delete from records",
        "select \x1b[31m",
    ],
)
def test_sql_only_reads(
    database: str, sql: str, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """A statement that would write, or reach a file, is an error; and nothing is printed."""
    for suffix in ("", ".json"):
        assert 400 == ask(site, database, sql, suffix).status
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("kind", ["cache", "history"])
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM {table}",
        "CREATE TEMP TABLE t (x)",
        "ATTACH DATABASE ':memory:' AS other",
        "PRAGMA query_only = OFF",
        "PRAGMA schema_version = 7",
        "VACUUM",
    ],
)
def test_the_connections_only_read(kind: str, sql: str, store: Store) -> None:
    """SQLite itself refuses all but queries, whatever Datasette lets through."""
    with closing(Databases(store)) as databases:
        opener = getattr(databases, kind)
        table = {"cache": "records", "history": "record_versions"}[kind]
        with opener() as connection:
            connection.execute(f"SELECT * FROM {table}").fetchall()
            assert connection.execute("PRAGMA schema_version").fetchone()[0] > 0
            with pytest.raises(sqlite3.DatabaseError, match="authoriz|prohibited"):
                connection.execute(sql.format(table=table))


def test_sql_that_takes_for_ever_is_stopped(site: Site) -> None:
    """A query ends after three seconds, with an error, and the others go on."""
    sql = "with recursive c(x) as (select 1 union all select x + 1 from c) select max(x) from c"
    page = ask(site, "taskstore", sql)
    assert (400, True) == (page.status, "took too long" in page.words)
    assert 200 == site.get(HOME).status


def test_nothing_changes(tmp_path: Path) -> None:
    """All the pages together leave every log, and git, as they were."""
    directory = make(tmp_path / "repository")
    before = digests(directory)
    with Store.open(directory) as store, site_of(store) as site:
        for path in PATHS:
            site.get(path)
        ask(site, "taskstore", "update records set id = 'x'")
        assert store.verify().ok
    assert before == digests(directory)


def digests(directory: Path) -> dict[str, str]:
    """What the files have that git tracks, or would."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (*directory.glob("*.jsonl"), directory.parent / ".git/index")
    }


def ask(site: Site, database: str, sql: str, suffix: str = "") -> Page:
    """The page of Datasette with the result of a query."""
    return site.get(f"/{database}{suffix}?{httpx.QueryParams({'sql': sql})}")
