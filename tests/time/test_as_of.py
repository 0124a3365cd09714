"""The store as it was, by revision and by time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import (
    AsyncStore,
    CommitNotFoundError,
    GitError,
    GitObjectMissingError,
    Store,
    StoreReadOnlyError,
    indexed,
    mirrored,
    record,
    where,
)
from taskstore._api import past_caches, time_calls
from taskstore._log import snapshots
from taskstore._log.gate import Gate
from taskstore.models import RecordVersion
from tests.merge.repositories import LOG, line
from tests.time.histories import Change, build, random_changes, read_plainly, run

HISTORIES = int(os.environ.get("TASKSTORE_HISTORIES", "8"))


@record("plans")
class Plan:
    """A plan."""

    id: str
    title: str = ""
    status: str = indexed(default="draft")
    updated_at: int = 0


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A repository with a store of two commits: a record each."""
    build(
        tmp_path,
        [
            Change((), line("a", 1000, title="A", status="open")),
            Change((0,), line("a", 1000, title="A", status="open") + line("b", 2000, title="B")),
        ],
    )
    return tmp_path


def records_of(store: Store) -> dict[str, dict[str, Any]]:
    """The records by id."""
    return {row["id"]: dict(row) for row in store.list("plans")}


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_as_of_a_commit_is_what_a_plain_reader_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With branches, merges, compactions and rewrites: as_of(c) = read(git show c:log)."""
    if seed % 2:
        monkeypatch.setattr(past_caches, "_LEAST", 0)
    rng = random.Random(seed)
    changes = random_changes(rng, 12)
    ids = build(tmp_path, changes)
    (tmp_path / ".taskstore").mkdir(exist_ok=True)
    with Store.open(tmp_path / ".taskstore") as store:
        for number in rng.sample(range(len(ids)), 3):
            log = changes[number].log
            shown = b"" if log is None else run(tmp_path, "show", f"{ids[number]}:{LOG}")
            with store.as_of(ids[number]) as past:
                assert read_plainly(shown) == records_of(past)
                assert past.verify().ok


def test_a_second_request_reads_no_log(grown: Path) -> None:
    """What a revision was read from is kept, and found again by the blobs, whatever the name."""
    read: list[str] = []
    with Store.open(grown / ".taskstore") as store:
        for name in ("HEAD~1", "main~1", run(grown, "rev-parse", "HEAD~1").decode().strip()):
            with store.as_of(name, on_progress=lambda *facts: read.append(facts[0])) as past:
                assert {"a"} == records_of(past).keys()
    assert ["plans"] == read


def test_only_lines_that_are_new_since_another_revision_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that begins with one that was read starts from its cache; a rewritten one does not."""
    monkeypatch.setattr(past_caches, "_LEAST", 0)
    first = "".join(line(f"r{n}", 1000 + n, n=n) for n in range(50))
    more = first + line("r1", 5000, deleted=True) + line("r2", 5001, n=-1)
    rewritten = more.replace('"n":7', '"n":8')
    build(tmp_path, [Change((), first), Change((0,), more), Change((1,), rewritten)])
    totals: list[int] = []
    with Store.open(tmp_path / ".taskstore") as store:
        opened = []
        for name, content in (("HEAD~2", first), ("HEAD~1", more), ("HEAD", rewritten)):
            totals.clear()
            past = store.as_of(name, on_progress=lambda _, done, total: totals.append(total))
            opened.append(past)
            assert read_plainly(content.encode()) == records_of(past)
            assert past.verify().ok
            new = len(more) - len(first) if name == "HEAD~1" else len(content)
            assert {new} == set(totals)
        for past in opened:
            past.close()


