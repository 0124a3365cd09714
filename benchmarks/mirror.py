"""The rows about an application's own models: its session with the hook, and without it."""

from __future__ import annotations

import datetime
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.data import FIRST_MS, decode_plan, plan, tail, winning_rows, write_log
from benchmarks.scene import STORE, Scene, settled
from taskstore import Store, mirrored

TASKS = "tasks.jsonl"
TAIL = 1000
INSERT_TASKS = (
    "INSERT INTO tasks (id, title, status, priority, body, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
)


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("tasks")
class Task(Base):
    """The application's model."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    status: Mapped[str]
    priority: Mapped[int]
    body: Mapped[str]
    updated_at: Mapped[datetime.datetime]


@contextmanager
def _session(scene: Scene, *, attached: bool) -> Iterator[Session]:
    """A session on the application's database, with or without a store attached to it."""
    engine = create_engine(f"sqlite:///{scene.place / 'application.db'}")
    Base.metadata.create_all(engine)
    if not attached:
        with Session(engine) as session:
            yield session
    else:
        path = scene.place / STORE
        with (
            Store.open(path, engine=engine, mirrors=[Task], migrate=True) as store,
            Session(engine) as session,
        ):
            store.attach(session)
            yield session
    engine.dispose()


def _tasks(scene: Scene) -> list[Task]:
    first = datetime.datetime.fromtimestamp(FIRST_MS / 1000, datetime.UTC).replace(tzinfo=None)
    return [
        Task(
            id=made.id,
            title=made.title,
            status=made.status,
            priority=made.priority,
            body=made.body,
            updated_at=first,
        )
        for made in map(plan, range(scene.tenth))
    ]


def _add(scene: Scene, *, attached: bool) -> None:
    tasks = _tasks(scene)
    with _session(scene, attached=attached) as session:
        settled(scene.place)
        with scene.timed():
            session.add_all(tasks)
            session.commit()
    scene.facts["each"] = len(tasks)


def _commit(scene: Scene, *, attached: bool) -> None:
    """Add rows, and commit each."""
    tasks = _tasks(scene)[:300]
    with _session(scene, attached=attached) as session:
        settled(scene.place)
        with scene.timed():
            for task in tasks:
                session.add(task)
                session.commit()
    scene.facts["each"] = len(tasks)


def _work(scene: Scene, work: Callable[[Session, Task], object], *, attached: bool) -> None:
    """Do something to each of the rows, which are there and loaded, and commit."""
    tasks = _tasks(scene)
    with _session(scene, attached=attached) as session:
        session.add_all(tasks)
        session.commit()
        found = session.scalars(select(Task)).all()
        settled(scene.place)
        with scene.timed():
            for task in found:
                work(session, task)
            session.commit()
    scene.facts["each"] = len(tasks)


def _change(session: Session, task: Task) -> None:
    task.status = "changed"


def add_attached(scene: Scene) -> None:
    """Add rows in an attached session."""
    _add(scene, attached=True)


def add_bare(scene: Scene) -> None:
    """Add them in a session of nobody's."""
    _add(scene, attached=False)


def change_attached(scene: Scene) -> None:
    """Change one column of loaded rows in an attached session."""
    _work(scene, _change, attached=True)


def change_bare(scene: Scene) -> None:
    """Change it in a session of nobody's."""
    _work(scene, _change, attached=False)


def delete_attached(scene: Scene) -> None:
    """Delete loaded rows in an attached session."""
    _work(scene, Session.delete, attached=True)


def delete_bare(scene: Scene) -> None:
    """Delete them in a session of nobody's."""
    _work(scene, Session.delete, attached=False)


def commit_attached(scene: Scene) -> None:
    """Commit rows one by one in an attached session."""
    _commit(scene, attached=True)


def commit_bare(scene: Scene) -> None:
    """Commit them in a session of nobody's."""
    _commit(scene, attached=False)


@contextmanager
def _mirroring(scene: Scene, *, ahead: bool) -> Iterator[Store]:
    """A store whose log has all lines, on a database with an empty table.

    Args:
        scene: The scene.
        ahead: Whether the time of the open, which syncs, is not counted.
    """
    directory = scene.place / STORE
    directory.mkdir()
    shutil.copyfile(scene.log, directory / TASKS)
    settled(directory)
    engine = create_engine(f"sqlite:///{scene.place / 'application.db'}")
    Base.metadata.create_all(engine)
    counted = Scene(scene.size, scene.templates, scene.place) if ahead else scene
    with counted.timed():
        store = Store.open(directory, engine=engine, mirrors=[Task], migrate=True)
    with store:
        yield store
    engine.dispose()


def sync_mirrored(scene: Scene) -> None:
    """Open a store that fills the empty table from the log."""
    with _mirroring(scene, ahead=False):
        pass


def sync_mirrored_tail(scene: Scene) -> None:
    """Sync after some lines were appended to the log of a full table."""
    with _mirroring(scene, ahead=True) as store:
        write_log(store.path / TASKS, tail(scene.size, min(TAIL, scene.size // 10)))
        settled(store.path)
        with scene.timed():
            report = store.sync()
    assert report.collections["tasks"].action == "tail"


def insert_tasks(scene: Scene) -> None:
    """Insert the prepared rows of the table in the order of the key."""
    rows = [_row(text) for _, _, text, _, _ in winning_rows(scene.log)]
    path = scene.place / "application.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    settled(scene.place)
    with scene.timed():
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT_TASKS, rows)
        connection.execute("COMMIT")


def _row(text: str) -> tuple[str, str, str, int, str, str]:
    made = decode_plan(text)
    at = datetime.datetime.fromtimestamp(made.updated_at / 1000, datetime.UTC)
    stamp = at.strftime("%Y-%m-%d %H:%M:%S.%f")
    return made.id, made.title, made.status, made.priority, made.body, stamp
