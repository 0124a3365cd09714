"""Whatever is done to a store and to its directory, the cache equals the replay of the logs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskstore import (
    ConditionFailedError,
    InvalidRecordError,
    RecordExistsError,
    RecordNotFoundError,
    StaleRecordError,
    Store,
    where,
)
from taskstore.models import StoredRecord
from tests.store.declared import (
    DEFAULTS,
    OPERATIONS,
    TWINS,
    TYPES,
    Plan,
    Probe,
    fits,
    instant,
    meant,
)
from tests.store.machine import Entry, Key, World
from tests.store.outside import (
    FIELDS,
    IDS,
    NUMBERS,
    STATUSES,
    outside_lines,
    rewrite,
    twinned,
)

names = st.sampled_from(["one", "one", "two"])
collections = st.sampled_from(["plans", "plans", "notes"])
ids = st.sampled_from(IDS)
probes = st.builds(
    Probe,
    st.sampled_from(OPERATIONS),
    st.sampled_from([*STATUSES, *NUMBERS[:-1], 1.5, True]),
    st.booleans(),
)


def typed(collection: str, id: str, fields: dict[str, Any]) -> Any:
    """A record of the collection's class."""
    values = {name: value for name, value in fields.items() if name in DEFAULTS[collection]}
    if "due" in values:
        values["due"] = instant(values["due"])
    return TYPES[collection](id=id, **values)


