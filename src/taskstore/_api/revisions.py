"""A session that sees a store as it was at several revisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import attrs
from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy.orm import Mapper, Session, registry

from taskstore._api.history_session import attached_session
from taskstore._cache.schema.models import Models, build_models
from taskstore._cache.sql.reading_sql import attach_sql
from taskstore._format.names import check_schema_name
from taskstore._mirror.model.registry import registry as registry_of
from taskstore._store.context import StoreContext
from taskstore.errors import InvalidDeclarationError

T = TypeVar("T")

MOST = 8
"""The maximum number of revisions. SQLite attaches ten databases to a connection."""


class RevisionSession(Session):
    """A session that sees the present tables, and those of revisions in schemas of their names."""

    _copies: Mapping[str, _Copies] = MappingProxyType({})

    def model(self, name: str, cls: type[T], /) -> type[T]:
        """Return a mapped class for the rows of a model as they were.

        It has the columns of the model, and its rows are objects of their own, so one query can
        return a row as it was and as it is. It has no relationships: name the other class in
        `join`. That for `taskstore.models.StoredRecord` has all of its methods.

        Args:
            name: The name of the revision.
            cls: A model that `Store.revisions` got in `mirrors`, or one of `taskstore.models`.

        Raises:
            InvalidDeclarationError: It is another class, or is not mapped to a table.
            LookupError: There is no revision with this name.
        """
        if name not in self._copies:
            raise LookupError(f"no revision is called {name!r}; there are {sorted(self._copies)}")
        copies = self._copies[name]
        found: type[T] | None = copies.own(cls)
        if found is None:
            mapper = inspect(cls, raiseerr=False)
            if not isinstance(mapper, Mapper):
                raise InvalidDeclarationError(repr(cls), reason="it is not a mapped class")
            found = copies.of(mapper)
        assert found is not None
        return found


@attrs.frozen
class _Copies:
    """Mapped classes for the tables in one schema.

    Attributes:
        schema: The schema.
        tables: The names of the mirrored tables that it has, in lower case.
        models: The models of the cache in it.
    """

    schema: str
    tables: frozenset[str]
    models: Models
    _registry: registry = attrs.field(factory=registry)
    _made: dict[Mapper[Any], type] = attrs.field(factory=dict)
    _copied: dict[MetaData, MetaData] = attrs.field(factory=dict)

    def own(self, cls: Any) -> Any:
        """Return the class in place of one of the models of a cache; None for another class."""
        found: Any = getattr(self.models, getattr(cls, "__name__", ""), None)
        is_own = isinstance(found, type) and issubclass(cls, found.__mro__[1])
        return found if is_own else None

    def of(self, mapper: Mapper[Any]) -> Any:
        """Return the class for the rows of a mapped class."""
        if mapper not in self._made:
            self._made[mapper] = self._mapped(mapper)
        return self._made[mapper]

    def _mapped(self, mapper: Mapper[Any]) -> type:
        table = mapper.local_table
        if not isinstance(table, Table) or table.name.lower() not in self.tables:
            raise InvalidDeclarationError(
                mapper.class_.__name__, reason="it is not mirrored: give it in mirrors=[...]"
            )
        parent = None if mapper.concrete else mapper.inherits
        base = object if parent is None else self.of(parent)
        names = {"__module__": mapper.class_.__module__, "__doc__": mapper.class_.__doc__}
        copied = self._table(table)
        options: dict[str, Any] = {}
        if parent is None:
            options["primary_key"] = [_same(copied, one) for one in mapper.primary_key]
        else:
            options["inherits"] = base
        if isinstance(mapper.polymorphic_on, Column) and mapper.polymorphic_on.table is table:
            options["polymorphic_on"] = _same(copied, mapper.polymorphic_on)
        cls = type(mapper.class_.__name__, (base,), names)
        self._registry.map_imperatively(
            cls,
            None if mapper.single else copied,
            polymorphic_identity=mapper.polymorphic_identity,
            properties=_renamed(mapper, copied),
            **options,
        )
        return cls

    def _table(self, table: Table) -> Table:
        if table.metadata not in self._copied:
            copy = self._copied[table.metadata] = MetaData(schema=self.schema)
            for each in table.metadata.sorted_tables:
                each.to_metadata(copy, schema=self.schema)
        return self._copied[table.metadata].tables[f"{self.schema}.{table.name}"]


def _same(copy: Table, column: Any) -> Any:
    return copy.columns[column.key]


def _renamed(mapper: Mapper[Any], copy: Table) -> dict[str, Column[Any]]:
    """Return the attributes of a class that are named differently than their columns."""
    found = {}
    for attribute in mapper.column_attrs:
        for column in attribute.columns:
            is_local = isinstance(column, Column) and column.table is mapper.local_table
            if is_local and column.key != attribute.key:
                found[attribute.key] = _same(copy, column)
    return found


@contextmanager
def revisions_session(
    context: StoreContext, past: Mapping[str, StoreContext]
) -> Iterator[RevisionSession]:
    """Give a session that sees the present tables and those of stores of the past.

    Args:
        context: The present store.
        past: The contexts of the other stores, by the names of their schemas.
    """
    copies = {}
    for name, each in past.items():
        models = build_models(prefix=each.models.prefix, metadata=MetaData(schema=name))
        copies[name] = _Copies(name, registry_of(each).tables, models)
    from_memory = context.read_only and context.own_engine
    attach = [
        attach_sql(Path(each.engine.url.database or ""), name, from_memory=from_memory)
        for name, each in past.items()
    ]
    detach = [f'DETACH DATABASE "{name}"' for name in past]
    with attached_session(context, attach, detach, RevisionSession) as session:
        session._copies = copies
        yield session


def check_names(names: Mapping[str, Any]) -> None:
    """Refuse names that cannot be those of schemas, and more than can be attached.

    Raises:
        InvalidNameError: SQLite has another meaning for a name, or it is not a name.
        ValueError: There are none, or too many.
    """
    if not 0 < len(names) <= MOST:
        raise ValueError(f"give 1 to {MOST} revisions, not {len(names)}")
    for name in names:
        check_schema_name(name)
