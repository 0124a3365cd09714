"""`mirror_all` takes the models of an application as they are."""

# Each case has a base of its own, which mypy cannot follow.
# mypy: disable-error-code="misc, valid-type"

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    PickleType,
    String,
    Table,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.orm import Mapped, declarative_base, mapped_column, relationship

from taskstore import ColumnSkippedWarning, InvalidDeclarationError, mirror_all, mirrored
from taskstore._mirror.model.registry import registry
from taskstore._mirror.model.survey import survey
from tests.mirror.clones import cloned
from tests.mirror.test_declaration import Frozen, new_base


class Shop:
    """The models of an application that knows nothing of us."""

    def __init__(self) -> None:
        base: Any = new_base()
        self.base = base
        self.buys = Table(
            "buys",
            base.metadata,
            Column("user_id", ForeignKey("users.id"), primary_key=True),
            Column("item_id", ForeignKey("items.id"), primary_key=True),
        )

        class Timed:
            updated_at: Mapped[datetime.datetime | None] = mapped_column(
                DateTime, server_default=func.now(), onupdate=func.now()
            )

        class Keyed(base):
            __abstract__ = True
            id: Mapped[str] = mapped_column(primary_key=True)

        class User(Timed, Keyed):
            __tablename__ = "users"
            token: Mapped[str | None] = mapped_column(String)
            items: Mapped[list[Item]] = relationship(secondary=self.buys)

        class Item(Keyed):
            __tablename__ = "items"
            deleted: Mapped[bool] = mapped_column(default=False)
            kind: Mapped[str] = mapped_column(default="item")
            owner_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}  # noqa: RUF012

        class Book(Item):
            __tablename__ = "books"
            id: Mapped[str] = mapped_column(ForeignKey("items.id"), primary_key=True)
            pages: Mapped[int]
            __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012

        # The annotations of a class in a function are resolved among the globals.
        base.registry._class_registry["Item"] = Item
        self.user, self.item, self.book = User, Item, Book


@pytest.fixture
def shop() -> Shop:
    """An application."""
    return Shop()


def test_every_model_of_a_base_is_mirrored(tmp_path: Path, shop: Shop) -> None:
    """Mixins, abstract bases, hierarchies and tables between models need no declaration."""
    mirrors = mirror_all(shop.base)
    with (
        cloned(tmp_path / "one", mirrors, shop.base) as one,
        cloned(tmp_path / "two", mirror_all(shop.base), shop.base) as two,
    ):
        with one.sessions.begin() as session:
            session.add(shop.user(id="ada", items=[shop.book(id="b", pages=3)]))
        assert ["buys.jsonl", "items.jsonl", "users.jsonl"] == sorted(
            path.name for path in one.store.path.glob("*.jsonl")
        )
        two.take(one)
        assert [] == two.store.sync().problems
        with two.sessions() as session:
            user = session.get_one(shop.user, "ada")
            assert [3] == [book.pages for book in user.items]
        one.check()
        two.check()
    assert not hasattr(shop.user, "__taskstore_mirrored__")


def test_columns_keep_what_the_application_means_by_them(tmp_path: Path, shop: Shop) -> None:
    """A column called `updated_at` is the version only where that is asked for."""
    long_ago = datetime.datetime(2001, 2, 3)
    with cloned(tmp_path / "one", mirror_all(shop.base), shop.base) as one:
        with one.sessions.begin() as session:
            session.add(shop.user(id="ada", updated_at=long_ago))
        with one.sessions.begin() as session:
            session.get_one(shop.user, "ada").updated_at = long_ago - datetime.timedelta(1)
        assert "2001-02-02T00:00:00" == one.told("users")["ada"]["updated_at_"]
    with cloned(tmp_path / "two", mirror_all(shop.base, updated_at="updated_at"), shop.base) as two:
        with two.sessions.begin() as session:
            session.add_all([shop.user(id="ada"), shop.item(id="i")])
        assert "updated_at_" not in two.told("users")["ada"]
        [user] = two.rows(shop.user)
        assert user.updated_at > datetime.datetime(2020, 1, 1)


