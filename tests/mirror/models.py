"""An application's models: relations, every type of column, inheritance, composite keys."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    func,
)
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship

from taskstore import mirrored


class Base(DeclarativeBase):
    """The application's base."""


class Color(enum.Enum):
    """Stored by name."""

    RED = 1
    BLUE = 2


class Size(enum.Enum):
    """Stored by value."""

    SMALL = "s"
    LARGE = "l"


class Utc(TypeDecorator[datetime.datetime]):
    """Moments with a zone, stored without."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Take the zone off."""
        return None if value is None else value.astimezone(datetime.UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Put it on again."""
        return None if value is None else value.replace(tzinfo=datetime.UTC)


class Words(TypeDecorator[tuple[str, ...]]):
    """A tuple of words, stored as one string."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Join them."""
        return None if value is None else " ".join(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Split them."""
        return None if value is None else tuple(value.split())


task_tags = Table(
    "task_tags",
    Base.metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.name"), primary_key=True),
)


@mirrored("people")
class Person(Base):
    """Somebody, with a version in milliseconds."""

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    chief_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    chief: Mapped[Person | None] = relationship(remote_side=[id])
    favourite_id: Mapped[str | None] = mapped_column(
        ForeignKey("tasks.id", use_alter=True, name="fk_favourite")
    )
    favourite: Mapped[Task | None] = relationship(foreign_keys=[favourite_id], post_update=True)
    updated_at: Mapped[int]


@mirrored("tags", updated_at=None)
class Tag(Base):
    """A word, whose version is in the log alone."""

    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(primary_key=True)


@mirrored("tasks", exclude=["opened"], merge={"labels": "union"})
class Task(Base):
    """Something to do, with a version as a datetime."""

    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    labels: Mapped[list[str]] = mapped_column(JSON, default=list)
    state: Mapped[str] = mapped_column("status", server_default="new")
    opened: Mapped[int] = mapped_column(default=0, onupdate=77)
    length: Mapped[int] = mapped_column(Computed("length(title)"))
    owner_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    owner: Mapped[Person | None] = relationship(foreign_keys=[owner_id])
    tags: Mapped[list[Tag]] = relationship(secondary=task_tags)
    steps: Mapped[list[Step]] = relationship(
        back_populates="task", cascade="all, delete-orphan", passive_deletes=True
    )
    updated_at: Mapped[datetime.datetime]


Task.shout = column_property(func.upper(Task.title))


@mirrored("steps")
class Step(Base):
    """Part of a task: a composite key, and a child that goes with its parent in the database."""

    __tablename__ = "steps"
    task_id: Mapped[str] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")
    task: Mapped[Task] = relationship(back_populates="steps")
    revision: Mapped[int] = mapped_column()
    updated_at: Mapped[int]
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


@mirrored("hints")
class Hint(Base):
    """Refers to a step by both columns, and is set free when it goes."""

    __tablename__ = "hints"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    task_id: Mapped[str | None]
    number: Mapped[int | None]
    updated_at: Mapped[str]
    __table_args__ = (
        ForeignKeyConstraint(
            ["task_id", "number"], ["steps.task_id", "steps.number"], ondelete="SET NULL"
        ),
    )


@mirrored("shapes")
class Figure(Base):
    """The base of a hierarchy."""

    __tablename__ = "figures"
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    updated_at: Mapped[int]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "figure"}  # noqa: RUF012


class Circle(Figure):
    """In the table of its base."""

    radius: Mapped[float | None] = mapped_column(use_existing_column=True)
    __mapper_args__ = {"polymorphic_identity": "circle"}  # noqa: RUF012


class Square(Figure):
    """In a table of its own beside that of its base."""

    __tablename__ = "squares"
    id: Mapped[str] = mapped_column(ForeignKey("figures.id"), primary_key=True)
    side: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "square"}  # noqa: RUF012


@mirrored("things", key="uid")
class Thing(Base):
    """Every type of column, with a key that each clone counts for itself."""

    __tablename__ = "things"
    __table_args__ = (UniqueConstraint("uid"),)
    number: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    flag: Mapped[bool | None]
    count: Mapped[int | None]
    weight: Mapped[float | None]
    text: Mapped[str | None]
    price: Mapped[decimal.Decimal | None] = mapped_column(Numeric(12, 2))
    day: Mapped[datetime.date | None]
    time: Mapped[datetime.time | None]
    moment: Mapped[datetime.datetime | None]
    zoned: Mapped[datetime.datetime | None] = mapped_column(Utc)
    span: Mapped[datetime.timedelta | None] = mapped_column(Interval)
    other: Mapped[uuid.UUID | None]
    color: Mapped[Color | None]
    size: Mapped[Size | None] = mapped_column(
        SqlEnum(Size, values_callable=lambda kind: [e.value for e in kind])
    )
    data: Mapped[Any | None] = mapped_column(JSON)
    blob: Mapped[bytes | None] = mapped_column(LargeBinary)
    words: Mapped[tuple[str, ...] | None] = mapped_column(Words)
    updated_at: Mapped[int] = mapped_column(Integer)


class Note(Base):
    """Not mirrored; goes with its task in the database."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))


MIRRORS = [Person, Tag, Task, Step, Hint, Figure, Thing]
COLLECTIONS = ["hints", "people", "shapes", "steps", "tags", "task_tags", "tasks", "things"]
