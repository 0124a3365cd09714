"""An application's models on PostgreSQL: references, inheritance, types of its own."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    LargeBinary,
    Numeric,
    String,
    Table,
    Text,
)
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.dialects.postgresql import INET, JSON, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from taskstore import mirrored


class Base(DeclarativeBase):
    """The application's base."""


class Color(enum.Enum):
    """Stored by name, as a type of PostgreSQL."""

    RED = 1
    BLUE = 2


@mirrored("projects")
class Project(Base):
    """Has tasks."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[int] = mapped_column(BigInteger, default=None, nullable=False)
    tasks: Mapped[list[Task]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


labelled = Table(
    "labelled",
    Base.metadata,
    Column(
        "task_id",
        ForeignKey("tasks.id", ondelete="CASCADE", onupdate="CASCADE"),
        primary_key=True,
    ),
    Column("label_id", ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True),
)


@mirrored("tasks", updated_at=None)
class Task(Base):
    """Belongs to a project, and has labels."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(Text, default="")
    rank: Mapped[int | None] = mapped_column(unique=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    labels: Mapped[list[Label]] = relationship(secondary=labelled, passive_deletes=True)


@mirrored("labels", updated_at=None)
class Label(Base):
    """A label."""

    __tablename__ = "labels"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(50))


@mirrored("things", exclude={"secret"})
class Thing(Base):
    """Has a column of every type."""

    __tablename__ = "things"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="thing")
    amount: Mapped[decimal.Decimal | None] = mapped_column(Numeric(12, 3))
    exact: Mapped[decimal.Decimal | None] = mapped_column(Numeric)
    ratio: Mapped[float | None] = mapped_column(Double)
    moment: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[datetime.datetime | None] = mapped_column(DateTime)
    day: Mapped[datetime.date | None]
    span: Mapped[datetime.timedelta | None]
    color: Mapped[Color | None] = mapped_column(SqlEnum(Color, name="color"))
    document: Mapped[Any] = mapped_column(JSONB, nullable=True)
    text: Mapped[Any] = mapped_column(JSON, nullable=True)
    numbers: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    grid: Mapped[list[list[str]] | None] = mapped_column(ARRAY(Text, dimensions=2))
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    address: Mapped[Any] = mapped_column(INET, nullable=True)
    flag: Mapped[bool | None]
    secret: Mapped[str | None]
    updated_at: Mapped[datetime.datetime] = mapped_column(
        DateTime(timezone=True), default=None, nullable=False
    )

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "thing"}  # noqa: RUF012


class Special(Thing):
    """In the same table, with a column more."""

    extra: Mapped[str | None]

    __mapper_args__ = {"polymorphic_identity": "special"}  # noqa: RUF012


MIRRORS = [Project, Task, Label, Thing]
