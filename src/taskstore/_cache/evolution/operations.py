"""The Alembic operations that evolve a log: `op.evolve_log` and `op.revert_log`.

They write one row into our table beside the application's own, in the same transaction as the
revision's DDL, online or with `--sql`. The store brings the row into the log when it is opened.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.operations import BatchOperations, MigrateOperation, Operations

from taskstore._cache.evolution.fingerprint_rows import State
from taskstore._cache.evolution.marks import mark_sql
from taskstore._cache.schema.models import DEFAULT, Models, build_models
from taskstore._evolution.decoding import (
    Evolution,
    check_revision,
    decode_evolution,
    decode_steps,
    encode_evolution,
)
from taskstore._evolution.stating import steps_of
from taskstore._evolution.steps import RenameCollection
from taskstore._records.evolutions import names_of
from taskstore.errors import (
    EvolutionSkippedWarning,
    InvalidDeclarationError,
)

_EMITTED = "taskstore_evolutions"
"""The key under which a migration's options hold what the running script has stated."""


@Operations.register_operation("evolve_log")
@BatchOperations.register_operation("evolve_log", "batch_evolve_log")
class EvolveLogOp(MigrateOperation):
    """State how older lines of a collection are read from this revision on."""

    def __init__(
        self,
        collection: str,
        changes: Mapping[str, Any],
        *,
        was: str | Sequence[str] = (),
        after: Sequence[str] | None = None,
        prefix: str = "",
        hint: str = "",
    ) -> None:
        self.names = names_of(collection, was)
        self.collection = collection
        self.changes = dict(changes)
        self.after = after
        self.prefix = prefix
        self.hint = hint

    def reverse(self) -> MigrateOperation:
        """Return the operation of the downgrade."""
        return RevertLogOp(self.collection, was=self.names[:-1], prefix=self.prefix)

    @classmethod
    def evolve_log(
        cls,
        operations: Operations,
        collection: str,
        *,
        was: str | Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        split: Mapping[str, tuple[Sequence[str], str]] | None = None,
        join: Mapping[str, tuple[Sequence[str], str]] | None = None,
        map: Mapping[str, Mapping[Any, Any]] | None = None,
        convert: Mapping[str, str | tuple[str, str]] | None = None,
        default: Mapping[str, Any] | None = None,
        drop: Iterable[str] = (),
        after: Sequence[str] | None = None,
        prefix: str = "",
    ) -> None:
        """State how lines from before this revision are read from now on.

        The steps are taken in the order of the arguments, so names after `rename` are new ones.

        Args:
            operations: The `op` of the running revision.
            collection: The collection.
            was: Its name before this revision; or all names before, oldest first. Its log keeps
                the first one.
            rename: The new name of each field.
            split: Fields that become several: `{"name": (["first", "last"], " ")}`.
            join: Fields that were several: `{"name": (["first", "last"], " ")}`.
            map: New values for old ones, by field.
            convert: The new JSON type of a field ("int", "float", "str", "bool"), or the old and
                the new one; with both a downgrade reads newer lines, too.
            default: Values for fields that older lines lack.
            drop: Fields that the record no longer has.
            after: The revisions before this one that evolved the collection. They are found
                without it, except in a script of `--sql` that begins after them.
            prefix: The prefix of our table names.

        Raises:
            InvalidDeclarationError: The steps cannot be stated, or no revision is running.
        """
        changes = {
            "rename": rename,
            "split": split,
            "join": join,
            "map": map,
            "convert": convert,
            "default": default,
            "drop": drop,
        }
        operations.invoke(cls(collection, changes, was=was, after=after, prefix=prefix))

    @classmethod
    def batch_evolve_log(
        cls, operations: BatchOperations, collection: str | None = None, **changes: Any
    ) -> None:
        """State the same inside `batch_alter_table`; the collection is that of the table's name.

        Args:
            operations: The batch.
            collection: Another collection.
            changes: See `evolve_log`.
        """
        impl = operations.impl
        own = ("was", "after", "prefix")
        known = {name: changes.pop(name) for name in own if name in changes}
        # The batch collects what concerns the table; this does not, and must not wait for it.
        outer = Operations(operations.migration_context)
        outer.invoke(cls(collection or impl.table_name, changes, **known))


