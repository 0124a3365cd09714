"""Migrations that take the log along, on PostgreSQL."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alembic.command
import pytest
from click.testing import CliRunner
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ProgrammingError

from taskstore import Store
from taskstore._postgres.drain import Drain
from taskstore._postgres.work import Work
from taskstore.cli import main
from taskstore.errors import InvalidDeclarationError, OutboxOwnerError, UnsupportedError
from tests.postgres.migrating import Side, clone_of, new_scripts, new_side
from tests.postgres.repositories import soon

NewSide = Callable[[str], Side]

OLD = {
    "title": "Ship",
    "prio": "2",
    "state": "open",
    "note": "n",
    "author": "Grace Hopper",
    "street": "Main Street",
    "town": "York",
}
NEW = {
    "name": "Ship",
    "prio": 2,
    "state": "todo",
    "owner": "me",
    "given": "Grace",
    "family": "Hopper",
    "address": "Main Street, York",
}


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def one(tmp_path: Path, new_database: Callable[[], URL], request: pytest.FixtureRequest) -> Side:
    """A clone with one task, committed."""
    scripts = new_scripts(tmp_path / "scripts")
    side = new_side(tmp_path / "one", new_database(), scripts, versioned=request.param)
    side.put("a", **OLD)
    side.commit()
    return side


def test_an_upgrade_takes_the_log_along(one: Side) -> None:
    """After it, lines and rows have the new shape, and old lines stay as they are."""
    before = (one.clone.directory / "tasks.jsonl").read_bytes()
    one.migrate("a2")
    assert {"a": NEW} == one.rows()
    assert (one.clone.directory / "tasks.jsonl").read_bytes().startswith(before)
    assert '"a2"' in (one.clone.directory / "evolutions.jsonl").read_text()
    one.put("a", prio=7)
    assert {"a": {**NEW, "prio": 7}} == one.rows()
    # Nothing of the old shape is left, as what a program does not know is kept.
    assert lines(one)[-1].keys().isdisjoint(OLD.keys() - NEW.keys())


def waiting(id: str, **values: str) -> str:
    """A statement that puts a task of the first shape into the table while no scribe runs."""
    row = {"id": id, **OLD, **values}
    shown = ", ".join(f"'{value}'" for value in row.values())
    return f"INSERT INTO tasks ({', '.join(row)}, updated_at) VALUES ({shown}, 0)"


def test_rows_that_wait_are_logged_in_the_new_shape(one: Side) -> None:
    """What was written before the upgrade, and is in no log yet, is not lost."""
    one.sql(waiting("b", title="Sail", prio="5"), "UPDATE tasks SET prio = '9' WHERE id = 'a'")
    one.sql(waiting("c"))
    one.sql("DELETE FROM tasks WHERE id = 'c'")
    one.migrate("a2")
    expected = {"a": {**NEW, "prio": 9}, "b": {**NEW, "name": "Sail", "prio": 5}}
    assert expected == one.rows()
    one.sql("UPDATE tasks SET prio = 11 WHERE id = 'b'")
    one.migrate("a3")
    swapped = {
        id: {**row, "name": row["owner"], "owner": row["name"]} for id, row in expected.items()
    }
    swapped["b"]["prio"] = 11
    assert swapped == one.rows()
    # Not even for a moment did they change places in the log.
    [last] = [line for line in lines(one) if line.get("$revision") == "a3"]
    assert ("b", "me", "Sail", 11) == tuple(last[key] for key in ("id", "name", "owner", "prio"))


def test_both_upgrades_at_once(one: Side) -> None:
    """Several revisions in one upgrade are several evolutions."""
    one.sql(waiting("b"))
    one.migrate("a3")
    row = {**NEW, "name": "me", "owner": "Ship"}
    assert {"a": row, "b": row} == one.rows()


def test_a_downgrade_reads_newer_lines_in_the_old_shape(one: Side) -> None:
    """Reversible steps are reversed; other fields keep the value of the table."""
    one.sql("UPDATE tasks SET prio = '4' WHERE id = 'a'")
    one.migrate("a2")
    one.put("b", name="Sail", prio=6)
    one.sql("UPDATE tasks SET prio = 5 WHERE id = 'a'")
    one.migrate("a1")
    assert {"a", "b"} == one.rows().keys()
    assert {**OLD, "prio": "5", "note": None} == one.rows()["a"]
    one.put("a", note="again")
    one.migrate("a2")
    assert {**NEW, "prio": 5} == one.rows()["a"]


def test_a_clone_that_is_behind_keeps_newer_lines(
    one: Side, tmp_path: Path, new_database: Callable[[], URL]
) -> None:
    """Its rows stay as they are, until it is upgraded."""
    two = clone_of(one, tmp_path / "two", new_database())
    one.migrate("a2")
    one.put("a", name="Shipped")
    one.put("b", name="Sail")
    one.commit()
    two.pull(one)
    assert {"a": OLD} == two.rows(problems=2)
    two.migrate("a2")
    assert one.rows() == two.rows()
    assert {"a", "b"} == two.rows().keys()


def test_edits_before_the_upgrade_are_merged_with_newer_lines(
    one: Side, tmp_path: Path, new_database: Callable[[], URL]
) -> None:
    """A clone that is behind edits rows of which it has newer lines, as if git merged the two."""
    two = clone_of(one, tmp_path / "two", new_database())
    one.put("b", **OLD)
    one.commit()
    two.pull(one)
    one.migrate("a2")
    one.put("a", name="Shipped", owner="you")
    one.put("b", name="Sail")
    one.commit()
    two.pull(one)
    two.put("a", prio="8")
    two.put("a", author="Grace B. Hopper")
    two.sql("DELETE FROM tasks WHERE id = 'b'")
    assert "8" == two.rows(problems=2)["a"]["prio"]
    two.commit()
    one.pull(two)
    # Of an edit and a deletion, the later one counts.
    row = {**NEW, "name": "Shipped", "owner": "you", "prio": 8, "family": "B. Hopper"}
    expected = {"a": row}
    assert expected == one.rows()
    two.migrate("a2")
    assert expected == two.rows()


def test_values_that_only_ddl_has_set_are_logged(one: Side) -> None:
    """Where the table has something else than the evolution says, other clones get that."""
    one.migrate("a2")
    with one.store():
        pass
    # As a revision does that computes what it does not state.
    one.sql(
        "DELETE FROM log_evolutions WHERE revision = 'r'",
        "ALTER TABLE tasks ALTER prio TYPE integer USING prio * 100",
        f"INSERT INTO log_evolutions VALUES ('tasks', 'r', '{STATED}', true)",
    )
    assert {"a": {**NEW, "prio": 200}} == one.rows()
    assert 200 == lines(one)[-1]["prio"]
    # It is as old as can be: what others have edited is newer.
    before, after = (line["updated_at"] for line in lines(one)[-2:])
    assert before + 1 == after


STATED = json.dumps(
    {"id": "tasks@r", "collection": "tasks", "revision": "r", "parents": ["a2"], "steps": []}
)


def lines(side: Side) -> list[dict[str, Any]]:
    """The lines of the log of tasks."""
    log = side.clone.directory / "tasks.jsonl"
    return list(map(json.loads, log.read_text().splitlines()))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_crash_after_the_upgrade_loses_nothing(
    one: Side, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Lines are in the log, and the database does not know: they are not written twice."""
    one.sql(waiting("b"), "UPDATE tasks SET prio = '9' WHERE id = 'a'")
    one.migrate("a2")
    append, done = Drain._append, []

    def killed(self: Drain, batch: Any) -> int:
        found = append(self, batch)
        done.append(found)
        if len(done) == times:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Drain, "_append", killed)
        try:
            with one.store():
                pass
        except KeyboardInterrupt:
            pass
    assert {"a": {**NEW, "prio": 9}, "b": NEW} == one.rows()
    found = (one.clone.directory / "tasks.jsonl").read_text().splitlines()
    assert len(set(found)) == len(found) == 3
    assert 1 == len((one.clone.directory / "evolutions.jsonl").read_text().splitlines())


