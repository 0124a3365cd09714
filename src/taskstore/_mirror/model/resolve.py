"""Checks what was declared against what is mapped, when a store opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from sqlalchemy import Column, Index, String, Table, UniqueConstraint, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper, configure_mappers

from taskstore._format.names import check_collection_name
from taskstore._mirror.model.checks import check_conflicts, check_together, check_version
from taskstore._mirror.model.counted_keys import Numbers, counted_key, number_randomly, tables_of
from taskstore._mirror.model.declare import Declaration, Declared, declaration_of
from taskstore._mirror.model.family import family_of, line_of, root_of
from taskstore._mirror.model.line_keys import with_keys
from taskstore._mirror.model.shape import Field, Mirror, Shape, primary_names
from taskstore._mirror.model.values import codec_for
from taskstore._mirror.tables.writing import key_columns
from taskstore.errors import InvalidDeclarationError, InvalidNameError


def resolve(
    targets: Any, dialect: Dialect, taken: Iterable[str] = (), keys: str = "mirror_keys"
) -> list[Mirror]:
    """Return the mirrors of some declared classes and tables, and of what lies between them.

    Args:
        targets: What `Store.open(mirrors=...)` was given.
        dialect: Of the engine.
        taken: The names of our own tables.
        keys: The one of them that has the numbers of this database.

    Raises:
        InvalidDeclarationError: Something cannot be mirrored as it is declared; names the class,
            the attribute and what to do.
    """
    if isinstance(targets, str | bytes | Mapping | type | Table) or not isinstance(
        targets, Iterable
    ):
        raise InvalidDeclarationError(
            repr(targets), reason="mirrors takes a list of mirrored models: mirrors=[Task]"
        )
    configure_mappers()
    known = [one if isinstance(one, Declared) else Declared(one, _declared(one)) for one in targets]
    skipped = [one.target for one in known if one.declaration is None]
    numbers = Numbers(keys, strict=dialect.name == "postgresql")
    given = [
        _Resolver(one.target, one.declaration, dialect, numbers)
        for one in known
        if one.declaration is not None
    ]
    for resolver in given:
        resolver.note_numbers()
    found = [resolver.mirror() for resolver in given]
    between = [
        _Resolver(table, _between(table), dialect, numbers)
        for table in _associations(found)
        if table not in skipped
    ]
    for resolver in between:
        resolver.note_numbers()
    found += [resolver.mirror() for resolver in between]
    for mirror in found:
        mirror.number = _number(mirror, numbers)
    check_together(found, frozenset(taken))
    return found


def _declared(target: Any) -> Declaration:
    declaration = declaration_of(target)
    if declaration is None:
        raise InvalidDeclarationError(
            getattr(target, "__qualname__", repr(target)),
            reason='it is not declared: @mirrored("collection"), or mirrored("collection")(it)',
        )
    return declaration


def _between(table: Table) -> Declaration:
    """The declaration of an association table: its own, or one named after it."""
    found = declaration_of(table)
    if found is not None:
        return found
    try:
        return Declaration(check_collection_name(table.name), updated_at=None)
    except InvalidNameError as error:
        raise InvalidDeclarationError(
            table.name,
            reason=f'it cannot name a collection ({error.reason}): mirrored("...")(table)',
        ) from None


def _associations(mirrors: list[Mirror]) -> list[Table]:
    """The tables through which mirrored classes refer to each other, and that have no class."""
    known = {table for mirror in mirrors for shape in mirror.shapes for table in shape.tables}
    mappers = {one for mirror in mirrors for shape in mirror.shapes for one in shape.mappers}
    tables: list[Table] = []
    for mapper in mappers:
        for relation in mapper.relationships:
            table = relation.secondary
            if (
                isinstance(table, Table)
                and not relation.viewonly
                and relation.mapper in mappers
                and table not in known
                and table not in tables
            ):
                tables.append(table)
    return sorted(tables, key=lambda table: table.name)


def _number(mirror: Mirror, numbers: Numbers) -> Field | None:
    """The counted key that stays out of the lines, where rows refer to it."""
    column = counted_key(mirror.table)
    translated = None if column is None or mirror.is_counted else numbers.own(column)
    if column is None or translated is None:
        return None
    if mirror.is_translated:
        raise InvalidDeclarationError(
            mirror.name,
            field=mirror.key[0],
            reason=f"rows refer to {column.name!r}, and this key is a reference itself: leave out "
            "key=, and the store makes the ids",
        )
    return Field(column.key, (column,), mirror.key_fields[0].codec, translated=translated)


@attrs.frozen
class _Resolver:
    """Resolves one declaration."""

    target: Any
    declaration: Declaration
    dialect: Dialect
    numbers: Numbers

    @property
    def name(self) -> str:
        if isinstance(self.target, Table):
            return f"table {self.target.name!r}"
        return str(self.target.__qualname__)

    def fail(self, reason: str, field: str | None = None) -> InvalidDeclarationError:
        return InvalidDeclarationError(self.name, field=field, reason=reason)

    def mirror(self) -> Mirror:
        if isinstance(self.target, Table):
            return self._of_table(self.target)
        try:
            mapper: Mapper[Any] = inspect(self.target)
        except NoInspectionAvailable:
            raise self.fail("it is not mapped: declare it with a declarative base") from None
        base = root_of(mapper)
        if base is not mapper:
            raise self.fail(f"it inherits from {base.class_.__name__}: mirror that one instead")
        return self._of_mapper(mapper)

    def note_numbers(self) -> None:
        """Note the key that each database counts for itself, before others refer to it."""
        table = next(iter(tables_of(self.target)), None)
        if table is None or self.declaration.ids == "random":
            return
        column = counted_key(table)
        if column is not None and not (isinstance(self.target, Table) and _is_keyed(table)):
            self.numbers.add(column, self.declaration.collection)

    def _of_table(self, table: Table) -> Mirror:
        excluded = self.declaration.exclude
        columns = {
            str(column.key): (column,)
            for column in table.columns
            if column.key not in excluded and column.computed is None
        }
        referring = [column for column in table.columns if column.foreign_keys]
        is_keyed = self.declaration.ids == "local" and _is_keyed(table)
        local = counted_key(table) if is_keyed else self._local_key(table)
        columns_of_key = (local is None and list(table.primary_key.columns)) or referring
        if not columns_of_key:
            raise self.fail("it has neither a primary key nor foreign keys")
        key = tuple(str(column.key) for column in columns_of_key)
        fields = self._fields(columns, local)
        version = self._version(fields)
        shape = Shape(None, None, (table,), table, fields)
        return self._made((shape,), self._key(key, fields, local, table), version, None)

    def _of_mapper(self, mapper: Mapper[Any]) -> Mirror:
        mappers = family_of(mapper)
        for one in mappers:
            if not isinstance(one.local_table, Table):
                raise self.fail(
                    f"{one.class_.__name__} is mapped to a query and has no table of its own: "
                    "exclude the class"
                )
        local = self._local_key(mapper.local_table)
        if local is not None and any(len(one.tables) > 1 for one in mappers):
            raise self.fail(
                "joined inheritance needs a primary key that the database does not count"
            )
        if mapper.polymorphic_on is None and all(one.tables == mapper.tables for one in mappers):
            return self._of_alike(mapper, local)
        discriminator = self._discriminator(mapper) if len(mappers) > 1 else None
        shapes = []
        version = None
        for one in mappers:
            fields = self._fields(self._columns(one), local)
            version = self._version(fields) or version
            identity = one.polymorphic_identity if discriminator is not None else None
            shapes.append(Shape(one, identity, _tables(one), one.persist_selectable, fields))
        checked = self._key(primary_names(mapper), shapes[0].fields, local, mapper.local_table)
        made = self._made(tuple(shapes), checked, version, discriminator)
        for shape in shapes:
            self._check_key_columns(made, shape)
        return made

    def _of_alike(self, mapper: Mapper[Any], local: Column[Any] | None) -> Mirror:
        """Of classes in one table whose rows are the same for all of them."""
        columns: dict[str, tuple[Column[Any], ...]] = {}
        for one in family_of(mapper):
            for name, found in self._columns(one).items():
                if columns.setdefault(name, found) != found:
                    raise self.fail(f"{one.class_.__name__} has another column under it", name)
        fields = self._fields(columns, local)
        version = self._version(fields)
        table = mapper.local_table
        below = tuple(one for one in family_of(mapper) if one is not mapper)
        shape = Shape(mapper, None, _tables(mapper), table, fields, below)
        key = self._key(primary_names(mapper), fields, local, table)
        return self._made((shape,), key, version, None)

    def _check_key_columns(self, mirror: Mirror, shape: Shape) -> None:
        for table in shape.tables:
            try:
                key_columns(mirror, shape, table)
            except LookupError as error:
                raise self.fail(
                    f"joined inheritance needs the key in each table, and {error}: give it a "
                    "primary key that is a foreign key to that of its base"
                ) from None

    def _made(
        self,
        shapes: tuple[Shape, ...],
        key: tuple[str, ...],
        version: Field | None,
        discriminator: str | None,
    ) -> Mirror:
        shapes = with_keys(shapes, key)
        for table in {table for shape in shapes for table in shape.tables[1:]}:
            check_conflicts(self.name, table)
        known = {name for shape in shapes for name in shape.fields}
        merge, local = self.declaration.merge, self.declaration.local
        for option, names in (("merge", set(merge)), ("local", local)):
            if unknown := names - known:
                reason = f"{option} names an attribute that is not mirrored"
                raise self.fail(reason, min(unknown))
        collection = self.declaration.collection
        made = Mirror(
            self.target, self.name, collection, shapes, key, version, discriminator, merge, local
        )
        check_version(made, self.dialect)
        return made

    def _columns(self, mapper: Mapper[Any]) -> dict[str, tuple[Column[Any], ...]]:
        unknown = self.declaration.exclude - {
            prop.key for one in family_of(root_of(mapper)) for prop in one.attrs
        }
        if unknown:
            raise self.fail("exclude names an attribute that does not exist", min(unknown))
        found = {}
        for prop in mapper.column_attrs:
            columns = tuple(
                column
                for column in prop.columns
                if isinstance(column, Column) and column.computed is None
            )
            if columns and prop.key not in self.declaration.exclude:
                found[prop.key] = columns
        return found

    def _fields(
        self, columns: Mapping[str, tuple[Column[Any], ...]], local: Column[Any] | None
    ) -> dict[str, Field]:
        fields = {}
        for name, found in columns.items():
            if local is not None and local in found:
                continue
            translated = self.numbers.of(*found)
            type_: Any = found[0].type if translated is None else String()
            codec = codec_for(type_, self.dialect)
            if codec is None:
                raise self.fail(
                    f"a column of type {found[0].type!r} cannot be stored in the "
                    "log: exclude it, or give it "
                    "a TypeDecorator over a type that can",
                    name,
                )
            fields[name] = Field(name, found, codec, translated=translated)
        return fields

    def _local_key(self, table: Any) -> Column[Any] | None:
        """The counted primary key that is not in the log, or None."""
        column = counted_key(table)
        if self.declaration.ids == "random":
            if column is None:
                raise self.fail('ids="random" is for a primary key that the database numbers')
            number_randomly(table)
            return None
        if self.declaration.key is None:
            return None
        return column

    def _key(
        self,
        primary: tuple[str, ...],
        fields: Mapping[str, Field],
        local: Column[Any] | None,
        table: Any,
    ) -> tuple[str, ...]:
        key = self.declaration.key
        if key is None:
            for name in primary:
                if name not in fields:
                    raise self.fail("the key cannot be excluded, computed or the version", name)
            return primary
        if key not in fields:
            raise self.fail("key names an attribute that is not mirrored", key)
        column = fields[key].column
        if column.nullable or not _is_unique(table, column):
            raise self.fail("key needs a column with unique=True and nullable=False", key)
        if local is None and (key,) != primary and any(name not in fields for name in primary):
            raise self.fail("the primary key cannot be excluded", primary[0])
        return (key,)

    def _version(self, fields: dict[str, Field]) -> Field | None:
        """Take the version's field out of the others."""
        name = self.declaration.updated_at
        is_absent = isinstance(self.target, Table) and name not in fields
        if name is None or is_absent:
            return None
        found = fields.pop(name, None)
        if found is None:
            raise self.fail(
                'no such attribute for the version: mirrored(..., updated_at="name"), or '
                "updated_at=None to keep it in the log alone",
                name,
            )
        if found.codec.python not in ("int", "str", "datetime"):
            raise self.fail("a version is an int (milliseconds), a datetime or a str", name)
        return found

    def _discriminator(self, mapper: Mapper[Any]) -> str:
        column = mapper.polymorphic_on
        if column is None:
            raise self.fail("no column tells its subclasses apart: give it polymorphic_on")
        if not isinstance(column, Column):
            raise self.fail("its subclasses are told apart by an expression: use a column")
        name = str(mapper.get_property_by_column(column).key)
        if name in self.declaration.exclude:
            raise self.fail("it tells the subclasses apart and cannot be excluded", name)
        return name


def _tables(mapper: Mapper[Any]) -> tuple[Table, ...]:
    """The tables of a class, those of the classes that it inherits from first."""
    line = reversed(list(line_of(mapper)))
    tables = dict.fromkeys(table for one in line for table in one.tables)
    return tuple(table for table in tables if isinstance(table, Table))


def _is_keyed(table: Table) -> bool:
    """Return whether the foreign keys of a table identify its rows."""
    referring = [column for column in table.columns if column.foreign_keys]
    return bool(referring) and _is_unique(table, *referring)


def _is_unique(table: Any, *columns: Column[Any]) -> bool:
    """Return whether no two rows have the same in all of these columns."""
    if any(column.unique for column in columns):
        return True
    names = {column.name for column in columns}
    unique: list[Any] = [one for one in table.constraints if isinstance(one, UniqueConstraint)]
    unique += [one for one in table.indexes if isinstance(one, Index) and one.unique]
    return any({c.name for c in one.columns} == names for one in unique) or (
        set(columns) == set(table.primary_key.columns)
    )