def test_what_is_left_out(tmp_path: Path, shop: Shop) -> None:
    """Classes, tables, attributes and their names can be excluded; a table between two also."""
    exclude: list[Any]
    for exclude in ([shop.user.token, "buys"], ["users.token", shop.buys], ["User.token", "buys"]):
        with cloned(tmp_path / "one", mirror_all(shop.base, exclude=exclude), shop.base) as one:
            names = [mirror.collection for mirror in registry(one.store._context)]
            assert ["items", "users"] == names
            assert "token" not in registry(one.store._context).by_collection["users"].base.fields
    for exclude in ([shop.user], ["users"], [shop.user.__table__]):
        mirrors = mirror_all(shop.base, exclude=exclude, local=[shop.item.owner_id])
        with cloned(tmp_path / "one", mirrors, shop.base) as one:
            assert ["items"] == [mirror.collection for mirror in registry(one.store._context)]


def test_a_model_that_is_left_out_and_referred_to(tmp_path: Path, shop: Shop) -> None:
    """Nothing dangles silently: the reference is refused until it is accepted."""
    mirrors = mirror_all(shop.base, exclude=[shop.user])
    with (
        pytest.raises(InvalidDeclarationError, match=r"Item.owner_id: .* 'users'"),
        cloned(tmp_path / "one", mirrors, shop.base),
    ):
        pass


def test_a_table_between_two_models_that_refers_out_of_the_log(tmp_path: Path) -> None:
    """Its columns can be excluded and accepted like attributes."""
    base = new_base()
    Table("shops", base.metadata, Column("id", String, primary_key=True))

    class Item(base):
        __tablename__ = "items"
        id: Mapped[str] = mapped_column(primary_key=True)

    class User(base):
        __tablename__ = "users"
        id: Mapped[str] = mapped_column(primary_key=True)
        items: Mapped[Any] = relationship(Item, secondary="buys")

    buys = Table(
        "buys",
        base.metadata,
        Column("user_id", ForeignKey("users.id"), primary_key=True),
        Column("item_id", ForeignKey("items.id"), primary_key=True),
        Column("shop_id", ForeignKey("shops.id")),
    )
    with (
        pytest.raises(InvalidDeclarationError, match=r"'buys'.shop_id: .* 'shops'"),
        cloned(tmp_path / "one", mirror_all(base), base),
    ):
        pass
    options: list[dict[str, Any]] = [
        {"exclude": ["buys.shop_id"]},
        {"exclude": [buys.c.shop_id]},
        {"local": ["buys.shop_id"]},
    ]
    for option in options:
        with cloned(tmp_path / "one", mirror_all(base, **option), base) as one:
            fields = registry(one.store._context).by_collection["buys"].base.fields
            assert ("local" in option) == ("shop_id" in fields)
    found = survey(mirror_all(base), sqlite_dialect())
    assert {"local": ["buys.shop_id"]} == found.options()


def test_a_class_that_has_no_table(tmp_path: Path, shop: Shop) -> None:
    """A class that is mapped to a query is refused until it is excluded."""
    base: Any = shop.base

    class Count(base):
        __table__ = select(shop.user.id, func.count().label("n")).group_by(shop.user.id).subquery()
        __mapper_args__ = {"primary_key": [__table__.c.id]}  # noqa: RUF012

    mirrors = mirror_all(shop.base, ids="random")
    with (
        pytest.raises(InvalidDeclarationError, match="exclude the class"),
        cloned(tmp_path / "one", mirrors, shop.base),
    ):
        pass
    assert {"exclude": ["Count"]} == survey(mirrors, sqlite_dialect()).options()
    with cloned(tmp_path / "one", mirror_all(shop.base, exclude=["Count"]), shop.base) as one:
        assert {"buys", "items", "users"} == set(registry(one.store._context).by_collection)


