"""What an application's triggers do while a sync writes is undone, or logged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mirror.clones import Clone, cloned
from tests.mirror.test_statements import TRIGGERS, Badge, Member, Own, Team, logs, tables


@contextmanager
def pair(folder: Path, *triggers: str) -> Iterator[tuple[Clone, Clone]]:
    """Two clones with triggers, the first with a team and a member."""
    mirrors = [Team, Member, Badge]
    with (
        cloned(folder / "one", mirrors, Own) as one,
        cloned(folder / "two", mirrors, Own) as two,
    ):
        for clone in (one, two):
            with clone.engine.begin() as connection:
                for trigger in triggers:
                    connection.exec_driver_sql(trigger)
        with one.sessions.begin() as session:
            session.add(Team(id="a", code="x"))
            session.flush()
            session.add(Member(team="a", place=1, name="n"))
        yield one, two


def same(one: Clone, two: Clone) -> None:
    """Both have the same in logs and tables."""
    for clone in (one, two):
        clone.check()
        assert tables(clone) == logs(clone)
    assert logs(one) == logs(two)


def test_what_a_line_says_already_is_not_done_twice(tmp_path: Path) -> None:
    """A trigger that counts has counted where the row was written; nothing is appended."""
    with pair(tmp_path, *TRIGGERS) as (one, two):
        two.take(one)
        before = two.log("teams").read_bytes()
        assert [] == two.store.sync().problems
        assert 1 == two.told("teams")["a"]["seats"]
        assert before == two.log("teams").read_bytes()
        same(one, two)
        assert not two.store.is_stale()


def test_a_trigger_on_a_column_counts_where_it_was_written(tmp_path: Path) -> None:
    """A row that is written again does not name the columns that it has already."""
    trigger = """CREATE TRIGGER coded AFTER UPDATE OF code ON teams BEGIN
      UPDATE teams SET seats = seats + 1 WHERE id = NEW.id; END"""
    with pair(tmp_path, trigger) as (one, two):
        two.take(one)
        two.store.sync()
        with one.sessions.begin() as session:
            session.get_one(Team, "a").code = "y"
        assert 1 == one.told("teams")["a"]["seats"]
        two.take(one)
        before = two.log("teams").read_bytes()
        assert [] == two.store.sync().problems
        assert before == two.log("teams").read_bytes()
        same(one, two)


def test_a_row_that_only_a_trigger_makes_is_logged(tmp_path: Path) -> None:
    """The sync that fires it takes it along."""
    trigger = """CREATE TRIGGER badge AFTER INSERT ON members BEGIN
      INSERT INTO badges (id) VALUES (hex(randomblob(4))); END"""
    with pair(tmp_path, trigger) as (one, two):
        two.take(one)
        assert [] == two.store.sync().problems
        assert 2 == len(two.told("badges"))
        one.take(two)
        assert [] == one.store.sync().problems
        same(one, two)


def test_a_trigger_that_insists_is_logged(tmp_path: Path) -> None:
    """What it makes of a row each time is the newest version."""
    with pair(tmp_path) as (one, two):
        with two.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER fixed AFTER UPDATE ON teams WHEN NEW.code <> 'fixed' BEGIN "
                "UPDATE teams SET code = 'fixed' WHERE id = NEW.id; END"
            )
        two.take(one)
        two.store.sync()
        with one.sessions.begin() as session:
            session.get_one(Team, "a").code = "y"
        two.take(one)
        assert [] == two.store.sync().problems
        assert "fixed" == two.told("teams")["a"]["code"]
        one.take(two)
        one.store.sync()
        same(one, two)
