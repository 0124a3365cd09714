"""Alembic's autogenerate: state evolutions next to the changes of mirrored tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _alembic_autogenerate_prefix as prefix_of
from alembic.operations import ops
from alembic.util import langhelpers
from sqlalchemy.types import TypeEngine

from taskstore._api.opening import mirrors_of
from taskstore._cache.evolution.operations import EvolveLogOp, RevertLogOp
from taskstore._cache.schema.models import DEFAULT
from taskstore._cache.schema.revisions import MIRRORED
from taskstore._evolution.stating import ORDER
from taskstore._mirror.model.shape import Field, Mirror

_TYPES = {int: "int", float: "float", str: "str", bool: "bool"}


# Alembic runs its own comparisons after others, unless the others ask to be last. Before 1.18, it
# runs them in the order of their registration.
_LAST: Any = getattr(langhelpers, "DispatchPriority", None)


@comparators.dispatch_for("schema", **({} if _LAST is None else {"priority": _LAST.LAST}))
def _state_evolutions(context: AutogenContext, upgrade_ops: Any, schemas: Any) -> None:
    """Add to the changes of each mirrored table how to read older lines."""
    connection = context.connection
    targets = connection.info.get(MIRRORED) if connection is not None else None
    if not targets or connection is None:
        return
    mirrored = {
        table.name: mirror
        for mirror in mirrors_of(targets, connection.engine, DEFAULT)
        for shape in mirror.shapes
        for table in shape.tables
    }
    for change in upgrade_ops.ops:
        if isinstance(change, ops.ModifyTableOps) and change.table_name in mirrored:
            found = _evolution(mirrored[change.table_name], change.ops)
            if found is not None:
                change.ops.append(found)


def _evolution(mirror: Mirror, changes: list[Any]) -> EvolveLogOp | None:
    fields = {column.name: field for field in _fields(mirror) for column in field.columns}
    drop: dict[str, TypeEngine[Any] | None] = {}
    add: dict[str, TypeEngine[Any]] = {}
    convert: dict[str, Any] = {}
    default: dict[str, Any] = {}
    hints: list[str] = []
    for change in changes:
        if isinstance(change, ops.AddColumnOp) and change.column.name in fields:
            field = fields[change.column.name]
            add[field.key] = change.column.type
            hints += _default(field, default)
        elif isinstance(change, ops.DropColumnOp):
            column = change._reverse.column if change._reverse is not None else None
            drop[change.column_name] = None if column is None else column.type
        elif isinstance(change, ops.AlterColumnOp) and change.column_name in fields:
            key = fields[change.column_name].key
            if change.modify_type is not None:
                hints += _convert(key, change.existing_type, change.modify_type, convert)
    for old, type_ in drop.items():
        hints += [
            f"if {old!r} has become {new!r}: rename={{{old!r}: {new!r}}}, and no drop and default"
            for new, other in add.items()
            if _json_type(type_) == _json_type(other)
        ]
    stated = {"convert": convert, "default": default, "drop": list(drop)}
    stated = {kind: value for kind, value in stated.items() if value}
    if not stated and not hints:
        return None
    return EvolveLogOp(mirror.collection, stated, hint="\n".join(hints))


def _fields(mirror: Mirror) -> Iterator[Field]:
    for shape in mirror.shapes:
        yield from shape.fields.values()


def _default(field: Field, default: dict[str, Any]) -> list[str]:
    """Note the default of a new column, and return what a person has to decide."""
    raw = field.default()
    if raw is not None:
        default[field.key] = msgspec.json.decode(raw)
    elif field.column.nullable:
        default[field.key] = None
    else:
        return [f"older lines lack {field.key!r}: state it with default={{{field.key!r}: ...}}"]
    return []


def _convert(key: str, before: Any, after: Any, convert: dict[str, Any]) -> list[str]:
    was, to = _json_type(before), _json_type(after)
    if was == to:
        return []
    if to is None or was is None:
        return [f"{key!r} has another type: state it with map={{{key!r}: ...}}, if lines change"]
    convert[key] = (was, to)
    return []


def _json_type(type_: Any) -> str | None:
    try:
        return _TYPES.get(type_.python_type)
    except (AttributeError, NotImplementedError):
        return None


@renderers.dispatch_for(EvolveLogOp)
def _render_evolve(context: AutogenContext, operation: EvolveLogOp) -> list[str]:
    comments = [f"# {line}" for line in operation.hint.splitlines()]
    given = [f"{kind}={operation.changes[kind]!r}" for kind in ORDER if operation.changes.get(kind)]
    if not given:
        return comments
    call = ", ".join([repr(operation.collection), *given])
    return [*comments, f"{prefix_of(context)}evolve_log({call})"]


@renderers.dispatch_for(RevertLogOp)
def _render_revert(context: AutogenContext, operation: RevertLogOp) -> str:
    return f"{prefix_of(context)}revert_log({operation.collection!r})"
