"""What the pages show."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskstore import Store
from taskstore._browse import databases
from taskstore._browse.databases import Databases
from tests.browse.sample import append, git, make
from tests.browse.site import HOME, Site, site_of

TASKS = f"{HOME}/collections/tasks"


def commit_of(sample: Path, revision: str) -> str:
    """The address of the page of a commit."""
    return f"{HOME}/commits/{git(sample, 'rev-parse', revision)}"


def test_the_first_page_lists_the_collections(site: Site) -> None:
    """Each collection is there with its number of records and its last change, and a link."""
    page = site.get(HOME)
    assert 200 == page.status
    assert "people 2 2026-01-01 00:00:00" in page.words
    assert "tasks 2 2026-01-01 20:00:00" in page.words
    assert {f"{HOME}/collections/{name}" for name in ("people", "projects", "tasks")} <= set(
        page.links
    )


def test_the_root_leads_to_the_first_page(site: Site) -> None:
    """An address without the path leads to the same page."""
    page = site.get("/")
    assert (302, HOME) == (page.status, page.response.headers["location"])


def test_a_collection_lists_its_records(site: Site) -> None:
    """A record has a row with its fields, in the order of its line, and a link."""
    page = site.get(TASKS)
    assert "id title status priority project updated" in page.words
    assert "task-2 Choose the colours done 3 site 2026-01-01 15:00:00" in page.words
    assert f"{TASKS}/task-2" in page.links
    assert "task-3" not in page.words


def test_a_filter_is_that_of_the_command_line(site: Site) -> None:
    """The form takes what `--where` takes, and says what is wrong with anything else."""
    assert "1 record with status=done" in site.get(f"{TASKS}?filter=status%3Ddone").words
    assert "task-2" not in site.get(f"{TASKS}?filter=priority<3").words
    unknown = site.get(f"{TASKS}?filter=statos%3Ddone")
    assert (400, True) == (unknown.status, "did you mean 'status'" in unknown.words)
    assert 400 == site.get(f"{TASKS}?filter=%3D%3D").status


def test_pages_follow_each_other(tmp_path: Path) -> None:
    """The pages of a collection have each of its records once."""
    rows = [{"id": f"r{n}", "updated_at": 1_000_000 + n} for n in range(120)]
    append(tmp_path / ".taskstore", "rows", *rows)
    seen: list[str] = []
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        path: str | None = f"{HOME}/collections/rows"
        while path is not None:
            page = site.get(path)
            seen += [link.rpartition("/")[2] for link in page.links if "/rows/" in link]
            path = page.link("next")
    assert [f"r{n}" for n in reversed(range(120))] == seen


def test_a_record_says_who_changed_each_field(site: Site, store: Store) -> None:
    """Each field has its value, and the commit that `blame` finds, linked."""
    page = site.get(f"{TASKS}/task-1")
    blame = {one.field: one for one in store.blame("tasks", "task-1")}
    assert "The hours are urgent" == blame["priority"].subject
    for field, one in blame.items():
        value = " ".join(str(one.value).split())
        who = f"{one.subject} {one.author}," if one.commit else "not committed"
        assert f"{field} {value} {who}" in page.words
        assert f"{HOME}/commits/{one.commit or 'uncommitted'}" in page.links


def test_a_record_has_a_timeline(site: Site) -> None:
    """The versions are there, the newest first, each with its commit and what it changed."""
    words = site.get(f"{TASKS}/task-1").words.partition("History 2026")[2]
    parts = [
        'not committed whole version status: "open" status: "doing"',
        "The hours are urgent Ada Lovelace whole version priority: 2 priority: 1 description:",
        "Also on holidays. assignee:",
        "created Plan the new site Ada Lovelace whole version title:",
    ]
    places = [words.find(part) for part in parts]
    assert -1 not in places
    assert sorted(places) == places


def test_old_versions_are_on_pages_of_their_own(tmp_path: Path) -> None:
    """A record with many versions shows them by fifty, each once."""
    versions = [{"id": "a", "n": n, "updated_at": 1_000_000 + n} for n in range(120)]
    append(tmp_path / ".taskstore", "rows", *versions)
    found: list[str] = []
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        path: str | None = f"{HOME}/collections/rows/a"
        while path is not None:
            page = site.get(path)
            found += [link for link in page.links if "/value?version=" in link]
            path = page.link("next")
    assert [str(n) for n in reversed(range(120))] == [one.rpartition("=")[2] for one in found]


def test_records_are_linked_both_ways(site: Site) -> None:
    """A record links to those whose ids it holds, and to those that hold its own."""
    task = site.get(f"{TASKS}/task-1")
    assert "site The new site projects, in project" in task.words
    assert f"{HOME}/collections/people/ada" in task.links
    person = site.get(f"{HOME}/collections/people/ada")
    assert "Linked from site The new site projects, in lead task-1" in person.words
    assert f"{TASKS}/task-1" in person.links


def test_a_deleted_record_keeps_its_page(site: Site) -> None:
    """What is deleted says so, and shows its history; what never was is not found."""
    page = site.get(f"{TASKS}/task-3")
    assert (200, True) == (page.status, "task-3 deleted" in page.words)
    assert "deleted Finish the colours, drop the drawing Bo Lindqvist" in page.words
    assert 404 == site.get(f"{TASKS}/task-9").status
    assert 404 == site.get(f"{HOME}/collections/nothing/task-1").status
    assert 404 == site.get(f"{HOME}/collections/nothing").status


def test_a_commit_shows_what_it_changed(site: Site, sample: Path) -> None:
    """The page of a commit has a number for each kind of change, and each value."""
    page = site.get(commit_of(sample, "HEAD"))
    words = "Collection created changed deleted tasks 1 1"
    assert words in page.words
    assert 'task-2 changed status: "doing" status: "done"' in page.words
    assert "task-3 deleted" in page.words
    assert "Bo Lindqvist, 2026-01-01 15:00:00" in page.words
    short = site.get(commit_of(sample, "HEAD")[: len(f"{HOME}/commits/") + 8])
    assert page.text == short.text


def test_the_commits_are_listed(site: Site, sample: Path) -> None:
    """What is not committed comes first, then the commits, the newest first."""
    page = site.get(f"{HOME}/commits")
    commits = git(sample, "log", "--format=%H").split()
    expected = [f"{HOME}/commits/{id}" for id in ["uncommitted", *commits]]
    assert expected == [link for link in page.links if f"{HOME}/commits/" in link]
    assert "Plan the new site Ada Lovelace 2026-01-01 00:00:00 5" in page.words
    assert 'status: "doing"' in site.get(f"{HOME}/commits/uncommitted").words
    assert 404 == site.get(f"{HOME}/commits/{'0' * 40}").status
    assert 404 == site.get(f"{HOME}/commits/HEAD").status


def test_a_large_commit_is_on_several_pages(tmp_path: Path) -> None:
    """The changes of a commit are shown by two hundred, each once."""
    rows = [{"id": f"r{n:03}", "n": n, "updated_at": 1_000_000 + n} for n in range(450)]
    append(tmp_path / ".taskstore", "rows", *rows)
    found: list[str] = []
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        path: str | None = f"{HOME}/commits/uncommitted"
        pages = 0
        while path is not None:
            page = site.get(path)
            pages += 1
            found += [link for link in page.links if "/rows/" in link]
            path = page.link("next")
    assert (3, [f"r{n:03}" for n in range(450)]) == (
        pages,
        [link.rpartition("/")[2] for link in found],
    )


def test_the_pages_show_what_is_new(tmp_path: Path) -> None:
    """A line that comes while the server runs is on every page at the next request."""
    directory = make(tmp_path / "repository")
    with Store.open(directory) as store, site_of(store) as site:
        pages = [HOME, TASKS, f"{TASKS}/task-1", f"{HOME}/commits", "/taskstore", "/history"]
        before = {path: site.get(path).text for path in pages}
        assert 404 == site.get(f"{TASKS}/task-7").status
        row = {"id": "task-7", "title": "task-1", "updated_at": 1_790_000_000_000}
        append(directory, "tasks", row)
        git(directory, "add", "-A", hour=99)
        git(directory, "commit", "-qm", "What was pulled", hour=99)
        assert "What was pulled" in site.get(f"{TASKS}/task-7").words
        after = {path: site.get(path).text for path in pages}
        assert [] == [path for path in pages if before[path] == after[path]]


def test_a_store_without_git_has_pages(tmp_path: Path) -> None:
    """Without a repository nothing is committed, and everything else is there."""
    append(tmp_path / ".taskstore", "plans", {"id": "a", "title": "Ship", "updated_at": 5000})
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        page = site.get(f"{HOME}/collections/plans/a")
        assert "title Ship not committed 1970-01-01 00:00:05" in page.words


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """A store without a collection names the command that makes one."""
    with Store.open(tmp_path / ".taskstore") as store, site_of(store) as site:
        assert "taskstore add" in site.get(HOME).words
        assert "There are no changes yet" in site.get(f"{HOME}/commits").words


def test_a_store_for_reading_has_pages(tmp_path: Path) -> None:
    """A store whose cache is in memory shows all pages, and writes nothing to its directory."""
    directory = make(tmp_path / "repository")
    before = sorted(path.name for path in directory.iterdir())
    with Store.open(directory, read_only=True) as store, site_of(store) as site:
        for path in (HOME, TASKS, f"{TASKS}/task-1", f"{HOME}/commits", "/taskstore", "/history"):
            assert 200 == site.get(path).status
        row = {"id": "task-8", "updated_at": 1_790_000_000_000}
        append(directory, "tasks", row)
        assert "task-8" in site.get(TASKS).words
        assert "task-8" in site.get("/taskstore/records").words
        assert "task-8" in site.get("/history/record_versions").words
    assert before == sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    "query", ["before=x", "before=-1", "before=99999999999999999999", "version=1e3", "offset="]
)
def test_numbers_in_an_address_are_checked(query: str, site: Site) -> None:
    """What is no number is refused with a reason."""
    path = {"b": f"{TASKS}/task-1", "v": f"{TASKS}/task-1/value", "o": f"{HOME}/commits"}[query[0]]
    page = site.get(f"{path}?{query}")
    assert (400, True) == (page.status, "is a number from 0 to" in page.words)


def test_a_token_of_another_page_is_refused(site: Site) -> None:
    """A page cannot begin after a text that no page has given."""
    assert 400 == site.get(f"{TASKS}?after=nonsense").status


def test_only_pages_of_the_history_wait_for_it(
    sample: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During the first reading collections can be seen, and other pages ask the browser to wait."""
    go_on = threading.Event()
    read = Databases._read

    def slowly(self: Databases, collections: Sequence[str]) -> Path:
        assert go_on.wait(60)
        return read(self, collections)

    monkeypatch.setattr(Databases, "_read", slowly)
    monkeypatch.setattr(databases, "_PATIENCE", 0.0)
    try:
        with site_of(store) as site:
            assert [200, 200] == [site.get(path).status for path in (HOME, TASKS)]
            for path in (f"{TASKS}/task-2", f"{HOME}/commits", "/history"):
                page = site.get(path)
                assert (503, "2") == (page.status, page.response.headers["refresh"])
                assert "being read" in page.words
            go_on.set()
            monkeypatch.setattr(databases, "_PATIENCE", 60.0)
            assert 200 == site.get(commit_of(sample, "HEAD")).status
    finally:
        go_on.set()