class Writes(RuleBasedStateMachine):
    """The store's own calls."""

    world: World

    @initialize()
    def start(self) -> None:
        self.world = World()
        self.name = "one"

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    def pick(self, name: str) -> str:
        """The store to use: the one that is in a transaction, or any that is open."""
        world = self.world
        if world.frames:
            name = world.holder
        self.name = name if name in world.stores else "one"
        return self.name

    def record(self, data: st.DataObject, collection: str, id: str) -> tuple[Any, dict[str, Any]]:
        """A record, as an object or a dict, and what JSON it has."""
        fields = twinned(data.draw(FIELDS[collection]))
        if data.draw(st.booleans(), "as a dict"):
            return {"id": id, **fields}, {"id": id, **fields}
        return typed(collection, id, fields), {**DEFAULTS[collection], **fields}

    def note_stamp(self, record: Any, before: Any) -> None:
        if self.world.frames:
            self.world.frames[-1].stamps.append((record, before))

    def expect_write(
        self, view: dict[Key, Entry], key: Key, record: Any, fields: dict[str, Any]
    ) -> None:
        """Expect what a write of a record leaves: nothing new, if it changes nothing."""
        before = view.get(key)
        if before is None or before.fields is None:
            self.world.put(view, key, fields)
            return
        if isinstance(record, dict):
            unchanged = without(before.fields) == without(fields)
        else:
            fields = {**before.fields, **fields}
            unchanged = meant(key[0], before.fields) == meant(key[0], fields)
        if not unchanged:
            self.world.put(view, key, fields)

    @rule(name=names, collection=collections, id=ids, data=st.data())
    def create(self, name: str, collection: str, id: str, data: st.DataObject) -> None:
        record, fields = self.record(data, collection, id)
        version = version_of(record)
        with self.world.writing(self.pick(name)) as (store, view):
            named = collection if isinstance(record, dict) else None
            if is_live(view, (collection, id)):
                with pytest.raises(RecordExistsError):
                    store.create(record, collection=named)
                return
            store.create(record, collection=named)
            self.world.put(view, (collection, id), fields)
        self.note_stamp(record, version)

    @rule(
        name=names,
        collection=collections,
        some=st.lists(ids, min_size=2, unique=True),
        data=st.data(),
        saving=st.booleans(),
    )
    def many(
        self, name: str, collection: str, some: list[str], data: st.DataObject, saving: bool
    ) -> None:
        drawn = [(id, twinned(data.draw(FIELDS[collection]))) for id in some]
        records = [typed(collection, id, fields) for id, fields in drawn]
        versions = [version_of(record) for record in records]
        with self.world.writing(self.pick(name)) as (store, view):
            if saving:
                store.save_many(records)
            elif any(is_live(view, (collection, id)) for id in some):
                with pytest.raises(RecordExistsError):
                    store.create_many(records)
                return
            else:
                store.create_many(records)
            for record, (id, fields) in zip(records, drawn, strict=True):
                full = {**DEFAULTS[collection], **fields}
                self.expect_write(view, (collection, id), record, full)
        for record, version in zip(records, versions, strict=True):
            self.note_stamp(record, version)

    @rule(name=names, collection=collections, id=ids, data=st.data(), saving=st.booleans())
    def write(
        self, name: str, collection: str, id: str, data: st.DataObject, saving: bool
    ) -> None:
        record, fields = self.record(data, collection, id)
        version = version_of(record)
        with self.world.writing(self.pick(name)) as (store, view):
            call = store.save if saving else store.update
            named = collection if isinstance(record, dict) else None
            if not saving and not is_live(view, (collection, id)):
                with pytest.raises(RecordNotFoundError):
                    call(record, collection=named)
                return
            call(record, collection=named)
            self.expect_write(view, (collection, id), record, fields)
        self.note_stamp(record, version)

    @precondition(lambda self: self.world.alive())
    @rule(name=names, data=st.data(), as_dict=st.booleans(), change=st.booleans())
    def read_and_write_back(
        self, name: str, data: st.DataObject, as_dict: bool, change: bool
    ) -> None:
        collection, id = key = data.draw(st.sampled_from(self.world.alive()))
        field = {"plans": "title", "notes": "text"}[collection]
        with self.world.writing(self.pick(name)) as (store, view):
            fields = view[key].fields
            assert fields is not None
            if not as_dict and not fits(collection, fields):
                with pytest.raises(InvalidRecordError):
                    store.get(TYPES[collection], id)
                return
            record: Any = store.get(collection if as_dict else TYPES[collection], id)
            assert record is not None
            version = version_of(record)
            if change:
                new = data.draw(st.sampled_from(STATUSES))
                fields = {**fields, field: new}
                if as_dict:
                    record[field] = new
                else:
                    setattr(record, field, new)
            store.update(record, collection=collection if as_dict else None)
            self.expect_write(view, key, record, fields)
        self.note_stamp(record, version)

    @precondition(lambda self: self.world.alive("plans"))
    @rule(name=names, data=st.data(), step=st.integers(-2, 2))
    def write_with_version(self, name: str, data: st.DataObject, step: int) -> None:
        key = data.draw(st.sampled_from(self.world.alive("plans")))
        fields = {**DEFAULTS["plans"], **twinned(data.draw(FIELDS["plans"]))}
        with self.world.writing(self.pick(name)) as (store, view):
            entry = view[key]
            if entry.order_us is None or entry.order_us // 1000 + step <= 0:
                return
            record = typed("plans", key[1], fields)
            record.updated_at = version = entry.order_us // 1000 + step
            if step < 0:
                with pytest.raises(StaleRecordError):
                    store.update(record)
                return
            store.update(record)
            if step == 0:
                self.expect_write(view, key, record, fields)
            else:
                assert entry.fields is not None
                view[key] = Entry({**entry.fields, **fields}, version * 1000, entry.born)
        self.note_stamp(record, version)

    @rule(name=names, id=ids, data=st.data(), as_dict=st.booleans())
    def patch(self, name: str, id: str, data: st.DataObject, as_dict: bool) -> None:
        key = ("plans", id)
        changes = twinned(data.draw(FIELDS["plans"]))
        wanted = data.draw(st.sampled_from([None, None, "draft", "active"]))
        conditions = [] if wanted is None else [where("mood") == wanted]
        given = dict(changes)
        if not as_dict and "due" in given:
            given["due"] = instant(given["due"])
        with self.world.writing(self.pick(name)) as (store, view):
            entry = view.get(key)
            kind: Any = "plans" if as_dict else Plan
            error: type[Exception] | None = None
            if entry is None or entry.fields is None:
                error = RecordNotFoundError
            elif wanted is not None and wanted != entry.fields.get(
                "mood", None if as_dict else "draft"
            ):
                error = ConditionFailedError
            elif not as_dict and not fits("plans", entry.fields):
                error = InvalidRecordError
            if error is not None:
                with pytest.raises(error):
                    store.patch(kind, id, *conditions, **given)
                return
            assert entry is not None
            assert entry.fields is not None
            record = store.patch(kind, id, *conditions, **given)
            self.expect_write(view, key, record, {**entry.fields, **changes})

    @rule(name=names, collection=collections, id=ids, typed=st.booleans())
    def delete(self, name: str, collection: str, id: str, typed: bool) -> None:
        with self.world.writing(self.pick(name)) as (store, view):
            live = is_live(view, (collection, id))
            assert live == store.delete(TYPES[collection] if typed else collection, id)
            if live:
                self.world.bury(view, (collection, id))

    @rule(name=names, probe=probes, field=st.sampled_from(["status", "mood", "priority", "rank"]))
    def delete_where(self, name: str, probe: Probe, field: str) -> None:
        with self.world.writing(self.pick(name)) as (store, view):
            doomed = [
                key
                for key, entry in view.items()
                if key[0] == "plans"
                and entry.fields is not None
                and probe.holds(entry.fields.get(field, DEFAULTS["plans"][field]))
            ]
            assert len(doomed) == store.delete_where(Plan, probe.condition(field))
            for key in doomed:
                self.world.bury(view, key)