def test_a_store_of_the_past_cannot_be_written(grown: Path) -> None:
    """Every write raises, names the revision, and changes nothing."""
    with Store.open(grown / ".taskstore", types=[Plan]) as store, store.as_of("HEAD~1") as past:
        for write in (
            lambda: past.create(Plan("c")),
            lambda: past.delete(Plan, "a"),
            lambda: past.compact("plans"),
            lambda: past.transaction().__enter__(),
        ):
            with pytest.raises(StoreReadOnlyError, match="HEAD~1"):
                write()
        assert ["a"] == [plan.id for plan in past.list(Plan)]
    assert b"" == run(grown, "status", "--porcelain", "--untracked-files=no")


def test_typed_records_and_filters_work_in_the_past(grown: Path) -> None:
    """Record classes are taught at first use, and their indexed fields are indexed."""
    with Store.open(grown / ".taskstore") as store, store.as_of("main~1") as past:
        assert ["a"] == [plan.id for plan in past.list(Plan, where(Plan.status) == "open")]
        assert 0 == past.count(Plan, where(Plan.status) == "draft")


@pytest.mark.parametrize("when", [1500, datetime.fromtimestamp(1.5, UTC)])
def test_as_of_a_time_leaves_out_what_came_later(directory: Path, when: Any) -> None:
    """Later versions, records and deletions have not happened; without a repository, too."""
    directory.mkdir()
    (directory / "plans.jsonl").write_text(
        line("a", 1000, title="old") + line("a", 2000, title="new") + line("b", 1800)
        + line("c", 1500) + line("c", 1501, deleted=True) + "no record\n"
    )  # fmt: skip
    with Store.open(directory) as store, store.as_of(when) as past:
        assert {"a": "old", "c": None} == {
            id: row.get("title") for id, row in records_of(past).items()
        }


def test_as_of_a_time_sees_what_was_written_since(directory: Path) -> None:
    """The copy of a time belongs to the logs as they are: later lines with older times count."""
    with Store.open(directory) as store:
        store.create({"id": "a", "updated_at": 1000}, collection="plans")
        with store.as_of(5000) as past:
            assert {"a"} == records_of(past).keys()
        with (directory / "plans.jsonl").open("a") as log:
            log.write(line("b", 3000))
        with store.as_of(5000) as past:
            assert {"a", "b"} == records_of(past).keys()


def test_copies_that_an_archive_brings_are_not_believed(grown: Path, tmp_path: Path) -> None:
    """With a copied git directory come copies of logs, and a history, that may say anything."""
    with Store.open(grown / ".taskstore") as store:
        store.as_of("HEAD~1").close()
        with store.history_session() as session:
            assert 2 == len(session.scalars(select(RecordVersion)).all())
    brought = tmp_path.parent / f"{tmp_path.name}-brought"
    shutil.copytree(grown, brought)
    (log,) = (brought / ".git" / "taskstore").rglob("plans.jsonl")
    log.write_text(line("false", 1))
    (history,) = (brought / ".git" / "taskstore").rglob("history-*.db")
    with contextlib.closing(sqlite3.connect(history)) as database, database:
        database.execute("UPDATE record_versions SET commit_author = 'false'")
    with Store.open(brought / ".taskstore") as store:
        with store.as_of("HEAD~1") as past:
            assert {"a"} == records_of(past).keys()
        with store.history_session() as session:
            authors = session.scalars(select(RecordVersion.commit_author)).all()
            assert ["A", "A"] == authors
    assert not log.exists()
    assert not history.exists()


@pytest.mark.parametrize("name", ["nothing", "", "--all", "-n", "a\0b", "HEAD~7"])
def test_an_unknown_revision_is_refused(grown: Path, name: str) -> None:
    """What names no commit, and what would be an option, raises with the name."""
    with Store.open(grown / ".taskstore") as store:
        with pytest.raises(CommitNotFoundError) as caught:
            store.as_of(name)
        assert name == caught.value.revision


