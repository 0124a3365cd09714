"""The tables of the tracker."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import JSON, Column, DateTime, ForeignKey, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def new_key() -> str:
    """A key that no other clone gives."""
    return uuid4().hex


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """What the models have in common."""


task_labels = Table(
    "task_labels",
    Base.metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("label_name", ForeignKey("labels.name"), primary_key=True),
)


class Person(Base):
    """Somebody who owns tasks."""

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_key)
    name: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(DateTime, default=now, onupdate=now)
    tasks: Mapped[list[Task]] = relationship(back_populates="owner")


class Task(Base):
    """Something to do."""

    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_key)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(default="open")
    watchers: Mapped[list[str]] = mapped_column(JSON, default=list)
    owner_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    updated_at: Mapped[datetime] = mapped_column(DateTime, default=now, onupdate=now)
    owner: Mapped[Person | None] = relationship(back_populates="tasks")
    labels: Mapped[list[Label]] = relationship(secondary=task_labels)
    comments: Mapped[list[Comment]] = relationship(cascade="all, delete-orphan")


class Label(Base):
    """A word for tasks."""

    __tablename__ = "labels"
    name: Mapped[str] = mapped_column(primary_key=True)
    color: Mapped[str] = mapped_column(default="grey")
    updated_at: Mapped[datetime] = mapped_column(DateTime, default=now, onupdate=now)


class Comment(Base):
    """What is said of a task, here alone."""

    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    text: Mapped[str]
