"""`mirror_all`: says that all models of a declarative base live in the log, as they are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.orm import ColumnProperty, Mapper, configure_mappers, registry
from sqlalchemy.orm.attributes import QueryableAttribute

from taskstore._format.names import check_collection_name
from taskstore._mirror.model.counted_keys import counted_key, number_randomly
from taskstore._mirror.model.declare import Declaration, Declared, Ids, declaration_of
from taskstore._mirror.model.family import family_of, is_root
from taskstore._mirror.model.values import codec_for
from taskstore._records.evolutions import names_of
from taskstore.errors import ColumnSkippedWarning, InvalidDeclarationError, InvalidNameError

_SQLITE = sqlite_dialect()
_VERSIONS = ("int", "str", "datetime")


def mirror_all(
    base: Any,
    /,
    *,
    exclude: Iterable[Any] = (),
    local: Iterable[Any] = (),
    updated_at: str | None = None,
    ids: Ids = "local",
    was: Mapping[str, str | Sequence[str]] | None = None,
) -> list[Any]:
    """Declare that the rows of every model of a base live in the log.

    The models are not changed. Each collection has the name of its table. A class that is
    declared with `mirrored` keeps that declaration, to which `exclude` and `local` add. Import all
    models first.

    Args:
        base: A declarative base, a `registry`, an automap base, a class whose subclasses are
            meant, or a `MetaData`: the models on its tables, whatever base they have.
        exclude: What stays out of the log: classes, tables and attributes (``User.token``), or
            their names as texts: ``"users"``, ``"users.token"``.
        local: Attributes whose foreign keys may lead to a table that is not mirrored; see
            `mirrored`.
        updated_at: The attribute that holds the version, in the models that have it and can keep
            one there. Without it the versions are in the log alone, and every column keeps the
            meaning that the application gives it.
        ids: How to identify rows whose primary key the database numbers; see `mirrored`.
        was: The former name of a renamed table, or all of them, oldest first, by its name now;
            see `mirrored`.

    Returns:
        What `Store.open(mirrors=...)` takes. It is a list, to which you can add.

    Raises:
        InvalidDeclarationError: The base has no models, or `exclude` or `local` names nothing
            that it has.

    Warns:
        ColumnSkippedWarning: A column is pickled, or has a type that the log cannot store. It
            stays out of the log.
    """
    mappers = _mappers(base)
    out, accepted = _Wanted.of("exclude", exclude), _Wanted.of("local", local)
    names = _Names(was or {})
    found = list(_between_declared(mappers, out, accepted, names))
    for mapper in mappers:
        if out.has_class(mapper):
            continue
        attributes = _Found.of(mapper, out, accepted)
        known = _declared(mapper)
        if known is None:
            collection = names.log_of(mapper.local_table)
            declaration = attributes.declaration(mapper, collection, updated_at, ids)
        else:
            declaration = attributes.added_to(known)
        found.append(Declared(mapper.class_, declaration))
    out.check()
    accepted.check()
    names.check()
    return found


def _declared(mapper: Mapper[Any]) -> Declaration | None:
    """The declaration of a class; that of the class above a concrete one is not its own."""
    known = declaration_of(mapper.class_)
    above = None if mapper.inherits is None else declaration_of(mapper.inherits.class_)
    return None if known is above else known


def _mappers(base: Any) -> list[Mapper[Any]]:
    """The mappers of a base that inherit from no other, in the order of their tables."""
    found = _mappers_on(base) if isinstance(base, MetaData) else _mappers_of(base)
    if not found:
        raise InvalidDeclarationError(
            getattr(base, "__qualname__", repr(base)),
            reason="it has no models: import the modules that define them, then call mirror_all",
        )
    return sorted(found, key=lambda mapper: (str(mapper.local_table), mapper.class_.__qualname__))


def _mappers_on(metadata: MetaData) -> list[Mapper[Any]]:
    """The mappers of the tables of a MetaData; an application may share one among many bases."""
    configure_mappers()
    tables = set(metadata.tables.values())
    # SQLAlchemy has no public list of all registries.
    mappers = (inspect(one, raiseerr=False) for one in _subclasses(object))
    return [
        mapper
        for mapper in mappers
        if isinstance(mapper, Mapper) and is_root(mapper) and mapper.local_table in tables
    ]


def _subclasses(base: type[Any]) -> set[type[Any]]:
    """All classes below a class."""
    found: set[type[Any]] = set()
    pending = [base]
    while pending:
        below = set(type.__subclasses__(pending.pop())) - found
        found |= below
        pending += below
    return found


def _mappers_of(base: Any) -> list[Mapper[Any]]:
    # SQLModel has no public name for its registry.
    known = base if isinstance(base, registry) else getattr(base, "registry", None)
    known = known if known is not None else getattr(base, "_sa_registry", None)
    if not isinstance(known, registry):
        raise InvalidDeclarationError(
            repr(base), reason="mirror_all takes a declarative base, a registry or a MetaData"
        )
    known.configure()
    # A root has its own registry. Classes that are mapped without it are included.
    is_whole = base is known or not {"registry", "_sa_registry"}.isdisjoint(vars(base))
    return [
        mapper
        for mapper in known.mappers
        if is_root(mapper) and (is_whole or issubclass(mapper.class_, base))
    ]


def _between(mappers: Iterable[Mapper[Any]]) -> list[Table]:
    """The tables between two models that no class has."""
    mapped = {
        table for one in mappers for each in one.self_and_descendants for table in each.tables
    }
    tables = {
        relation.secondary
        for one in mappers
        for each in one.self_and_descendants
        for relation in each.relationships
        if isinstance(relation.secondary, Table) and relation.secondary not in mapped
    }
    return sorted(tables, key=lambda table: table.fullname)


def _between_declared(
    mappers: Iterable[Mapper[Any]], out: _Wanted, accepted: _Wanted, names: _Names
) -> Iterator[Declared]:
    """Yield what the options say of tables between two models; a store finds the others itself."""
    for table in _between(mappers):
        if out.has(table, table.name):
            yield Declared(table, None)
            continue
        columns = [(str(one.key), (id(one), f"{table.name}.{one.key}")) for one in table.columns]
        exclude = frozenset(key for key, forms in columns if out.has(*forms))
        local = frozenset(key for key, forms in columns if accepted.has(*forms))
        if exclude or local or table.name in names.was:
            known = declaration_of(table)
            if known is None:
                known = Declaration(names.log_of(table), updated_at=None)
            exclude |= known.exclude
            local = (known.local | local) - exclude
            yield Declared(table, attrs.evolve(known, exclude=exclude, local=local))


@attrs.define
class _Names:
    """The names of the logs of tables, each another.

    Attributes:
        was: The former names of tables, by their names now.
    """

    was: Mapping[str, str | Sequence[str]]
    _taken: set[str] = attrs.field(factory=set)
    _met: set[str] = attrs.field(factory=set)

    def log_of(self, table: Any) -> str:
        """The name of a table's log: the first one of the table, as far as it can be one."""
        name = str(getattr(table, "name", table))
        if name in self.was:
            self._met.add(name)
            name = names_of(name, self.was[name])[0]
        try:
            name = check_collection_name(name)
        except InvalidNameError:
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60] or "table"
        while name.lower() in self._taken:
            name += "_"
        self._taken.add(name.lower())
        return name

    def check(self) -> None:
        """Refuse former names of nothing.

        Raises:
            InvalidDeclarationError: No model has a table of such a name, or it has a declaration
                of its own.
        """
        for name in sorted(self.was.keys() - self._met):
            reason = (
                f"was names {name!r}, which is not the table of a model that mirror_all declares: "
                'correct the name, or give was to its own mirrored("...", was="...")'
            )
            raise InvalidDeclarationError("mirror_all", reason=reason)


