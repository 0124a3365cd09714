"""What cannot be mirrored is refused when the store opens, with what to do."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    LargeBinary,
    PickleType,
    String,
    Table,
    TypeDecorator,
    create_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from taskstore import InvalidDeclarationError, InvalidNameError, Store, mirrored
from tests.mirror.clones import cloned


def new_base() -> Any:
    """A declarative base of its own."""

    class Base(DeclarativeBase):
        pass

    return Base


def undeclared() -> list[Any]:
    class Plain(new_base()):
        __tablename__ = "plain"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Plain]


def unmapped() -> list[Any]:
    @mirrored("x")
    class Unmapped:
        pass

    return [Unmapped]


def no_version() -> list[Any]:
    @mirrored("x")
    class Unversioned(new_base()):
        __tablename__ = "unversioned"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Unversioned]


def bad_version() -> list[Any]:
    @mirrored("x", updated_at="at")
    class Misversioned(new_base()):
        __tablename__ = "misversioned"
        id: Mapped[str] = mapped_column(primary_key=True)
        at: Mapped[float]

    return [Misversioned]


def pickled() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Pickled(new_base()):
        __tablename__ = "pickled"
        id: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[Any] = mapped_column(PickleType)

    return [Pickled]


class Frozen(TypeDecorator[Any]):
    """Pickles without being a PickleType."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return pickle.dumps(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return pickle.loads(value)


def pickled_in_a_decorator() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Pickled(new_base()):
        __tablename__ = "pickled"
        id: Mapped[str] = mapped_column(primary_key=True)
        value: Mapped[Any] = mapped_column(Frozen)

    return [Pickled]


def key_not_unique() -> list[Any]:
    @mirrored("x", key="uid", updated_at=None)
    class Loose(new_base()):
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)
        uid: Mapped[str]

    return [Loose]


def key_is_a_reference() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None)
    class Above(base):
        __tablename__ = "above"
        id: Mapped[int] = mapped_column(primary_key=True)

    @mirrored("y", key="above_id", updated_at=None)
    class Middle(base):
        __tablename__ = "middle"
        id: Mapped[int] = mapped_column(primary_key=True)
        above_id: Mapped[int] = mapped_column(ForeignKey("above.id"), unique=True)

    @mirrored("z", updated_at=None)
    class Below(base):
        __tablename__ = "below"
        id: Mapped[int] = mapped_column(primary_key=True)
        middle_id: Mapped[int] = mapped_column(ForeignKey("middle.id"))

    return [Above, Middle, Below]


def same_collection() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None)
    class First(base):
        __tablename__ = "first"
        id: Mapped[str] = mapped_column(primary_key=True)

    @mirrored("x", updated_at=None)
    class Second(base):
        __tablename__ = "second"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [First, Second]


def unknown_exclusion() -> list[Any]:
    @mirrored("x", updated_at=None, exclude=["nothing"])
    class Excluding(new_base()):
        __tablename__ = "excluding"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Excluding]


def subclass_alone() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Above(new_base()):
        __tablename__ = "above"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012

    return [Below]


def replacing_subclass() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None)
    class Above(base):
        __tablename__ = "above"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __tablename__ = "below"
        id: Mapped[str] = mapped_column(
            ForeignKey("above.id"), primary_key=True, sqlite_on_conflict_primary_key="REPLACE"
        )
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012

    return [Above]


