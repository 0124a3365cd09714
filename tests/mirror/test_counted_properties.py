"""Whatever clones of a classic application do, they agree with their logs and each other."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import delete, text, update
from sqlalchemy.exc import CircularDependencyError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from taskstore._merge.three_way import merge_logs
from tests.examples import share
from tests.mirror.adoption import forget
from tests.mirror.clones import Clone, cloned
from tests.mirror.graphs import MIRRORS, Atlas, Book, Cover, Graph, Loan, Person, Tag, graph

NAMES = st.sampled_from("abcd")
LOGS = ("persons", "books", "tags", "loans", "covers", "book_tags")
CLONES = st.sampled_from(["one", "two", "three"])


class Counting(RuleBasedStateMachine):
    """Three clones that count their rows, and what their users and git do."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clones: dict[str, Clone] = {}
        self.opened: dict[str, ExitStack] = {}
        self.bases: dict[tuple[str, str], bytes] = {}

    @initialize(enforced=st.booleans())
    def start(self, *, enforced: bool) -> None:
        """Open them, on databases that enforce foreign keys or do not."""
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.enforced = enforced
        for name in ("one", "two", "three"):
            self._open(name)

    def _open(self, name: str) -> None:
        self.opened[name] = ExitStack()
        self.clones[name] = self.opened[name].enter_context(
            cloned(self.folder / name, MIRRORS, Graph, foreign_keys=self.enforced)
        )

    def _close(self, name: str) -> None:
        self.opened[name].close()

    def teardown(self) -> None:
        """Close them."""
        for name in self.clones:
            self._close(name)
        self.stack.close()

    def _tried(self, name: str, work: Any) -> None:
        """Work in a transaction, which is gone if the database or the ORM refuses it."""
        try:
            with self.clones[name].sessions.begin() as session:
                work(session)
        except (CircularDependencyError, IntegrityError, StaleDataError):
            pass

    @rule(clone=CLONES, name=NAMES, chief=st.none() | NAMES, how=st.integers(0, 3))
    def write_person(self, clone: str, name: str, chief: str | None, how: int) -> None:
        """Add, change or delete somebody, whose name is the clone's own."""

        def work(session: Session) -> None:
            found = session.query(Person).filter_by(name=clone + name).first()
            if found is None:
                session.add(found := Person(name=clone + name))
            elif how == 0:
                session.delete(found)
                return
            above = session.query(Person).filter(Person.name.endswith(chief or "-")).first()
            found.chief = above if above is not found else None
            found.favourite = session.query(Book).first() if how == 1 else None

        self._tried(clone, work)

    @rule(clone=CLONES, name=NAMES, number=st.integers(1, 9))
    def move_person(self, clone: str, name: str, number: int) -> None:
        """Give somebody another number."""
        statement = update(Person).where(Person.name.endswith(name)).values(id=number)
        self._tried(clone, lambda session: session.execute(statement))

    @rule(clone=CLONES, title=NAMES, tags=st.sets(NAMES), how=st.integers(0, 4))
    def write_book(self, clone: str, title: str, tags: set[str], how: int) -> None:
        """Add, change or delete a book of a kind, with its tags and loans."""

        def work(session: Session) -> None:
            found = session.query(Book).filter_by(title=title).first()
            if how == 0 and found is not None:
                session.delete(found)
                return
            if found is None:
                found = (Atlas if how % 2 else Book)(title=title)
                session.add(found)
            found.owner = session.query(Person).order_by(-Person.id).first()
            found.tags = [
                session.query(Tag).filter_by(word=tag).first() or Tag(word=tag) for tag in tags
            ]
            if how == 3 and found.owner is not None:
                found.loans = [Loan(person=found.owner, times=how)]
            session.flush()
            if session.get(Cover, found.id) is None:
                atlas = session.query(Atlas).first()
                cover = Cover(book_id=found.id, color=title, atlas_id=atlas and atlas.id)
                session.add(cover)

        self._tried(clone, work)

    @rule(clone=CLONES, word=NAMES, again=st.booleans())
    def replace_tag(self, clone: str, word: str, *, again: bool) -> None:
        """Delete tags by a statement, and add one that may get their number."""

        def work(session: Session) -> None:
            session.execute(delete(Tag).where(Tag.word == word))
            if again:
                session.execute(text("INSERT INTO tags (word) VALUES (:word)"), {"word": word})

        self._tried(clone, work)

    @rule(clone=CLONES, other=CLONES)
    def pull(self, clone: str, other: str) -> None:
        """A clone gets the lines of another, as by a union merge, and syncs."""
        self._pull(self.clones[clone], self.clones[other])

    def _pull(self, clone: Clone, other: Clone) -> None:
        for path in sorted(other.store.path.glob("*.jsonl")):
            mine = clone.log(path.stem)
            lines = mine.read_text(encoding="utf-8").splitlines() if mine.exists() else []
            lines += sorted({*path.read_text(encoding="utf-8").splitlines()} - {*lines})
            # In the same order in all clones: of two lines of one time the later counts.
            mine.write_text("".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")
        clone.store.sync()

    @rule(clone=CLONES, other=CLONES)
    def merge(self, clone: str, other: str) -> None:
        """Two clones merge as git does, with what they had in common, and both have the outcome."""
        if clone == other:
            return
        one, two = sorted([clone, other])
        for collection in LOGS:
            sides = [self.clones[name].log(collection) for name in (one, two)]
            ours, theirs = (path.read_bytes() if path.exists() else b"" for path in sides)
            base = self.bases.get((f"{one} {two}", collection), b"")
            merged = merge_logs(base, ours, theirs)
            self.bases[f"{one} {two}", collection] = merged.data
            for path in sides:
                if merged.data:
                    path.write_bytes(merged.data)
        for name in (one, two):
            self.clones[name].store.sync()

    @rule(clone=CLONES)
    def back_up(self, clone: str) -> None:
        """The database of a clone is copied."""
        self._close(clone)
        shutil.copy(self.folder / clone / "app.db", self.folder / f"{clone}.db")
        self._open(clone)

    @rule(clone=CLONES)
    def restore(self, clone: str) -> None:
        """A clone gets an older copy of its database, if there is one."""
        if not (self.folder / f"{clone}.db").exists():
            return
        self._close(clone)
        for path in (self.folder / clone).glob("app.db*"):
            path.unlink()
        shutil.copy(self.folder / f"{clone}.db", self.folder / clone / "app.db")
        self._open(clone)
        self.clones[clone].store.sync()

    @rule(clone=CLONES)
    def lose_our_tables(self, clone: str) -> None:
        """A clone loses what the store keeps in its database: nothing changes in the others."""
        if self.clones[clone].store.sync().problems:
            return
        before = graph(self.clones[clone])
        self.clones[clone].store.close()
        forget(self.clones[clone].engine)
        self._close(clone)
        self._open(clone)
        self.clones[clone].store.sync()
        assert before == graph(self.clones[clone])

    @rule(clone=CLONES)
    def force(self, clone: str) -> None:
        """A forced sync changes nothing."""
        before = graph(self.clones[clone])
        self.clones[clone].store.sync(force=True)
        assert before == graph(self.clones[clone])

    @rule()
    def exchange(self) -> None:
        """When all have the lines of all, and no problem, they hold the same objects."""
        clones = list(self.clones.values())
        for _ in range(2):
            for clone in clones:
                for other in clones:
                    self._pull(clone, other)
        if not any(clone.store.sync().problems for clone in clones):
            first, *others = map(graph, clones)
            assert [first, first] == others

    @invariant()
    def all_say_the_same(self) -> None:
        """The log, the cache and the tables agree, but for what is reported as a problem."""
        for clone in self.clones.values():
            clone.check()


Counting.TestCase.settings = share(
    0.12, stateful_step_count=15, suppress_health_check=list(HealthCheck)
)


TestCounting = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")(Counting.TestCase)