@attrs.define
class _Wanted:
    """The values of an option of `mirror_all`: classes, tables, attributes, or their names.

    Attributes:
        option: Its name.
        items: What was given, by the form in which it is looked up.
    """

    option: str
    items: dict[Any, Any]
    _met: set[Any] = attrs.field(factory=set)

    @classmethod
    def of(cls, option: str, given: Iterable[Any]) -> _Wanted:
        """Take what was given for an option."""
        if isinstance(given, str | type) or not isinstance(given, Iterable):
            reason = f"{option} takes a list: {option}=[...]"
            raise InvalidDeclarationError("mirror_all", reason=reason)
        return cls(option, {_form(item): item for item in given})

    def has(self, *forms: Any) -> bool:
        """Return whether the option names a class, a table or an attribute in one of its forms."""
        met = {form for form in forms if form in self.items}
        self._met |= met
        return bool(met)

    def has_class(self, mapper: Mapper[Any]) -> bool:
        """Return whether the option names this class or its table."""
        table = mapper.local_table
        name = getattr(table, "name", None)
        return self.has(mapper.class_, mapper.class_.__name__, table, name)

    def has_attribute(self, mapper: Mapper[Any], prop: ColumnProperty[Any]) -> bool:
        """Return whether the option names this attribute of a class."""
        owners = [mapper.class_.__name__, *(getattr(one, "name", None) for one in mapper.tables)]
        columns = [id(column) for column in prop.columns]
        return self.has(
            (mapper.class_, prop.key), *columns, *(f"{owner}.{prop.key}" for owner in owners)
        )

    def check(self) -> None:
        """Refuse names of nothing.

        Raises:
            InvalidDeclarationError: Something was named that no model has.
        """
        for form, item in self.items.items():
            if form not in self._met:
                raise InvalidDeclarationError(
                    "mirror_all",
                    reason=f"{self.option} names {item!s}, which is not a model of the "
                    "base or an attribute of one",
                )