def key_in_one_table() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None, key="uid")
    class Above(base):
        __tablename__ = "above"
        code: Mapped[str] = mapped_column(primary_key=True)
        uid: Mapped[str] = mapped_column(unique=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __tablename__ = "below"
        code: Mapped[str] = mapped_column(ForeignKey("above.code"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012

    return [Above]


def refers_out_of_the_log() -> list[Any]:
    base = new_base()

    class User(base):
        __tablename__ = "users"
        id: Mapped[str] = mapped_column(primary_key=True)

    @mirrored("x", updated_at=None)
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"))

    return [Task]


def refers_to_nothing() -> list[Any]:
    @mirrored("x", updated_at=None)
    class Task(new_base()):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        owner_id: Mapped[str] = mapped_column(String, ForeignKey("elsewhere.id"))

    return [Task]


def refers_to_what_is_left_out() -> list[Any]:
    base = new_base()

    @mirrored("x", updated_at=None, exclude=["badge"])
    class User(base):
        __tablename__ = "users"
        id: Mapped[str] = mapped_column(primary_key=True)
        badge: Mapped[str] = mapped_column(unique=True)

    @mirrored("y", updated_at=None)
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        badge: Mapped[str] = mapped_column(ForeignKey("users.badge"))

    return [User, Task]


def key_refers_out_of_the_log() -> list[Any]:
    base = new_base()
    Table("users", base.metadata, Column("id", String, primary_key=True))
    table = Table(
        "members",
        base.metadata,
        Column("user_id", ForeignKey("users.id"), primary_key=True),
        Column("group_id", String, primary_key=True),
    )
    return [mirrored("x")(table)]


def subclass_refers_out_of_the_log() -> list[Any]:
    base = new_base()
    Table("users", base.metadata, Column("id", String, primary_key=True))

    @mirrored("x", updated_at=None)
    class Above(base):
        __tablename__ = "above"
        id: Mapped[str] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Below(Above):
        __mapper_args__ = {"polymorphic_identity": "below"}  # noqa: RUF012
        user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"))

    return [Above]


def unknown_local() -> list[Any]:
    @mirrored("x", updated_at=None, local=["nothing"])
    class Accepting(new_base()):
        __tablename__ = "accepting"
        id: Mapped[str] = mapped_column(primary_key=True)

    return [Accepting]


THREE_REMEDIES = (
    r'mirror that one too, leave it out with exclude=\["{0}"\], '
    r'or accept that with local=\["{0}"\]'
)


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (undeclared, "not declared"),
        (unmapped, "not mapped"),
        (no_version, "updated_at=None"),
        (bad_version, "milliseconds"),
        (pickled, "TypeDecorator"),
        (pickled_in_a_decorator, "TypeDecorator"),
        (key_not_unique, "unique=True"),
        (key_is_a_reference, "leave out key="),
        (same_collection, "each its own"),
        (unknown_exclusion, "does not exist"),
        (subclass_alone, "inherits from Above"),
        (replacing_subclass, "deletes other rows of 'below'"),
        (key_in_one_table, "needs the key in each table"),
        (refers_out_of_the_log, f"the table 'users'.*{THREE_REMEDIES.format('owner_id')}"),
        (refers_to_nothing, f"the table 'elsewhere'.*{THREE_REMEDIES.format('owner_id')}"),
        (refers_to_what_is_left_out, "users.badge, which stays out.*take that column in"),
        (key_refers_out_of_the_log, r"mirror that one too, or accept that with local=\["),
        (subclass_refers_out_of_the_log, THREE_REMEDIES.format("user_id")),
        (unknown_local, "local names an attribute that is not mirrored"),
    ],
)
def test_refused_at_open(tmp_path: Path, declare: Callable[[], list[Any]], reason: str) -> None:
    """The error names class and remedy, and nothing is left open."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with pytest.raises(InvalidDeclarationError, match=reason):
        Store.open(tmp_path / ".taskstore", engine=engine, mirrors=declare(), migrate=True)
    engine.dispose()


def test_needs_the_engine_of_the_application(tmp_path: Path) -> None:
    """Models are mirrored in the application's own database, and not in a file of the store's."""
    with pytest.raises(InvalidDeclarationError, match="engine="):
        Store.open(tmp_path / ".taskstore", mirrors=undeclared())


def test_mirrors_is_a_list(tmp_path: Path) -> None:
    """A class given for the list of classes is refused."""
    engine = create_engine("sqlite://")
    with pytest.raises(InvalidDeclarationError, match="takes a list"):
        Store.open(tmp_path / ".taskstore", engine=engine, mirrors=undeclared()[0], migrate=True)


def test_wrong_declarations() -> None:
    """Names, policies and targets are checked where they are declared."""
    with pytest.raises(InvalidNameError):
        mirrored("no/name")
    with pytest.raises(InvalidDeclarationError, match="merge policy"):
        mirrored("x", merge={"labels": "onion"})
    with pytest.raises(InvalidDeclarationError, match="class or a Table"):
        mirrored("x")("tasks")
    with pytest.raises(InvalidDeclarationError, match="exclude takes a list"):
        mirrored("x", exclude="notes")
    with pytest.raises(InvalidDeclarationError, match="local takes a list"):
        mirrored("x", local="owner_id")


def test_a_class_that_cannot_be_edited() -> None:
    """The decorator returns the class or table itself, and can be called on one."""
    [plain] = undeclared()
    assert plain is mirrored("x")(plain)
    assert isinstance(mirrored("y")(plain.__table__), Table)


def test_a_reference_out_of_the_log_is_accepted(tmp_path: Path) -> None:
    """`exclude` leaves the column out of the lines, `local` carries its value as it is."""
    base = new_base()

    class User(base):
        __tablename__ = "users"
        id: Mapped[str] = mapped_column(primary_key=True)

    @mirrored("tasks", updated_at=None, exclude=["owner_id"], local=["author_id"])
    class Task(base):
        __tablename__ = "tasks"
        id: Mapped[str] = mapped_column(primary_key=True)
        owner_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
        author_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"))

    with cloned(tmp_path / "one", [Task], base) as one:
        with one.sessions.begin() as session:
            session.add(User(id="ada"))
            session.flush()
            session.add(Task(id="t1", owner_id="ada", author_id="ada"))
        [line] = one.lines("tasks")
        assert {"id": "t1", "author_id": "ada"} == {k: line[k] for k in line if k != "updated_at"}
        with cloned(tmp_path / "two", [Task], base) as two:
            two.take(one)
            [problem] = two.store.sync().problems
            assert "refers to a row of 'users'" in str(problem)
            with two.sessions.begin() as session:
                session.add(User(id="ada"))
            assert [] == two.store.sync().problems
            [row] = two.rows(Task)
            assert (None, "ada") == (row.owner_id, row.author_id)


def test_names_that_lines_use_for_themselves(tmp_path: Path) -> None:
    """Attributes called `id`, `updated_at` and `deleted` have a `_` behind their name in lines."""
    base = new_base()

    @mirrored("notes", key="slug", updated_at=None, ids="local")
    class Note(base):
        __tablename__ = "notes"
        number: Mapped[str] = mapped_column(primary_key=True)
        slug: Mapped[str] = mapped_column(unique=True)
        id: Mapped[str]
        updated_at: Mapped[str]
        deleted: Mapped[bool]
        deleted_: Mapped[str]

    given = {"slug": "s", "id": "i", "updated_at": "now", "deleted": True, "deleted_": "d"}
    with (
        cloned(tmp_path / "one", [Note], base) as one,
        cloned(tmp_path / "two", [Note], base) as two,
    ):
        with one.sessions.begin() as session:
            session.add(Note(number="n", **given))
        [line] = one.lines("notes")
        told = {"id_": "i", "updated_at_": "now", "deleted__": True, "deleted_": "d"}
        assert ("s", told) == (line["id"], {name: line[name] for name in told})
        two.take(one)
        assert [] == two.store.sync().problems
        [row] = two.rows(Note)
        assert given == {name: getattr(row, name) for name in given}
        with two.sessions.begin() as session:
            session.get_one(Note, "n").deleted = False
        assert [True, False] == [line["deleted__"] for line in two.lines("notes")]
        two.check()
