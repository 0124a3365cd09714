from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, MetaData, select
from sqlalchemy.orm import DeclarativeBase, Session

from taskstore._cache.engine.permission import permitted
from taskstore._records.declare import indexed, record
from taskstore.errors import InvalidNameError, InvalidRecordError
from taskstore.models import StoredRecord, build_models


@record("plans")
class Plan:
    id: str
    title: str = ""
    status: str = indexed(default="draft")
    updated_at: int = 0


@record("others")
class Other:
    id: str


def test_from_record() -> None:
    """A row made of a record has its line, its collection and the version that it carries."""
    row = StoredRecord.from_record(Plan("a", "x", updated_at=1234))
    assert ("plans", "a", 1234, 1_234_000) == (
        row.collection, row.id, row.updated_at, row.updated_at_us
    )  # fmt: skip
    assert {"id": "a", "title": "x", "status": "draft", "updated_at": 1234} == row.data
    assert Plan("a", "x", updated_at=1234) == row.as_record(Plan)
    assert StoredRecord.from_record(Plan("a")).updated_at is None


def test_assign_keeps_what_the_class_does_not_know() -> None:
    """A row takes over a record's fields; other keys, their order and bytes stay."""
    line = '{"title":"t","new":1.50,"id":"a","updated_at":5}'
    row = StoredRecord(collection="plans", data_json=line)
    row.assign(Plan("a", "t", updated_at=5))
    assert line == row.data_json
    row.assign(Plan("a", "u", status="active"))
    assert line.replace('"t"', '"u"')[:-1] + ',"status":"active"}' == row.data_json
    assert "a" == row.id


def test_assign_refuses_another_record() -> None:
    """A row cannot take over a record with another id or of another collection."""
    row = StoredRecord.from_record(Plan("a"))
    with pytest.raises(InvalidRecordError, match="'b'"):
        row.assign(Plan("b"))
    with pytest.raises(InvalidRecordError, match="Other"):
        row.assign(Other("a"))
    with pytest.raises(InvalidRecordError, match="Other"):
        row.as_record(Other)


def test_data_is_deeply_read_only() -> None:
    """No way of changing a list or dict in place changes a row's data; a copy can be changed."""
    row = StoredRecord(collection="plans", id="a", data={"id": "a", "l": [1, {"x": [2]}]})
    data: Any = row.data
    changes: list[Callable[[], Any]] = [
        lambda: data.update(a=1),
        lambda: data["l"].append(1),
        lambda: data["l"][1].pop("x"),
        data["l"][1]["x"].sort,
        lambda: data["l"].__iadd__([1]),
        lambda: data.__ior__({"a": 1}),
        lambda: data.__delitem__("id"),
    ]
    for change in changes:
        with pytest.raises(TypeError, match=r"row\.data ="):
            change()
    plain = copy.deepcopy(data)
    plain["l"][1]["x"].append(3)
    row.data = plain
    assert {"id": "a", "l": [1, {"x": [2, 3]}]} == row.data
    assert row.data == pickle.loads(pickle.dumps(row.data))
    assert {} == StoredRecord(collection="plans", id="a").data


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object(), 10**400])
def test_data_refuses_what_json_cannot_carry(value: object) -> None:
    """Data that no line can hold is refused when it is set, and the row stays as it was."""
    row = StoredRecord(collection="plans", id="a", data={"id": "a"})
    with pytest.raises(InvalidRecordError, match="plans/a"):
        row.data = {"id": "a", "x": value}
    assert {"id": "a"} == row.data


def test_unknown_keywords_are_refused() -> None:
    """A misspelt column is an error, as with any declarative class."""
    with pytest.raises(TypeError, match="titel"):
        StoredRecord(titel="x")


def test_value_is_an_expression(connection: Connection) -> None:
    """`value` reads a field in SQL, of the class and of its relatives with a prefix."""
    with (
        permitted(connection.connection.driver_connection, "records"),
        Session(connection) as session,
    ):
        row = StoredRecord.from_record(Plan("a", "x"))
        row.updated_at = row.updated_at_us = 0
        session.add(row)
        session.flush()
        found = session.scalars(select(StoredRecord.value("title"))).all()
    assert ["x"] == found
    assert "ts_records" in str(select(build_models(prefix="ts_").StoredRecord.value("title")))
    with pytest.raises(InvalidNameError):
        StoredRecord.value("no field")


def test_models_for_an_application() -> None:
    """Other models share a registry, not the MetaData, unless that is asked for."""

    class Base(DeclarativeBase):
        pass

    apart = build_models(mapper_registry=Base.registry, prefix="a_")
    assert [] == list(Base.metadata.tables)
    assert ["a_records"] == [n for n in apart.table_names if n.endswith("records")]
    metadata = MetaData()
    together = build_models(prefix="b_", metadata=metadata)
    assert set(together.table_names) == set(metadata.tables)
    assert "b_taskstore_version" == together.version_table


def test_mapping_is_no_attrs_matter() -> None:
    """A record class stays what it was after it was made into a row."""
    assert attrs.has(Plan)
    assert not hasattr(Plan, "__table__")