def test_a_declaration_is_kept(tmp_path: Path, shop: Shop) -> None:
    """A class that is declared with `mirrored` stays declared so; `exclude` adds to it."""
    mirrored("people", updated_at=None, exclude=["updated_at"])(shop.user)
    mirrors = mirror_all(shop.base, exclude=[shop.user.token])
    with cloned(tmp_path / "one", mirrors, shop.base) as one:
        found = registry(one.store._context).by_collection
        assert {"buys", "items", "people"} == set(found)
        assert {"id"} == set(found["people"].base.fields)


def test_pickled_columns_are_left_out_with_a_warning() -> None:
    """The warning names each column that no line can carry."""
    base = new_base()

    class Thing(base):
        __tablename__ = "things"
        id: Mapped[str] = mapped_column(primary_key=True)
        jar: Mapped[Any] = mapped_column(PickleType)
        ice: Mapped[Any] = mapped_column(Frozen)
        blob: Mapped[bytes] = mapped_column(LargeBinary)

    with pytest.warns(ColumnSkippedWarning, match=r"^Thing.ice, Thing.jar: ") as told:
        [found] = mirror_all(base)
    assert {__file__} == {each.filename for each in told}
    assert {"jar", "ice"} == found.declaration.exclude


def test_names_that_are_no_collection() -> None:
    """A table whose name cannot be a collection's gets one that is like it."""
    base = new_base()
    tables = [
        {"__tablename__": name, "id": Column(String, primary_key=True)} for name in ("a b", "a.b")
    ]
    # A base does not keep its models alive.
    models = [type(f"Model{place}", (base,), table) for place, table in enumerate(tables)]
    assert 2 == len(models)
    found = [each.declaration.collection for each in mirror_all(base)]
    assert ["a_b", "a_b_"] == sorted(found)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"exclude": ["nobody"]}, "exclude names nobody"),
        ({"exclude": ["users.nothing"]}, "exclude names users.nothing"),
        ({"local": ["users.nothing"]}, "local names users.nothing"),
        ({"exclude": "users"}, "exclude takes a list"),
    ],
)
def test_names_of_nothing_are_refused(shop: Shop, options: Any, reason: str) -> None:
    """A slip in `exclude` must not put into the log what was to stay out of it."""
    with pytest.raises(InvalidDeclarationError, match=reason):
        mirror_all(shop.base, **options)


def test_bases_that_share_a_metadata() -> None:
    """A MetaData stands for the models on its tables, of whatever base, and for no others."""
    metadata = MetaData()
    first, second = declarative_base(metadata=metadata), declarative_base(metadata=metadata)
    other = declarative_base()
    models = [
        type(name, (base,), {"__tablename__": name.lower(), "id": Column(String, primary_key=True)})
        for name, base in (("A", first), ("B", second), ("C", other))
    ]
    second.registry.map_imperatively(
        imperative := type("D", (), {}),
        Table("d", metadata, Column("id", Integer, primary_key=True)),
    )
    assert [*models[:2], imperative] == [one.target for one in mirror_all(metadata)]
    Table("core", metadata, Column("id", Integer, primary_key=True))
    assert ["b", "core", "d"] == survey(mirror_all(first), sqlite_dialect()).others
    assert ["core"] == survey(mirror_all(metadata), sqlite_dialect()).others
    with pytest.raises(InvalidDeclarationError, match="has no models"):
        mirror_all(MetaData())


@pytest.mark.parametrize(
    ("base", "reason"), [("Base", "takes a declarative base"), (new_base(), "has no models")]
)
def test_what_is_no_base(base: Any, reason: str) -> None:
    """What has no models is refused, and what has none yet."""
    with pytest.raises(InvalidDeclarationError, match=reason):
        mirror_all(base)