@Operations.register_operation("revert_log")
@BatchOperations.register_operation("revert_log", "batch_revert_log")
class RevertLogOp(MigrateOperation):
    """Take back what this revision stated of a collection."""

    def __init__(self, collection: str, *, was: str | Sequence[str] = (), prefix: str = "") -> None:
        self.names = names_of(collection, was)
        self.collection = collection
        self.prefix = prefix

    def reverse(self) -> MigrateOperation:
        """Return an operation that states nothing but the names."""
        return EvolveLogOp(self.collection, {}, was=self.names[:-1], prefix=self.prefix)

    @classmethod
    def revert_log(
        cls,
        operations: Operations,
        collection: str,
        *,
        was: str | Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        """Read lines as before this revision again, newer ones as far as that can be done.

        Args:
            operations: The `op` of the running revision.
            collection: The collection.
            was: As `evolve_log` has it. Only a script of `--sql` needs it.
            prefix: The prefix of our table names.
        """
        operations.invoke(cls(collection, was=was, prefix=prefix))

    @classmethod
    def batch_revert_log(
        cls,
        operations: BatchOperations,
        collection: str | None = None,
        *,
        was: str | Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        """Do the same inside `batch_alter_table`; the collection is that of the table's name."""
        outer = Operations(operations.migration_context)
        outer.invoke(cls(collection or operations.impl.table_name, was=was, prefix=prefix))


@Operations.implementation_for(EvolveLogOp)
def _evolve(operations: Operations, operation: EvolveLogOp) -> None:
    table = _table(operations, operation.prefix)
    if table is None:
        return
    revision = _running_revision()
    emitted = _emitted(operations)
    log = _log_of(operations, table, operation.names)
    try:
        steps = decode_steps(steps_of({"collection": operation.names[-2:], **operation.changes}))
        known = emitted.get((log, revision))
        if known is not None:
            steps = (*known.steps, *steps)
        parents = operation.after
        if parents is None:
            parents = _parents(operations, table, log, revision)
        evolution = Evolution(log, check_revision(revision), tuple(sorted(parents)), steps)
        line = encode_evolution(evolution)
        decode_evolution(line)
    except ValueError as error:
        raise InvalidDeclarationError("evolve_log", reason=str(error)) from None
    emitted[log, revision] = evolution
    _mark(operations, operation.prefix, log)
    state = State(revision, line.decode(), applied=True)
    operations.execute(sa.delete(table).where(_place(operations, table, log, revision)))
    literal = operations.inline_literal
    values = {"collection": literal(log), "revision": literal(state.revision)}
    values |= {"line": literal(state.line), "applied": literal(True)}
    operations.execute(table.insert().values(values))


@Operations.implementation_for(RevertLogOp)
def _revert(operations: Operations, operation: RevertLogOp) -> None:
    table = _table(operations, operation.prefix)
    if table is not None:
        log = _log_of(operations, table, operation.names)
        statement = sa.update(table).where(_place(operations, table, log, _running_revision()))
        _mark(operations, operation.prefix, log)
        operations.execute(statement.values(applied=operations.inline_literal(False)))


def _log_of(operations: Operations, table: sa.Table, names: Sequence[str]) -> str:
    """Return the name of the log of a collection: its first name, as far as that can be known.

    Args:
        operations: The `op` of the running revision.
        table: Ours, which has the evolutions that the database has behind it.
        names: The names of the collection that the revision states, oldest first.
    """
    found = list(_emitted(operations).values())
    if not operations.get_context().as_sql:
        lines = operations.get_bind().execute(sa.select(table.c.line)).scalars()
        for line in lines:
            # The store reports it if this cannot be read.
            with contextlib.suppress(ValueError):
                found.append(decode_evolution(line))
    logs = {
        step.to: one.collection
        for one in found
        for step in one.steps
        if isinstance(step, RenameCollection)
    }
    return next((logs[name] for name in reversed(names) if name in logs), names[0])


def _table(operations: Operations, prefix: str) -> sa.Table | None:
    """Return our table. If the database has none, warn and return None."""
    models: Models = DEFAULT if not prefix else build_models(prefix=prefix)
    table: Any = models.LogEvolution.__table__
    context = operations.get_context()
    if context.as_sql or sa.inspect(operations.get_bind()).has_table(table.name):
        return sa.Table(table.name, sa.MetaData(), *(_copied(column) for column in table.columns))
    warnings.warn(
        f"the database has no table {table.name!r}, so its log is not taken along: let a revision "
        'before this one call taskstore.migrations.upgrade(op, "0009"), or, after the upgrade, '
        "write the rows with store.export(...)",
        EvolutionSkippedWarning,
        stacklevel=2,
    )
    return None


def _mark(operations: Operations, prefix: str, log: str) -> None:
    """Note which rows that wait for the log on PostgreSQL are from before the evolution."""
    if operations.get_context().dialect.name == "postgresql":
        models: Models = DEFAULT if not prefix else build_models(prefix=prefix)
        states: Any = models.MirrorState.__table__
        sql = mark_sql(log, states.name, f"{prefix}taskstore_outbox")
        # Alembic takes a colon before a name for a parameter.
        operations.execute(sql.replace(":", r"\:"))


def _copied(column: Any) -> sa.Column[Any]:
    return sa.Column(column.name, column.type, primary_key=column.primary_key)


def _place(operations: Operations, table: sa.Table, collection: str, revision: str) -> Any:
    literal = operations.inline_literal
    return (table.c.collection == literal(collection)) & (table.c.revision == literal(revision))


def _running_revision() -> str:
    """Return the revision whose script is running.

    Alembic does not tell an operation; each script has it among its globals.

    Raises:
        InvalidDeclarationError: None is.
    """
    frame = sys._getframe(1)
    while frame is not None:
        names = frame.f_globals
        if isinstance(names.get("revision"), str) and "down_revision" in names:
            revision: str = names["revision"]
            return revision
        frame = frame.f_back  # type: ignore[assignment]
    raise InvalidDeclarationError(
        "evolve_log", reason="call it in upgrade() or downgrade() of an Alembic revision"
    )


def _emitted(operations: Operations) -> dict[tuple[str, str], Evolution]:
    found: dict[tuple[str, str], Evolution] = operations.get_context().opts.setdefault(_EMITTED, {})
    return found


def _parents(operations: Operations, table: sa.Table, collection: str, revision: str) -> list[str]:
    """Return the nearest revisions before one that evolved the same collection."""
    known = {name for of, name in _emitted(operations) if of == collection}
    context = operations.get_context()
    if not context.as_sql:
        query = sa.select(table.c.revision).where(table.c.collection == collection)
        known.update(operations.get_bind().execute(query).scalars())
    if context.script is None:
        return sorted(known - {revision})
    found: dict[str, None] = {}
    seen: set[str] = set()
    pending = _before(context.script, revision)
    while pending:
        name = pending.pop()
        if name in known:
            found[name] = None
        elif name not in seen:
            pending += _before(context.script, name)
        seen.add(name)
    return list(found)


def _before(directory: Any, revision: str) -> list[str]:
    script = directory.get_revision(revision)
    # A revision's dependencies come before it, too.
    return [name for name in script._all_down_revisions if name is not None]
