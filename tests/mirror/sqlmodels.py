"""Models of SQLModel, which reads annotations as they stand, and not as text."""

import uuid

from sqlmodel import Field, Relationship, SQLModel


class Team(SQLModel, table=True):
    """Has a key of the application's."""

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    name: str = Field(index=True)
    heroes: list["Hero"] = Relationship(back_populates="team")


class Hero(SQLModel, table=True):
    """Has a counted key."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    team_id: uuid.UUID | None = Field(default=None, foreign_key="team.id")
    team: Team | None = Relationship(back_populates="heroes")