def _form(item: Any) -> Any:
    if isinstance(item, QueryableAttribute):
        return (item.class_, item.key)
    # Columns are compared by SQL.
    return id(item) if isinstance(item, Column) else item


@attrs.define
class _Found:
    """How to treat the attributes of a class.

    Attributes:
        out, local: Those that `exclude` and `local` name.
        uncarried: Those that no line can carry.
        versions: Those that can hold a version.
    """

    out: set[str] = attrs.field(factory=set)
    local: set[str] = attrs.field(factory=set)
    uncarried: set[str] = attrs.field(factory=set)
    versions: set[str] = attrs.field(factory=set)

    @classmethod
    def of(cls, mapper: Mapper[Any], excluded: _Wanted, accepted: _Wanted) -> _Found:
        """Look at the attributes of a class and those below it."""
        found = cls()
        for one in family_of(mapper):
            for prop in one.column_attrs:
                column = prop.columns[0]
                if not isinstance(column, Column):
                    continue
                if accepted.has_attribute(one, prop):
                    found.local.add(prop.key)
                codec = codec_for(column.type, _SQLITE)
                if excluded.has_attribute(one, prop):
                    found.out.add(prop.key)
                elif codec is None and not column.primary_key:
                    found.uncarried.add(prop.key)
                elif codec is not None and codec.python in _VERSIONS:
                    found.versions.add(prop.key)
        return found

    def added_to(self, declaration: Declaration) -> Declaration:
        """Return a declaration with what `exclude` and `local` name."""
        exclude = declaration.exclude | self.out
        return attrs.evolve(
            declaration, exclude=exclude, local=(declaration.local | self.local) - exclude
        )

    def declaration(
        self, mapper: Mapper[Any], collection: str, updated_at: str | None, ids: Ids
    ) -> Declaration:
        """Return the declaration of a class that has none."""
        if self.uncarried:
            _warn(mapper, self.uncarried)
        table = mapper.local_table
        is_random = ids == "random" and isinstance(table, Table) and counted_key(table) is not None
        if is_random:
            number_randomly(mapper.class_)
        new = Declaration(
            collection,
            ids="random" if is_random else "local",
            updated_at=updated_at if updated_at in self.versions else None,
            exclude=frozenset(self.uncarried),
        )
        return self.added_to(new)


def _warn(mapper: Mapper[Any], names: Iterable[str]) -> None:
    attributes = ", ".join(f"{mapper.class_.__name__}.{name}" for name in sorted(names))
    warnings.warn(
        f"{attributes}: pickled, or of a type that cannot be carried, and so not in the log",
        ColumnSkippedWarning,
        stacklevel=4,
    )
