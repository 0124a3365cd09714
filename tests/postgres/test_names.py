"""Tables and columns with names that SQL or the driver could take for something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, BigInteger, ForeignKey, Text, create_engine, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from taskstore import mirrored
from tests.postgres.clones import Clone, cloned

SCHEMA = 'Odd %s ":Sch'


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("parents", updated_at="stamp")
class Parent(Base):
    """Has a counted key, a version and a subclass."""

    __tablename__ = "Pa\"re%nt:x'"
    __table_args__ = {"schema": SCHEMA}  # noqa: RUF012

    id: Mapped[int] = mapped_column("I\"d%s'", primary_key=True)
    name: Mapped[str] = mapped_column('Na"me %(x)s :y', Text)
    kind: Mapped[str] = mapped_column("Kind")
    stamp: Mapped[int] = mapped_column('St%amp"', BigInteger, default=None, nullable=False)

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "p"}  # noqa: RUF012


class Special(Parent):
    """In a table of its own, in another schema."""

    __tablename__ = "Sub\"%s:z'"

    id: Mapped[int] = mapped_column('I"d', ForeignKey(Parent.id), primary_key=True)
    extra: Mapped[str | None] = mapped_column('Ex%"tra:')

    __mapper_args__ = {"polymorphic_identity": "q"}  # noqa: RUF012


@mirrored("children", updated_at=None)
class Child(Base):
    """Refers to a parent."""

    __tablename__ = "Ch'il%d:"

    id: Mapped[str] = mapped_column("K'ey%:a", primary_key=True)
    parent: Mapped[int] = mapped_column('P%a"r:b', ForeignKey(Parent.id, ondelete="CASCADE"))
    title: Mapped[str] = mapped_column("order")


@pytest.fixture(params=["public", 'Our %s ":x'])
def one(
    new_database: Callable[[], URL], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Clone]:
    """A clone whose own tables, too, are in a schema with an odd name."""
    url = new_database()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for name in (SCHEMA, request.param):
            quoted = '"' + name.replace('"', '""').replace("%", "%%") + '"'
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    path = '"' + request.param.replace('"', '""').replace(" ", "\\ ") + '"'
    url = url.update_query_dict({"options": f"-csearch_path={path}"})
    with cloned(url, tmp_path / "one", [Parent, Child], Base) as clone:
        yield clone


def test_names_are_quoted_everywhere(one: Clone) -> None:
    """Writes, syncs, stamps, exports, deletions and records of the store work."""
    with one.sessions.begin() as session:
        first, second = Parent(name="50% \"x' \\ :y"), Special(name="q", extra="%s")
        session.add_all([first, second])
        session.flush()
        session.add_all(
            [
                Child(id="c%1", parent=first.id, title="'"),
                Child(id="c2", parent=second.id, title='"'),
            ]
        )
    with one.sessions.begin() as session:
        session.scalars(select(Special)).one().extra = "50%"
        session.scalars(select(Child).where(Child.id == "c2")).one().title = "%(x)s"
    assert {"50% \"x' \\ :y", "q"} == {line["name"] for line in one.told("parents").values()}
    one.check()
    for record in one.told("parents").values():
        new = {**record, "id": f"x{record['id']}", "name": "new", "_number": None}
        one.append("parents", new, {**record, "name": "later", "updated_at": 1999999999999})
    assert [] == one.store.sync().problems
    one.check()
    assert 0 == one.store.export()
    with one.sessions.begin() as session:
        assert ["later", "later", "new", "new"] == sorted(session.scalars(select(Parent.name)))
        session.execute(delete(Child))
    assert {} == one.told("children")
    one.store.create("notes", {"id": "a"})
    assert ["a"] == [line["id"] for line in one.lines("notes")]
    one.check()