def test_a_program_of_before_stops_when_the_database_is_upgraded(one: Side) -> None:
    """It has models of the old shape. What waits is for the next program."""

    def refused() -> Any:
        return pytest.raises(InvalidDeclarationError, match="start the program again")

    with refused(), one.store() as (store, _, _):
        one.migrate("a2")
        one.sql("UPDATE tasks SET prio = 9 WHERE id = 'a'")
        with refused():
            store.sync()
    assert {"a": {**NEW, "prio": 9}} == one.rows()


def test_a_script_takes_the_log_along(one: Side) -> None:
    """The statements of `--sql` do the same."""
    one.sql("UPDATE tasks SET prio = '9' WHERE id = 'a'")
    config = one.config("a2", one.engine())
    config.output_buffer = io.StringIO()
    alembic.command.upgrade(config, "a1:a2", sql=True)
    engine = one.engine()
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute(config.output_buffer.getvalue())
        driver.commit()
    engine.dispose()
    one.at = "a2"
    assert {"a": {**NEW, "prio": 9}} == one.rows()


def test_stated_evolutions_come_back(one: Side) -> None:
    """Whoever deletes evolutions.jsonl gets it back, and each line is read as before."""
    one.migrate("a2")
    assert {"a": NEW} == one.rows()
    (one.clone.directory / "evolutions.jsonl").unlink()
    with one.store() as (store, _, _):
        store.sync(force=True)
    assert {"a": NEW} == one.rows()
    assert (one.clone.directory / "evolutions.jsonl").exists()


