"""The endpoints of the tracker."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import Session, sessionmaker

from tracker.models import Comment, Label, Person, Task


class PersonIn(BaseModel):
    """A person to add."""

    name: str


class TaskIn(BaseModel):
    """A task to add."""

    title: str
    owner_id: str | None = None


class TaskChange(BaseModel):
    """What is to change of a task."""

    title: str | None = None
    status: str | None = None
    owner_id: str | None = None


class Text(BaseModel):
    """A comment to add."""

    text: str


def shown(task: Task) -> dict[str, Any]:
    """A task with what belongs to it."""
    return {
        "id": task.id,
        "title": task.title,
        "status": task.status,
        "owner": task.owner.name if task.owner is not None else None,
        "labels": sorted(label.name for label in task.labels),
        "comments": [comment.text for comment in task.comments],
    }


def found(session: Session, id: str) -> Task:
    """A task that is there."""
    task = session.get(Task, id)
    if task is None:
        raise HTTPException(404, f"there is no task {id}")
    return task


def begun(request: Request) -> Iterator[Session]:
    """A session for a request, in the application's database."""
    yield from request.app.state.begin()


# Committed before the answer is sent, which tells that it is.
Begun = Annotated[Session, Depends(begun, scope="function")]


def create_app(root: str | Path = ".") -> FastAPI:
    """The application, with its database in a folder that Alembic has been at."""
    db = create_engine(f"sqlite:///{Path(root) / 'tracker.db'}")

    @event.listens_for(db, "connect")
    def connect(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    sessions = sessionmaker(db)

    def begin() -> Iterator[Session]:
        with sessions.begin() as session:
            yield session

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        db.dispose()

    app = FastAPI(title="Tracker", lifespan=lifespan)
    app.state.begin = begin
    add_routes(app)
    return app


def add_routes(app: FastAPI) -> None:
    """Give the application its endpoints."""

    @app.post("/people")
    def add_person(person: PersonIn, session: Begun) -> dict[str, str]:
        row = Person(name=person.name)
        session.add(row)
        session.flush()
        return {"id": row.id}

    @app.get("/tasks")
    def list_tasks(session: Begun) -> list[dict[str, Any]]:
        return [shown(task) for task in session.scalars(select(Task).order_by(Task.id))]

    @app.post("/tasks")
    def add_task(task: TaskIn, session: Begun) -> dict[str, str]:
        row = Task(title=task.title, owner_id=task.owner_id)
        session.add(row)
        session.flush()
        return {"id": row.id}

    @app.patch("/tasks/{id}")
    def change_task(id: str, change: TaskChange, session: Begun) -> None:
        task = found(session, id)
        for name, value in change.model_dump(exclude_unset=True).items():
            setattr(task, name, value)

    @app.delete("/tasks/{id}")
    def delete_task(id: str, session: Begun) -> None:
        session.delete(found(session, id))

    @app.put("/tasks/{id}/labels/{name}")
    def label_task(id: str, name: str, session: Begun) -> None:
        task = found(session, id)
        label = session.get(Label, name) or Label(name=name)
        if label not in task.labels:
            task.labels.append(label)

    @app.delete("/tasks/{id}/labels/{name}")
    def unlabel_task(id: str, name: str, session: Begun) -> None:
        task = found(session, id)
        task.labels = [label for label in task.labels if label.name != name]

    @app.post("/tasks/{id}/comments")
    def comment(id: str, comment: Text, session: Begun) -> None:
        task = found(session, id)
        task.comments.append(Comment(text=comment.text))