class Sessions(Writes):
    """ORM rows, transactions and savepoints."""

    def row(self, session: Any, key: Key) -> Any:
        session.flush()
        return session.get_one(StoredRecord, key)

    def settle(
        self, session: Any, view: dict[Key, Entry], keys: list[Key], data: st.DataObject
    ) -> None:
        """Flush; or do not, and then versions are for the flush to decide."""
        if data.draw(st.booleans(), "flush"):
            session.flush()
            return
        for key in keys:
            if key in view:
                view[key] = Entry(view[key].fields, None, view[key].born)

    @rule(name=names, collection=collections, id=ids, data=st.data(), whole=st.booleans())
    def orm_add(
        self, name: str, collection: str, id: str, data: st.DataObject, whole: bool
    ) -> None:
        key = (collection, id)
        record, fields = self.record(data, collection, id)
        with self.world.session(self.pick(name)) as (session, view):
            if is_live(view, key):
                return
            if not isinstance(record, dict):
                session.add(StoredRecord.from_record(record))
            elif whole:
                session.add(StoredRecord(collection=collection, data=record))
            else:
                session.add(StoredRecord(collection=collection, id=id, data=without(record)))
            self.world.put(view, key, fields)
            self.settle(session, view, [key], data)

    @precondition(lambda self: self.world.alive())
    @rule(name=names, data=st.data())
    def orm_change(self, name: str, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.world.alive()))
        record, fields = self.record(data, *key)
        with self.world.session(self.pick(name)) as (session, view):
            row = self.row(session, key)
            if isinstance(record, dict):
                row.data = record
            else:
                row.assign(record)
            self.expect_write(view, key, record, fields)
            self.settle(session, view, [key], data)

    @precondition(lambda self: self.world.alive())
    @rule(name=names, data=st.data())
    def orm_delete(self, name: str, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.world.alive()))
        with self.world.session(self.pick(name)) as (session, view):
            session.delete(self.row(session, key))
            self.world.bury(view, key)
            self.settle(session, view, [key], data)

    @precondition(lambda self: self.world.alive())
    @rule(name=names, new=ids, data=st.data(), by_data=st.booleans())
    def orm_move(self, name: str, new: str, data: st.DataObject, by_data: bool) -> None:
        key = data.draw(st.sampled_from(self.world.alive()))
        goal = (key[0], new)
        with self.world.session(self.pick(name)) as (session, view):
            if is_live(view, goal):
                return
            row = self.row(session, key)
            if by_data:
                row.data = {**row.data, "id": new}
            else:
                row.id = new
            fields = view[key].fields
            assert fields is not None
            self.world.put(view, goal, {**fields, "id": new})
            self.world.bury(view, key)
            self.settle(session, view, [key, goal], data)

    @precondition(lambda self: not self.world.frames)
    @rule(name=names, kind=st.sampled_from(["transaction", "session"]))
    def begin(self, name: str, kind: str) -> None:
        self.world.begin(self.pick(name), kind)

    @precondition(lambda self: 0 < len(self.world.frames) < 4)
    @rule(kind=st.sampled_from(["transaction", "session", "savepoint"]))
    def nest(self, kind: str) -> None:
        self.world.nest(kind)

    @precondition(lambda self: self.world.frames)
    @rule()
    def keep(self) -> None:
        self.world.keep()

    @precondition(lambda self: self.world.frames)
    @rule(way=st.integers(0, 2))
    def drop(self, way: int) -> None:
        self.world.drop(way)

    @precondition(lambda self: self.world.frames and self.world.alive())
    @rule(way=st.integers(0, 2), data=st.data())
    def conflict(self, way: int, data: st.DataObject) -> None:
        collection, id = data.draw(st.sampled_from(self.world.alive()))
        session = self.world.frames[-1].session
        session.flush()
        session.expunge_all()
        session.add(StoredRecord(collection=collection, id=id, data={}))
        with pytest.raises(RecordExistsError):
            session.flush()
        self.world.drop(way)


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
        report = store.sync(force=force)
        assert not store.is_stale()
        assert force or {"fresh"} >= {
            found.action for found in store.sync().collections.values()
        }, report

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
        with Store.open(
            world.path, read_only=True, types=TYPES.values() if typed else ()
        ) as store:
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
                live = {key[1] for key, entry in committed.items() if entry.fields is not None
                        and key[0] == collection}
                assert live == found

    @rule(ms=st.sampled_from([1, 1, 1000, -500]))
    def tick(self, ms: int) -> None:
        self.world.now += ms

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
                full |= {id} if probe.holds(entry.fields.get(field, default)) else set()
                bare |= {id} if probe.holds(entry.fields.get(field)) else set()
        for name_ in (field, TWINS[field]):
            condition = probe.condition(name_)
            assert len(full) == store.count(Plan, condition), name_
            assert bool(full) == store.exists(Plan, condition), name_
            assert bare == {row["id"] for row in store.list("plans", condition)}, name_
            if not world.frames:
                statement = store.select(Plan, condition)
                with store.session(read_only=True) as session:
                    assert full == {row.id for row in session.scalars(statement)}, name_

    @rule(name=names)
    def look(self, name: str) -> None:
        world = self.world
        store = world.stores[self.pick(name)]
        if not world.frames and not world.refresh[self.name]:
            store.sync()
        view = world.view
        for collection in TYPES:
            found = {row["id"]: without(row) for row in store.list(collection)}
            assert sorted(key[1] for key in world.alive(collection)) == sorted(found)
            for id, fields in found.items():
                expected = view[collection, id].fields
                assert expected is not None
                assert meant(collection, expected) == meant(collection, fields)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "world"):
            return
        if self.world.frames:
            assert self.world.disk == self.world.on_disk(), "written before the commit"
            return
        self.world.verify_logs()
        self.world.verify_cache(self.pick(self.name))


def without(fields: Any) -> dict[str, Any]:
    """Fields without those that every record has."""
    return {name: value for name, value in fields.items() if name not in ("id", "updated_at")}


def is_live(view: dict[Key, Entry], key: Key) -> bool:
    """Whether a record is expected to be alive."""
    return key in view and view[key].fields is not None


def version_of(record: Any) -> Any:
    """The version that a record carries."""
    return record.get("updated_at") if isinstance(record, dict) else record.updated_at


TestCacheEqualsReplay = Outside.TestCase
TestCacheEqualsReplay.settings = settings(
    max_examples=max(10, settings.default.max_examples * 6 // 10),
    stateful_step_count=30,
    deadline=None,
)