def test_another_clone_takes_an_upgraded_database_over(one: Side, tmp_path: Path) -> None:
    """It has no logs of the upgrade, and gets all that the database has."""
    two = Side(one.clone.clone(tmp_path / "two"), one.url, one.scripts, one.versioned, one.at)
    one.put("a", prio="5")
    one.sql("UPDATE tasks SET prio = '6' WHERE id = 'a'")
    one.migrate("a2")
    two.at = "a2"
    with pytest.raises(OutboxOwnerError), two.store():
        pass
    with two.store(refresh=False) as (store, _, _):
        work: Work = getattr(store, "_work")  # noqa: B009 - of the calls on PostgreSQL
        assert {"tasks": 1} == work.take_over()
    assert {"a": {**NEW, "prio": 6}} == two.rows()


def test_a_table_that_no_revision_has_made_has_the_newest_shape(
    one: Side, tmp_path: Path, new_database: Callable[[], URL]
) -> None:
    """What a store finds when it is first opened is reached, then and later."""
    one.migrate("a2")
    one.commit()
    two = Side(one.clone.clone(tmp_path / "two"), new_database(), one.scripts, one.versioned)
    engine = two.engine()
    two.model("a2").metadata.create_all(engine)
    engine.dispose()
    two.at = "a2"
    with two.store(migrate=True):
        pass
    assert {"a": NEW} == two.rows()
    evolutions = two.clone.directory / "evolutions.jsonl"
    later = STATED.replace('"steps": []', '"steps": [{"rename": {"name": "label"}}]')
    evolutions.write_text(f"{evolutions.read_text()}{later}\n")
    with two.store() as (store, _, _):
        store.sync(force=True)
    assert {"a": NEW} == two.rows()


def test_records_of_the_store_are_read_in_the_newest_shape(one: Side) -> None:
    """Their lines may have evolved on SQLite."""
    folder = one.clone.directory
    (folder / "notes.jsonl").write_text('{"id": "n", "title": "A", "updated_at": 1}\n')
    stated = STATED.replace("tasks", "notes").replace('["a2"]', "[]")
    stated = stated.replace('"steps": []', '"steps": [{"rename": {"title": "name"}}]')
    with one.store() as (opened, _, _):
        store: Any = opened
        assert "A" == store.get("notes", "n")["title"]
        store.create({"id": "m", "title": "B"}, collection="notes")
        (folder / "evolutions.jsonl").write_text(f"{stated}\n")
        store.sync()
        found = {row["id"]: row["name"] for row in store.list("notes")}
        assert {"n": "A", "m": "B"} == found
        store.create({"id": "o", "name": "C"}, collection="notes")
        store.save({**store.get("notes", "n"), "name": "D"}, collection="notes")
        assert store.verify().ok
    last = [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]
    assert [None, None, "r", "r"] == [line.get("$revision") for line in last]
    assert ["title", "title", "name", "name"] == [list(line)[1] for line in last]
    with Store.open(folder) as store:
        assert {"n": "D", "m": "B", "o": "C"} == {
            row["id"]: row["name"] for row in store.list("notes")
        }
        store.sync()


def test_edits_wait_for_the_evolutions(
    one: Side, tmp_path: Path, new_database: Callable[[], URL]
) -> None:
    """A row that cannot be merged with a newer line waits until evolutions.jsonl arrives."""
    two = clone_of(one, tmp_path / "two", new_database())
    one.migrate("a2")
    one.put("a", name="Shipped")
    one.commit()
    two.pull(one)
    stated = two.clone.directory / "evolutions.jsonl"
    content = stated.read_bytes()
    stated.unlink()
    two.sql("UPDATE tasks SET prio = '8' WHERE id = 'a'")
    with two.store() as (store, _, _):
        assert {"a"} == {one.id for one in store.sync().problems}
        assert any("pull evolutions.jsonl" in one.reason for one in store.verify().problems)
    assert "8" != lines(two)[-1]["prio"]
    stated.write_bytes(content)
    with two.store() as (store, _, _):
        store.sync()
    two.migrate("a2")
    assert {"a": {**NEW, "name": "Shipped", "prio": 8}} == two.rows()


