"""What the stateful test does through sessions, transactions and savepoints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from taskstore import (
    RecordExistsError,
)
from taskstore.models import StoredRecord
from tests.store.machine import Entry, Key
from tests.store.write_rules import Writes, collections, ids, is_live, names, without


class Sessions(Writes):
    """ORM rows, transactions and savepoints."""

    def row(self, session: Any, key: Key) -> Any:
        session.flush()
        row = session.get_one(StoredRecord, key)
        # A session forgets a row that nobody holds, and would read it anew.
        self.world.held.append(row)
        return row

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
            # The ORM itself cannot add a row in place of one whose new key is not flushed yet.
            session.flush()
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
    @rule(name=names)
    def begin_transaction(self, name: str) -> None:
        self.world.begin(self.pick(name), "transaction")

    @precondition(lambda self: not self.world.frames)
    @rule(name=names)
    def begin_session(self, name: str) -> None:
        self.world.begin(self.pick(name), "session")

    @precondition(lambda self: 0 < len(self.world.frames) < 4)
    @rule()
    def nest_transaction(self) -> None:
        self.world.nest("transaction")

    @precondition(lambda self: 0 < len(self.world.frames) < 4)
    @rule()
    def nest_session(self) -> None:
        self.world.nest("session")

    @precondition(lambda self: 0 < len(self.world.frames) < 4)
    @rule()
    def savepoint(self) -> None:
        self.world.nest("savepoint")

    @precondition(lambda self: self.world.frames)
    @rule()
    def keep(self) -> None:
        self.world.keep()

    @precondition(lambda self: self.world.frames)
    @rule(way=st.integers(0, 2))
    def drop(self, way: int) -> None:
        self.world.drop(way)

    @precondition(lambda self: len(self.world.frames) > 1 and self.world.alive())
    @rule(way=st.integers(0, 2), data=st.data())
    def conflict(self, way: int, data: st.DataObject) -> None:
        collection, id = data.draw(st.sampled_from(self.world.alive()))
        session = self.world.frames[-1].session
        session.flush()
        session.add(StoredRecord(collection=collection, id=id, data={}))
        with pytest.raises(RecordExistsError):
            session.flush()
        self.world.drop(way)
