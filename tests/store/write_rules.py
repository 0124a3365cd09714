"""What the stateful test does through the store's own calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskstore import (
    ConditionFailedError,
    InvalidRecordError,
    RecordExistsError,
    RecordNotFoundError,
    StaleRecordError,
    where,
)
from tests.store.declared import (
    DEFAULTS,
    OPERATIONS,
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
    twinned,
)

names = st.sampled_from(["one", "one", "two"])
collections = st.sampled_from(["plans", "plans", "notes"])
# Most steps meet at few records: what is done to one twice is what goes wrong.
ids = st.sampled_from([IDS[0], IDS[0], IDS[0], IDS[1], *IDS])
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

    @initialize(data=st.data(), count=st.integers(0, 3))
    def start(self, data: st.DataObject, count: int) -> None:
        self.world = World()
        for _ in range(count):
            collection = data.draw(collections)
            with self.world.log(collection).open("ab") as file:
                file.write(data.draw(outside_lines(self.world.disk[collection])))
            self.world.disk = self.world.on_disk()
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
            fields = merged(key[0], before.fields, fields)
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
    def write(self, name: str, collection: str, id: str, data: st.DataObject, saving: bool) -> None:
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
                changed = merged("plans", entry.fields, fields)
                view[key] = Entry(changed, version * 1000, entry.born)
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
        if not probe.fits(field):
            return
        with self.world.writing(self.pick(name)) as (store, view):
            doomed = [
                key
                for key, entry in view.items()
                if key[0] == "plans"
                and entry.fields is not None
                and probe.holds(entry.fields.get(field, DEFAULTS["plans"][field]), field)
            ]
            assert len(doomed) == store.delete_where(Plan, probe.condition(field))
            for key in doomed:
                self.world.bury(view, key)

    @rule(ms=st.sampled_from([1, 1, 1000, -500]))
    def tick(self, ms: int) -> None:
        self.world.now += ms

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


def merged(collection: str, before: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """A line with a record's fields written over it: a default adds no key."""
    defaults = DEFAULTS[collection]
    added = {
        name: value
        for name, value in fields.items()
        if name in before or name not in defaults or value != defaults[name]
    }
    return {**before, **added}
