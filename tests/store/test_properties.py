"""Whatever is done to a store and to its directory, the cache equals the replay of the logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from taskstore import InvalidFilterError, Store
from taskstore.models import StoredRecord
from tests.examples import share
from tests.store.declared import (
    DEFAULTS,
    TWINS,
    TYPES,
    Plan,
    Probe,
    fits,
)
from tests.store.outside import (
    outside_lines,
    rewrite,
)
from tests.store.session_rules import Sessions
from tests.store.write_rules import collections, names, probes


class Outside(Sessions):
    """What other programs do, and what a store does without writing."""

    def disturb(self) -> None:
        self.world.disturbed = True
        self.world.disk = self.world.on_disk()

    @rule(collection=collections, data=st.data(), mark=st.booleans())
    def append(self, collection: str, data: st.DataObject, mark: bool) -> None:
        path = self.world.log(collection)
        old = self.world.disk[collection]
        with path.open("ab") as file:
            if mark and not old:
                file.write(b"\xef\xbb\xbf")
            file.write(data.draw(outside_lines(old)))
        self.disturb()

    @precondition(lambda self: any(self.world.disk.values()))
    @rule(collection=collections, data=st.data())
    def rewrite(self, collection: str, data: st.DataObject) -> None:
        path = self.world.log(collection)
        old = self.world.disk[collection]
        if not old:
            return
        how = data.draw(st.sampled_from(["shuffle", "swap", "drop", "cut", "same", "empty"]))
        lines = old.split(b"\n")
        new = {
            "shuffle": lambda: b"\n".join(data.draw(st.permutations(lines))),
            "swap": lambda: old.replace(b"draft", b"swift").replace(b"true", b"null"),
            "drop": lambda: b"\n".join(lines[1:]),
            "cut": lambda: old[: data.draw(st.integers(0, len(old)))],
            "same": lambda: old,
            "empty": lambda: b"",
        }[how]()
        mtimes = [None, path.stat().st_mtime_ns, 1_000_000_000_000_000_000]
        rewrite(
            path,
            new,
            in_place=data.draw(st.booleans()),
            mtime_ns=data.draw(st.sampled_from(mtimes)),
        )
        self.disturb()

    @rule(collection=collections)
    def remove(self, collection: str) -> None:
        self.world.log(collection).unlink(missing_ok=True)
        self.disturb()

    @rule(collection=collections)
    def touch(self, collection: str) -> None:
        if self.world.log(collection).exists():
            self.world.log(collection).touch()
        self.world.disturbed = True

    @precondition(lambda self: not self.world.frames)
    @rule(suffixes=st.sampled_from([[""], ["", "-wal", "-shm"], ["", "-wal"], ["-wal"]]))
    def remove_cache(self, suffixes: list[str]) -> None:
        if suffixes == ["-wal"]:
            return
        for suffix in suffixes:
            (self.world.path / f"taskstore.db{suffix}").unlink(missing_ok=True)

    @precondition(lambda self: not self.world.frames)
    @rule(name=names, force=st.booleans())
    def sync(self, name: str, force: bool) -> None:
        store = self.world.stores[self.pick(name)]
        store.sync(force=force)
        assert not store.is_stale()
        again = {found.action for found in store.sync().collections.values()}
        assert again <= {"fresh", "noted"}

    @rule(name=names, collection=collections)
    def rebuild_indexes(self, name: str, collection: str) -> None:
        world = self.world
        with world.writing(self.pick(name)) as (store, view):
            live = [entry for key, entry in view.items() if key[0] == collection]
            fitting = [entry for entry in live if entry.fields is not None]
            good = sum(fits(collection, entry.fields or {}) for entry in fitting)
            if good == len(fitting):
                assert good == store.rebuild_indexes(TYPES[collection])
            else:
                with pytest.warns(UserWarning, match="skipped"):
                    assert good == store.rebuild_indexes(TYPES[collection])

    @precondition(lambda self: not self.world.frames)
    @rule(name=st.sampled_from(["one", "two"]), typed=st.booleans(), refresh=st.booleans())
    def reopen(self, name: str, typed: bool, refresh: bool) -> None:
        self.world.open(name, typed=typed, refresh=refresh)
        self.name = name

    @precondition(lambda self: not self.world.frames)
    @rule(garbage=st.sampled_from([b"", b"no database", b"\x00" * 8192]))
    def garble_cache(self, garbage: bytes) -> None:
        for name in list(self.world.stores):
            self.world.stores.pop(name).close()
        (self.world.path / "taskstore.db").write_bytes(garbage)
        self.world.open("one", typed=True, refresh=True)
        self.name = "one"

    @precondition(lambda self: not self.world.frames)
    @rule(typed=st.booleans())
    def look_read_only(self, typed: bool) -> None:
        world = self.world
        with Store.open(world.path, read_only=True, types=TYPES.values() if typed else ()) as store:
            for collection in TYPES:
                found = {record["id"] for record in store.list(collection)}
                assert {key[1] for key in world.alive(collection)} == found
        assert world.disk == world.on_disk()

    @precondition(lambda self: self.world.frames and not self.world.disturbed)
    @rule()
    def look_from_beside(self) -> None:
        world = self.world
        name = "two" if world.holder == "one" else "one"
        if name in world.stores and world.refresh[name]:
            committed = world.replayed()
            for collection in TYPES:
                found = {record["id"] for record in world.stores[name].list(collection)}
                live = {
                    key[1]
                    for key, entry in committed.items()
                    if entry.fields is not None and key[0] == collection
                }
                assert live == found

    @rule(name=names, probe=probes, field=st.sampled_from(["status", "priority"]))
    def filter(self, name: str, probe: Probe, field: str) -> None:
        world = self.world
        store = world.stores[self.pick(name)]
        if not world.frames and not world.refresh[self.name]:
            store.sync()
        default = DEFAULTS["plans"][field]
        full, bare = set(), set()
        for (collection, id), entry in world.view.items():
            if collection == "plans" and entry.fields is not None:
                full |= {id} if probe.holds(entry.fields.get(field, default), field) else set()
                bare |= {id} if probe.holds(entry.fields.get(field), field) else set()
        for name_ in (field, TWINS[field]):
            condition = probe.condition(name_)
            assert bare == {row["id"] for row in store.list("plans", condition)}, name_
            if not probe.fits(name_):
                with pytest.raises(InvalidFilterError):
                    store.count(Plan, condition)
                continue
            assert len(full) == store.count(Plan, condition), name_
            assert bool(full) == store.exists(Plan, condition), name_
            if not world.frames:
                statement = store.select(Plan, condition)
                with store.session(read_only=True) as session:
                    assert full == {row.id for row in session.scalars(statement)}, name_


TestTransactionsAreAllOrNothing = Sessions.TestCase
TestTransactionsAreAllOrNothing.settings = share(0.7, stateful_step_count=50)
TestCacheEqualsReplay = Outside.TestCase
TestCacheEqualsReplay.settings = share(0.4, stateful_step_count=50)


def test_a_row_forgets_what_the_store_wrote_in_a_savepoint_that_is_rolled_back(
    directory: Path,
) -> None:
    """A row that was read again inside of a savepoint says after its rollback what is stored."""
    with Store.open(directory, types=[Plan]) as store:
        store.create_many([Plan("a", title="old"), Plan("b", title="old")])
        with store.transaction() as session:
            rows = [session.get_one(StoredRecord, ("plans", id)) for id in "ab"]
            with session.begin_nested() as nested:
                store.patch(Plan, "a", title="inner")
                store.delete(Plan, "b")
                store.create_many([Plan("b", title="inner"), Plan("c")])
                born = session.get_one(StoredRecord, ("plans", "c"))
                assert ["inner", "inner"] == [row.data["title"] for row in rows]
                nested.rollback()
            assert ["old", "old"] == [row.data["title"] for row in rows]
            assert session.get(StoredRecord, ("plans", "c")) is None
            assert born not in session
            session.add(StoredRecord.from_record(Plan("c", title="new")))
        assert "new" == store.get_one(Plan, "c").title
        assert 3 == (directory / "plans.jsonl").read_text().count("\n")


def test_a_row_whose_deletion_is_rolled_back_says_what_is_stored(directory: Path) -> None:
    """Also where the store had written it inside of the savepoint, before it was deleted."""
    with Store.open(directory, types=[Plan]) as store:
        store.create(Plan("a", title="old"))
        with store.transaction() as session:
            row = session.get_one(StoredRecord, ("plans", "a"))
            with session.begin_nested() as nested:
                store.patch(Plan, "a", title="inner")
                assert "inner" == row.data["title"]
                session.delete(row)
                session.flush()
                nested.rollback()
            assert "old" == row.data["title"]
            row.id = "b"
        assert "old" == store.get_one(Plan, "b").title