def test_a_shallow_clone_says_how_to_get_older_commits(grown: Path, tmp_path: Path) -> None:
    """A revision beyond the end of a shallow clone names `git fetch --unshallow`."""
    clone = tmp_path / "clone"
    run(grown, "clone", "-q", "--depth=1", f"file://{grown}", str(clone))
    with (
        Store.open(clone / ".taskstore") as store,
        pytest.raises(CommitNotFoundError, match="--unshallow"),
    ):
        store.as_of("HEAD~1")


def test_a_missing_log_of_a_partial_clone_is_reported(grown: Path, tmp_path: Path) -> None:
    """A blob that the clone does not have raises a typed error, and leaves no copy behind."""
    blob = run(grown, "rev-parse", f"HEAD~1:{LOG}").decode().strip()
    (grown / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with Store.open(grown / ".taskstore") as store:
        for _ in range(2):
            with pytest.raises(GitObjectMissingError, match="fetch") as caught:
                store.as_of("HEAD~1")
        assert (blob, LOG) == (caught.value.object, caught.value.name)
    assert [] == list((grown / ".git").rglob("*.tmp"))


def test_a_partial_clone_says_how_to_get_the_rest(grown: Path, tmp_path: Path) -> None:
    """All that reads the history names the missing object and the command, which then helps."""
    run(grown, "config", "uploadpack.allowFilter", "true")
    call = ("clone", "-q", "--filter=blob:none", f"file://{grown}", f"{tmp_path}/clone")
    run(tmp_path, *call)
    clone = tmp_path / "clone"
    blob = run(grown, "rev-parse", f"HEAD~1:{LOG}").decode().strip()
    with Store.open(clone / ".taskstore") as store:
        for look in (
            lambda: store.as_of("HEAD~1"),
            lambda: store.blame("plans", "a"),
            lambda: store.history_session("plans").__enter__(),
            lambda: store.revert("HEAD"),
        ):
            with pytest.raises(GitObjectMissingError, match="--refetch --no-filter") as caught:
                look()
            assert blob == caught.value.object
        run(clone, "fetch", "-q", "--refetch", "--no-filter")
        assert ["a"] == [row["id"] for row in store.as_of("HEAD~1").list("plans")]


def test_without_a_repository_a_revision_is_refused(directory: Path) -> None:
    """Outside of git, the error says to give a time."""
    with Store.open(directory) as store, pytest.raises(GitError, match="give a time"):
        store.as_of("HEAD")


def test_a_store_for_reading_leaves_nothing_behind(grown: Path) -> None:
    """The past of a read-only store is in a temporary directory, which is gone at the end."""
    before = sorted((grown / ".git").rglob("*"))
    with Store.open(grown / ".taskstore", read_only=True) as store:
        with store.as_of("HEAD~1") as past:
            place = past.path
            assert {"a"} == records_of(past).keys()
        assert not place.exists()
    assert before == sorted((grown / ".git").rglob("*"))


def test_copies_are_bounded_and_those_in_use_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound the copy that was not used for the longest time goes, unless it is open."""
    monkeypatch.setattr(snapshots, "KEPT", 1)
    text, changes = "", []
    for number in range(5):
        text += line("a", 1000 + number)
        changes.append(Change((number - 1,) if number else (), text))
    build(tmp_path, changes)
    with Store.open(tmp_path / ".taskstore") as store:
        with store.as_of("HEAD~4") as oldest:
            for number in (3, 2, 1):
                store.as_of(f"HEAD~{number}").close()
            assert 1000 == oldest.get_one("plans", "a")["updated_at"]
            kept = set(oldest.path.parent.iterdir())
            assert oldest.path in kept
            assert 3 == len(kept)
        shutil.rmtree(oldest.path)
        with store.as_of("HEAD~4") as oldest:
            assert 1000 == oldest.get_one("plans", "a")["updated_at"]


def test_older_lines_are_read_in_the_shape_of_today(grown: Path) -> None:
    """The evolutions of today apply to the lines of an old commit."""
    (grown / ".taskstore" / "evolutions.jsonl").write_text(
        '{"id":"plans@r1","collection":"plans","revision":"r1","parents":[],'
        '"steps":[{"rename":{"title":"name"}}],"updated_at":5000}\n'
    )
    with Store.open(grown / ".taskstore") as store:
        now = store.get_one("plans", "a")
        with store.as_of("HEAD~1") as past:
            then = past.get_one("plans", "a")
            assert now == then
            assert "A" == then["name"]


class Base(DeclarativeBase):
    """The application's models."""


@mirrored("projects")
class Project(Base):
    """A project."""

    __tablename__ = "projects"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    updated_at: Mapped[int] = mapped_column(default=0)
    tasks: Mapped[list[Task]] = relationship(back_populates="project")


@mirrored("tasks")
class Task(Base):
    """A task of a project."""

    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    updated_at: Mapped[int] = mapped_column(default=0)
    project: Mapped[Project] = relationship(back_populates="tasks")


def test_a_session_on_the_models_as_they_were(tmp_path: Path) -> None:
    """With counted keys and relations: rows, joins and objects of an old commit; no writes."""
    from sqlalchemy import create_engine

    run(tmp_path, "init", "-q", "-b", "main")
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    options: Any = {"engine": engine, "mirrors": [Project, Task], "migrate": True}
    with Store.open(tmp_path / ".taskstore", **options) as store:
        with store.transaction() as session:
            session.add(Project(name="one", tasks=[Task(title="first"), Task(title="second")]))
        run(tmp_path, "add", ".taskstore")
        run(tmp_path, "commit", "-q", "-m", "one")
        with store.transaction() as session:
            session.delete(session.scalars(select(Task).where(Task.title == "second")).one())
            session.scalars(select(Project)).one().name = "other"
        for _ in range(2):
            with store.as_of("HEAD", mirrors=[Project, Task]) as past:
                with past.session() as session:
                    project = session.scalars(select(Project)).one()
                    assert "one" == project.name
                    assert ["first", "second"] == sorted(task.title for task in project.tasks)
                    project.name = "changed"
                    with pytest.raises(StoreReadOnlyError):
                        session.flush()
                assert 2 == past.count(Task)
        with store.session() as session:
            assert "other" == session.scalars(select(Project)).one().name
    engine.dispose()


def test_the_past_of_an_asyncio_store(grown: Path) -> None:
    """`async with store.as_of(...)` gives an asyncio store on the past."""

    async def use() -> tuple[int, int]:
        async with (
            AsyncStore.open(grown / ".taskstore") as store,
            store.as_of("HEAD~1") as past,
        ):
            return await past.count("plans"), await store.count("plans")

    assert (1, 2) == asyncio.run(use())


def test_a_second_one_waits_for_the_tables_of_the_first(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may open the same past with models at once: one creates their tables."""

    class Base(DeclarativeBase):
        pass

    @mirrored("plans")
    class Row(Base):
        __tablename__ = "plan"
        id: Mapped[str] = mapped_column(primary_key=True)
        title: Mapped[str]
        updated_at: Mapped[int]

    is_waiting = threading.Event()
    found: list[int] = []

    class Watched(Gate):
        def run(self, timeout: float, call: Any) -> Any:
            if threading.current_thread() is second:
                is_waiting.set()
            return super().run(timeout, call)

    def read() -> None:
        with store.as_of("HEAD", mirrors=[Row]) as past, past.session() as session:
            found.append(len(session.scalars(select(Row)).all()))

    @event.listens_for(Row.__table__, "before_create")
    def begin_second(*_: Any, **__: Any) -> None:
        if not second.ident:
            second.start()
            assert is_waiting.wait(30)

    monkeypatch.setattr(time_calls, "Gate", Watched)
    with Store.open(grown / ".taskstore") as store:
        second = threading.Thread(target=read)
        read()
        second.join()
    assert [2, 2] == found
