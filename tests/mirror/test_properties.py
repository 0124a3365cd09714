"""Whatever is done, the log, the cache and the application's tables say the same."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy.exc import CircularDependencyError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from taskstore import MissingLogError
from tests.examples import share
from tests.mirror.clones import Clone, cloned
from tests.mirror.models import Circle, Figure, Hint, Person, Square, Step, Tag, Task, Thing
from tests.mirror.test_flush import EVERYTHING

NAMES = st.sampled_from("abcd")
CLONES = st.sampled_from(["one", "two"])
MODELS = [Hint, Step, Task, Person, Tag, Figure, Thing]


class Mirroring(RuleBasedStateMachine):
    """Two clones of an application, and what their users and git do."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clones: dict[str, Clone] = {}
        self.session: Session | None = None
        self.owner = "one"

    @initialize(enforced=st.booleans())
    def start(self, *, enforced: bool) -> None:
        """Open two clones."""
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("one", "two"):
            self.clones[name] = self.stack.enter_context(
                cloned(folder / name, foreign_keys=enforced)
            )

    def teardown(self) -> None:
        """Close them."""
        if self.session is not None:
            self.session.close()
        self.stack.close()

    # -- sessions

    @precondition(lambda self: self.session is None)
    @rule(name=CLONES)
    def begin(self, name: str) -> None:
        """Begin a session in a clone."""
        self.owner = name
        self.session = self.clones[name].sessions()

    @precondition(lambda self: self.session is not None)
    @rule(keep=st.booleans())
    def end(self, *, keep: bool) -> None:
        """Commit or roll back."""
        assert self.session is not None
        if keep:
            self._tried(lambda session: None)
            self.session.commit()
        else:
            self.session.rollback()
        self.session.close()
        self.session = None

    def _tried(self, work: Any) -> None:
        """Work in a savepoint, which is gone if the database or the ORM refuses it.

        The ORM refuses to delete a person who is their own chief.
        """
        assert self.session is not None
        try:
            with self.session.begin_nested():
                work(self.session)
        except (CircularDependencyError, IntegrityError, StaleDataError):
            pass

    @precondition(lambda self: self.session is not None)
    @rule(id=NAMES, name=NAMES, chief=st.none() | NAMES, drop=st.booleans())
    def write_person(self, id: str, name: str, chief: str | None, *, drop: bool) -> None:
        """Add, change or delete a person."""

        def work(session: Session) -> None:
            found = session.get(Person, id)
            if found is None:
                session.add(Person(id=id, name=name, chief_id=chief))
            elif drop:
                session.delete(found)
            else:
                found.name, found.chief_id = name, chief

        self._tried(work)

    @precondition(lambda self: self.session is not None)
    @rule(id=NAMES, owner=st.none() | NAMES, tags=st.sets(NAMES), how=st.integers(0, 3))
    def write_task(self, id: str, owner: str | None, tags: set[str], how: int) -> None:
        """Add, change, rename or delete a task with its tags."""

        def work(session: Session) -> None:
            found = session.get(Task, id)
            if found is None:
                found = Task(id=id, title=id)
                session.add(found)
            elif how == 0:
                session.delete(found)
                return
            elif how == 1:
                found.id = id + "x" if len(id) == 1 else id[:1]
            found.owner_id, found.opened, found.title = owner, how, f"{owner}{how}"
            found.tags = [session.get(Tag, tag) or Tag(name=tag) for tag in sorted(tags)]

        self._tried(work)

    @precondition(lambda self: self.session is not None)
    @rule(id=NAMES, number=st.integers(1, 2), how=st.integers(0, 3))
    def write_step(self, id: str, number: int, how: int) -> None:
        """Add, change or delete a step, or a hint at it."""

        def work(session: Session) -> None:
            found = session.get(Step, (id, number))
            if found is None:
                session.add(Step(task_id=id, number=number))
            elif how == 0:
                session.delete(found)
            elif how == 1:
                session.add(Hint(task_id=id, number=number))
            else:
                found.text = str(how)

        self._tried(work)

    @precondition(lambda self: self.session is not None)
    @rule(id=NAMES, how=st.integers(0, 4), blank=st.sets(st.sampled_from(sorted(EVERYTHING))))
    def write_figure(self, id: str, how: int, blank: set[str]) -> None:
        """Add, change or delete a figure and a thing."""

        def work(session: Session) -> None:
            found = session.get(Figure, id)
            if found is None:
                kinds = [Figure(id=id), Circle(id=id, radius=how / 3), Square(id=id, side=how)]
                session.add(kinds[how % 3])
            elif how == 0:
                session.delete(found)
            else:
                found.name = str(how)
            values = {name: None for name in blank if name != "uid"}
            thing = session.query(Thing).filter_by(uid=EVERYTHING["uid"]).one_or_none()
            if thing is None:
                session.add(Thing(**{**EVERYTHING, **values}))
            elif how == 4:
                session.delete(thing)
            else:
                for name, value in {**EVERYTHING, **values}.items():
                    setattr(thing, name, value)

        self._tried(work)

    # -- the world outside

    @precondition(lambda self: self.session is None)
    @rule(name=CLONES)
    def pull(self, name: str) -> None:
        """A clone gets the lines of the other, as by a union merge, and syncs."""
        clone = self.clones[name]
        other = self.clones["two" if name == "one" else "one"]
        for path in sorted(other.store.path.glob("*.jsonl")):
            mine = clone.log(path.stem)
            lines = mine.read_text(encoding="utf-8").splitlines() if mine.exists() else []
            theirs = path.read_text(encoding="utf-8").splitlines()
            lines += [line for line in theirs if line not in set(lines)]
            mine.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        clone.store.sync()

    @precondition(lambda self: self.session is None)
    @rule(name=CLONES, id=NAMES, value=st.sampled_from(["a", "b", None, 3]), old=st.booleans())
    def outside(self, name: str, id: str, value: Any, *, old: bool) -> None:
        """Another program appends lines, which may not fit."""
        clone = self.clones[name]
        stamp = 1 if old else 4_000_000_000_000
        clone.append("people", {"id": id, "name": value, "more": 1, "updated_at": stamp})
        clone.append("tasks", {"id": id, "title": id, "owner_id": value, "updated_at": stamp})
        clone.append("steps", {"id": json.dumps([id, value]), "revision": 1, "updated_at": stamp})
        clone.store.sync()

    @precondition(lambda self: self.session is None)
    @rule(name=CLONES, collection=st.sampled_from(["people", "tasks", "steps"]))
    def lose_log(self, name: str, collection: str) -> None:
        """A log is gone for a while: no row goes with it."""
        clone = self.clones[name]
        path = clone.log(collection)
        if not path.exists():
            return
        data, before = path.read_bytes(), clone.dump()
        path.unlink()
        try:
            clone.store.sync()
        except MissingLogError as error:
            assert collection == error.collection
        else:
            assert [] == [row for row in before[collection] if row]
        assert before == clone.dump()
        path.write_bytes(data)
        clone.store.sync()

    @precondition(lambda self: self.session is None)
    @rule(name=CLONES)
    def force(self, name: str) -> None:
        """A forced sync changes nothing."""
        clone = self.clones[name]
        before = clone.dump()
        clone.store.sync(force=True)
        assert before == clone.dump()

    @precondition(lambda self: self.session is None)
    @invariant()
    def all_say_the_same(self) -> None:
        """The log, the cache and the tables agree, but for what is reported as a problem."""
        for clone in self.clones.values():
            clone.check()
            refused = {(p.collection, p.id) for p in clone.store.verify().problems}
            for model, collection in ((Person, "people"), (Task, "tasks")):
                rows = {row.id for row in clone.rows(model)}
                told = set(clone.told(collection))
                assert {(collection, id) for id in rows ^ told} <= refused


Mirroring.TestCase.settings = share(
    0.2, stateful_step_count=20, suppress_health_check=list(HealthCheck)
)


TestMirroring = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")(Mirroring.TestCase)
