"""Find out which of an application's models would be mirrored, and which refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import Table, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from taskstore._format.lines import encode_value
from taskstore._mirror.model.declare import Declaration, Declared
from taskstore._mirror.model.resolve import resolve
from taskstore._mirror.model.shape import NUMBER, Field, Mirror, Shape
from taskstore.errors import InvalidDeclarationError

_SAMPLES: Mapping[str, Any] = {"str": "...", "int": 1, "float": 0.5, "bool": True, "any": {}}
_MOMENT = "2024-01-31T12:00:00"
_VERSION = 1_700_000_000_000


@attrs.frozen
class Refusal:
    """Something that cannot be mirrored as it is declared.

    Attributes:
        reason: why.
        option: The option of `mirror_all` that fixes it: "exclude" or "local".
        value: What to list there.
    """

    reason: str
    option: str
    value: str

    @property
    def fix(self) -> str:
        """The argument of `mirror_all` that fixes it."""
        return f'{self.option}=["{self.value}"]'


@attrs.define
class Finding:
    """The findings about one class or table.

    Attributes:
        name: The class or table, as messages call it.
        table: Its table.
        refusals: What would be refused.
        mirror: How it would be mirrored once that is fixed; None if it is left out.
        left_out: The attributes that stay out of the log.
    """

    name: str
    table: str
    refusals: list[Refusal] = attrs.field(factory=list)
    mirror: Mirror | None = None
    left_out: tuple[str, ...] = ()


@attrs.frozen
class Survey:
    """The findings about all models.

    Attributes:
        findings: Of each class and each table between two classes, in the order of their tables.
        others: The names of the tables beside them that no finding is about, sorted.
    """

    findings: Sequence[Finding]
    others: Sequence[str] = ()

    def options(self) -> dict[str, list[str]]:
        """Return what `mirror_all` has to be given, by option."""
        found: dict[str, list[str]] = {}
        for finding in self.findings:
            for refusal in finding.refusals:
                values = found.setdefault(refusal.option, [])
                if refusal.value not in values:
                    values.append(refusal.value)
        return found


def survey(declared: Iterable[Declared], dialect: Dialect, taken: Iterable[str] = ()) -> Survey:
    """Return what would be mirrored, and what would have to change for that.

    Args:
        declared: What `mirror_all` has returned.
        dialect: Of the database.
        taken: The names of tables that are not the application's.
    """
    current = list(declared)
    findings = {id(one.target): _finding(one.target) for one in current}
    while True:
        try:
            mirrors = resolve(current, dialect, taken)
            break
        except InvalidDeclarationError as error:
            place, one = _meant(current, error)
            refusal, fixed = _fixed(one, error)
            findings.setdefault(id(one.target), _finding(one.target)).refusals.append(refusal)
            current[place : place + 1] = [] if fixed is None else [fixed]
    for mirror in mirrors:
        finding = findings.setdefault(id(mirror.target), _finding(mirror.target))
        finding.mirror = mirror
    for one in current:
        if one.declaration is not None:
            findings[id(one.target)].left_out = tuple(sorted(one.declaration.exclude))
    found = sorted(findings.values(), key=lambda finding: finding.table)
    return Survey(found, _others(current, {finding.table for finding in found}))


def _others(declared: Iterable[Declared], known: set[str]) -> list[str]:
    """The names of the tables that are beside the declared ones and in none of them."""
    tables: set[Any] = set()
    for one in declared:
        mapper = inspect(one.target, raiseerr=False)
        below = mapper.self_and_descendants if isinstance(mapper, Mapper) else ()
        tables.update(*(each.tables for each in below), [_table(one.target)])
    beside = {table.metadata for table in tables if isinstance(table, Table)}
    names = {table.fullname for metadata in beside for table in metadata.tables.values()}
    return sorted(names - known - {getattr(table, "fullname", "") for table in tables})


def _finding(target: Any) -> Finding:
    return Finding(_name(target), _table_name(target))


def _name(target: Any) -> str:
    return f"table {target.name!r}" if isinstance(target, Table) else str(target.__qualname__)


def _table(target: Any) -> Any:
    return target if isinstance(target, Table) else inspect(target).local_table


def _table_name(target: Any) -> str:
    # A class may be mapped to a query, and is meant by its own name then.
    table = _table(target)
    return str(table.name) if isinstance(table, Table) else str(target.__name__)


def _meant(current: Sequence[Declared], error: InvalidDeclarationError) -> tuple[int, Declared]:
    """The declaration that was refused, and its place; a table between two models has none.

    Raises:
        InvalidDeclarationError: The error again, if it is about something else.
    """
    for place, one in enumerate(current):
        if one.declaration is not None and _name(one.target) == error.type_name:
            return place, one
    for one in current:
        if not isinstance(one.target, Table):
            for relation in inspect(one.target).relationships:
                table = relation.secondary
                if isinstance(table, Table) and error.type_name in (_name(table), table.name):
                    return len(current), Declared(table, Declaration(table.name, updated_at=None))
    raise error


def _fixed(one: Declared, error: InvalidDeclarationError) -> tuple[Refusal, Declared | None]:
    """Return what was refused, and the rest of the declaration; None if nothing is left."""
    declaration, name = one.declaration, error.field
    assert declaration is not None
    table_name = _table_name(one.target)
    at = f"{table_name}.{name}"
    if name is None or name in declaration.exclude:
        refusal = Refusal(error.reason, "exclude", table_name)
        return refusal, Declared(one.target, None) if isinstance(one.target, Table) else None
    if "local=" in error.reason and name not in declaration.local:
        fixed = attrs.evolve(declaration, local=declaration.local | {name})
        return Refusal(error.reason, "local", at), Declared(one.target, fixed)
    fixed = attrs.evolve(
        declaration, exclude=declaration.exclude | {name}, local=declaration.local - {name}
    )
    return Refusal(error.reason, "exclude", at), Declared(one.target, fixed)


def line_keys(mirror: Mirror) -> list[str]:
    """Return the keys of a model's lines, without the id."""
    fields = (field for shape in mirror.shapes for field in shape.fields.values())
    keys = [field.key for field in fields if field.key != "id" and not field.is_own]
    return list(dict.fromkeys([*keys, *([NUMBER] if mirror.is_counted else []), "updated_at"]))


def sample_line(mirror: Mirror, shape: Shape) -> bytes:
    """Return a line such as a row of a class would have, with made-up values."""
    shown = [field for field in shape.fields.values() if field.key != "id" and not field.is_own]
    values = {field.key: _sample(field) for field in shown}
    if mirror.is_counted:
        values[NUMBER] = 1
    for name, field in shape.fields.items():
        if name == mirror.discriminator and shape.identity is not None:
            values[field.key] = field.codec.encode(shape.identity)
    parts = [_sample(field) for field in mirror.key_fields]
    id = parts[0] if len(parts) == 1 else encode_value(parts).decode()
    return encode_value({"id": str(id), **values, "updated_at": _VERSION})


def _sample(field: Field) -> Any:
    if field.codec.python == "datetime":
        return _MOMENT
    return _SAMPLES[field.codec.kind]
