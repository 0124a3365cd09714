"""The store's own tables beside those of an application that has the same names."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from taskstore import Store, mirrored
from taskstore.models import build_models
from tests.store.plans import Plan


class Base(DeclarativeBase):
    """The application's base."""


@mirrored("songs")
class Record(Base):
    """A record that one can listen to, in a table of that name."""

    __tablename__ = "records"
    id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[int]


def test_tables_with_a_prefix(tmp_path: Path) -> None:
    """With models that have a prefix, both tables of a name are there, and each is tracked."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Base.metadata.create_all(engine)
    models = build_models(prefix="ts_")
    with Store.open(
        tmp_path / ".taskstore",
        types=[Plan],
        engine=engine,
        mirrors=[Record],
        models=models,
        migrate=True,
    ) as store:
        sessions = sessionmaker(engine)
        store.attach(sessions)
        with sessions.begin() as session:
            session.add(Record(id="blue"))
            session.add(models.StoredRecord.from_record(Plan("a", "one")))
        store.create(Plan("b", "two"))
        assert ["a", "b"] == sorted(plan.id for plan in store.list(Plan))
        assert ["blue"] == [row["id"] for row in store.list("songs")]
        assert store.verify().ok
    names = set(inspect(engine).get_table_names())
    assert {"records", "ts_records", "ts_mirror_problems", "ts_taskstore_version"} <= names
    assert "tombstones" not in names
    engine.dispose()