def test_a_renamed_collection_of_records_is_refused(one: Side) -> None:
    """Its name is not that of its log, and calls would write another log."""
    stated = STATED.replace("tasks", "notes").replace('["a2"]', "[]")
    stated = stated.replace('"steps": []', '"steps": [{"collection": ["notes", "memos"]}]')
    (one.clone.directory / "evolutions.jsonl").write_text(f"{stated}\n")
    with pytest.raises(UnsupportedError, match=r"notes\.jsonl"), one.store():
        pass


def scribe(side: Side) -> None:
    """Let the scribe of a clone do what there is to do, exchange commits, and end."""
    call = ["scribe", f"tests.postgres.migrating:{side.at.upper()}", "--once", "--push"]
    call += ["--url", side.url.render_as_string(), "--store", str(side.clone.directory)]
    done = CliRunner().invoke(main, call, prog_name="taskstore")
    assert 0 == done.exit_code, (done.output, done.exception)


def test_scribes_and_a_clone_on_sqlite_end_equal(
    tmp_path: Path, new_database: Callable[[], URL]
) -> None:
    """One clone is upgraded while the others still write rows of the old shape."""
    one = new_side(tmp_path / "one", new_database(), new_scripts(tmp_path / "scripts"))
    one.put("a", **OLD)
    one.commit()
    one.clone.git("clone", "-q", "--bare", ".", str(tmp_path / "remote"))
    url = make_url(f"sqlite:///{tmp_path / 'three' / 'app.db'}")
    two = clone_of(one, tmp_path / "two", new_database())
    three = clone_of(one, tmp_path / "three", url)
    for side in (one, two, three):
        side.clone.git("remote", "remove", "origin") if side is not one else None
        side.clone.git("remote", "add", "origin", str(tmp_path / "remote"))
        side.clone.git("fetch", "-q")
        side.clone.git("branch", "-q", "--set-upstream-to=origin/main")
        for name, told in (("user.name", "A"), ("user.email", "a@example.org")):
            side.clone.git("config", name, told)
    one.sql("UPDATE tasks SET title = 'Shipped' WHERE id = 'a'")
    one.migrate("a2")
    one.sql("UPDATE tasks SET owner = 'you' WHERE id = 'a'")
    scribe(one)
    # Nothing of it is known here yet.
    two.sql("UPDATE tasks SET prio = '8' WHERE id = 'a'", waiting("b", title="Sail"))
    three.put("a", author="Alan Turing")
    three.put("c", **OLD)
    scribe(two)
    # Now it is, and the table is of before.
    two.sql("UPDATE tasks SET street = 'Side Street' WHERE id = 'a'")
    scribe(two)
    three.commit()
    three.clone.git("pull", "-q", "--no-rebase", "--no-edit")
    three.clone.git("push", "-q")
    for side in (two, one):
        scribe(side)
    two.migrate("a2")
    three.migrate("a2")
    scribe(two)
    three.clone.git("pull", "-q", "--no-rebase", "--no-edit")
    row = {**NEW, "name": "Shipped", "owner": "you", "prio": 8, "given": "Alan"}
    row |= {"family": "Turing", "address": "Side Street, York"}
    expected = {"a": row, "b": {**NEW, "name": "Sail"}, "c": NEW}
    assert [expected] * 3 == [side.rows() for side in (one, two, three)]


def test_what_is_written_during_the_upgrade_is_not_lost(one: Side) -> None:
    """Programs write, and a scribe of before runs, until the migration stops them."""
    written: list[str] = []
    stopped = threading.Event()

    def write() -> None:
        engine, statement = one.engine(), waiting("{}")
        while not stopped.is_set():
            id = f"n{len(written)}"
            try:
                with engine.begin() as connection:
                    connection.execute(text(statement.format(id)))
            except ProgrammingError:
                columns = "id, name, prio, state, given, family, address, updated_at"
                statement = "'Ship', 2, 'todo', 'Grace', 'Hopper', 'Main Street, York', 0"
                statement = f"INSERT INTO tasks ({columns}) VALUES ('{{}}', {statement})"
            else:
                written.append(id)
        engine.dispose()

    writer = threading.Thread(target=write)
    with pytest.raises(InvalidDeclarationError, match="start the program again"), one.store():
        writer.start()
        soon(lambda: len(written) > 20)
        one.migrate("a2")
        before = len(written)
        soon(lambda: len(written) > before + 20)
        stopped.set()
        writer.join()
    assert dict.fromkeys(("a", *written), NEW) == one.rows()
