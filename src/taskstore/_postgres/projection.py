"""From the logs into the tables, after git has changed them.

All is done in one transaction. It first locks the mirrored tables against writers, then drains
what waits in the outbox, so that nothing is overwritten that the log does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
from sqlalchemy import literal, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, StatementError

from taskstore._cache.schema.models import Models
from taskstore._format.problems import Problem
from taskstore._mirror.capture.missing_logs import count_rows
from taskstore._mirror.model.shape import Mirror, Row, Shape
from taskstore._mirror.projection.projecting import tables_in_order
from taskstore._mirror.projection.wanted_rows import equals
from taskstore._mirror.tables.reading import read_rows
from taskstore._postgres.allocation import Allocation, Numbers
from taskstore._postgres.cache import CacheTables
from taskstore._postgres.context import PostgresContext
from taskstore._postgres.incoming import Incoming, LogRead
from taskstore._postgres.names import execute_sql, quoted_table
from taskstore._postgres.writing import TableWriter
from taskstore._sync.freshness import looks_fresh
from taskstore._sync.report import CollectionReport

_PASSES = 3
"""How often rows are tried that refer to others, which may come first."""


@attrs.define
class Plan:
    """The wanted state of one table.

    Attributes:
        mirror: The model.
        rows: To be written, by id.
        gone: The keys of those to be deleted, by id.
        refused: Why records are not in the table as the log has them.
    """

    mirror: Mirror
    rows: dict[str, Row] = attrs.field(factory=dict)
    gone: dict[str, tuple[Any, ...]] = attrs.field(factory=dict)
    refused: dict[str, str] = attrs.field(factory=dict)


def lock_tables(connection: Connection, mirrors: Iterable[Mirror]) -> None:
    """Keep writers out of mirrored tables until the transaction ends; readers go on.

    It waits for a moment only, for a writer may wait for us in turn.
    """
    names = _quoted(connection, mirrors)
    if names:
        _lock(connection, names, "SHARE ROW EXCLUSIVE")


def share_tables(connection: Connection, mirrors: Iterable[Mirror]) -> None:
    """Keep migrations out of mirrored tables until the transaction ends; all others go on.

    To an older snapshot, a rewritten table looks empty. So lock first, and take the snapshot then.
    """
    names = _quoted(connection, mirrors)
    if names:
        _lock(connection, names, "ACCESS SHARE")


def lock_records(connection: Connection, models: Models) -> None:
    """Keep writers out of the store's own records until the transaction ends; readers go on.

    Calls that write lock rows first, and this lock makes them wait before that.
    """
    tables: Any = (models.StoredRecord.__table__, models.Tombstone.__table__)
    names = [quoted_table(table, connection.dialect) for table in tables]
    _lock(connection, names, "EXCLUSIVE")


def _quoted(connection: Connection, mirrors: Iterable[Mirror]) -> list[str]:
    tables = (table for mirror in mirrors for table in mirror.tables)
    return [quoted_table(table, connection.dialect) for table in tables]


def _lock(connection: Connection, names: Iterable[str], mode: str) -> None:
    # One trip to the server, because each drain makes it.
    execute_sql(
        connection,
        "SET LOCAL lock_timeout = '300ms'; SET LOCAL statement_timeout = 0; "
        f"LOCK TABLE {', '.join(sorted(names))} IN {mode} MODE; SET LOCAL lock_timeout = 0",
    )


@attrs.define
class Projection:
    """One sync, in a transaction that holds the tables.

    Attributes:
        context: The store.
        connection: In the transaction.
        force: Whether to read also the logs that look as they did.
        prune: Whether to take what the logs say also for rows that they never had.
        again: The collections to read in any case, because their shape has changed.
        missing: The models whose log is missing, with how many rows there are.
    """

    context: PostgresContext
    connection: Connection
    force: bool = False
    prune: bool = False
    again: Collection[str] = ()
    missing: list[tuple[Mirror, int]] = attrs.field(factory=list)
    _plans: list[Plan] = attrs.field(factory=list)
    _numbers: Numbers = attrs.field(factory=dict)

    def run(self) -> dict[str, CollectionReport]:
        """Update the tables from the logs, and return what was read of each log."""
        tables = CacheTables(self.connection, self.context.store.models)
        known = tables.fingerprints()
        reports = {}
        for name, mirror in self.context.mirrors.items():
            is_fresh = looks_fresh(known.get(name), self.context.store.layout.stat_log(name))
            is_known = name in known or not self._has_rows(mirror)
            # The row that a refused row refers to may come with another log.
            is_asked = self.force or name in self.again or tables.refusals(name)
            if is_fresh and is_known and not is_asked:
                reports[name] = CollectionReport(name, "fresh", 0, *tables.count(name))
                continue
            incoming = Incoming(self.context.store, self.connection, name)
            with incoming.loaded() as read:
                reports[name] = self._collection(mirror, incoming, read, tables)
        self._apply_all()
        for plan in self._plans:
            tables.put_refusals(plan.mirror.collection, plan.refused)
        return reports

    def untouched(self, collection: str, ids: Iterable[str]) -> list[str]:
        """Return those of some records whose lines have not changed; none if the log is missing."""
        plan = next((one for one in self._plans if one.mirror.collection == collection), None)
        if plan is None:
            return []
        touched = plan.rows.keys() | plan.gone.keys() | plan.refused.keys()
        return [id for id in ids if id not in touched]

    def _has_rows(self, mirror: Mirror) -> bool:
        found = self.connection.execute(select(literal(1)).select_from(mirror.table).limit(1))
        return found.first() is not None

    def _collection(
        self, mirror: Mirror, incoming: Incoming, read: LogRead, tables: CacheTables
    ) -> CollectionReport:
        name = mirror.collection
        rows = self._unlogged(mirror, incoming, read, tables)
        if rows:
            self.missing.append((mirror, rows))
            return CollectionReport(name, "missing", 0, None, None)
        plan = self._planned(mirror, incoming, tables)
        plan.refused |= dict.fromkeys(read.unusable, "PostgreSQL has no NUL in text")
        plan.refused |= read.hidden
        self._plans.append(plan)
        incoming.store_all(read)
        if read.replay is None:
            return CollectionReport(name, "removed" if plan.gone else "fresh", 0, 0, 0)
        problems = tuple(read.replay.problems)
        return CollectionReport(
            name, "replayed", read.replay.lines, *tables.count(name), problems, len(problems)
        )

    def _unlogged(
        self, mirror: Mirror, incoming: Incoming, read: LogRead, tables: CacheTables
    ) -> int:
        """Return how many rows stand beside a log that is not theirs."""
        if self.prune or incoming.has_own_log():
            return 0
        has_any = read.replay is not None and len(read.replay) > 0
        if has_any and not tables.count(mirror.collection)[0] and not mirror.is_counted:
            return 0
        return count_rows(self.connection, mirror)

    def _planned(self, mirror: Mirror, incoming: Incoming, tables: CacheTables) -> Plan:
        plan = Plan(mirror)
        again = list(tables.refusals(mirror.collection))
        strange = []
        for id, line, is_known in incoming.changed(again, everything=self.force):
            try:
                plan.rows[id] = mirror.decoded(id, line)
            except ValueError as error:
                plan.refused[id] = str(error)
                continue
            if not is_known:
                strange.append(id)
        for id in incoming.gone():
            try:
                plan.gone[id] = mirror.key_of(id)
            except ValueError as error:
                plan.refused[id] = str(error)
        if strange and not self.prune:
            self._spare(plan, strange)
        if self.prune:
            self._prune(plan, incoming)
        return plan

    def _spare(self, plan: Plan, strange: Sequence[str]) -> None:
        """Keep rows that were never logged and differ from the lines that come."""
        mirror = plan.mirror
        if not self._has_rows(mirror):
            return
        for id, current in read_rows(self.connection, mirror, strange, lenient=True).items():
            row = plan.rows.pop(id)
            if current.shape is not row.shape or not equals(mirror, row, current):
                plan.refused[id] = (
                    "the row that is there was never logged here, differs from its line, and is "
                    f"kept: store.export({mirror.name}) writes it, store.sync(prune=True) takes "
                    "what the logs say"
                )

    def _prune(self, plan: Plan, incoming: Incoming) -> None:
        mirror = plan.mirror
        live = incoming.live()
        columns = [field.typed(field.column) for field in mirror.key_fields]
        for key in self.connection.execute(select(*columns)):
            id = mirror.id_of(key)
            if id not in live:
                plan.gone[id] = tuple(key)

    def _apply_all(self) -> None:
        """Apply the plans, with numbers for the records in tables that the database counts."""
        numbers = Allocation(self.connection, self.context.store.models, self.context.mirrors)
        plans = {plan.mirror.collection: plan for plan in self._plans}
        rows = {name: plan.rows for name, plan in plans.items()}
        numbers.give(rows, {name: plan.gone for name, plan in plans.items()})
        for plan in self._plans:
            self._resolve(plan, numbers)
        self._numbers = numbers.numbers
        self._apply(self._plans)
        numbers.end(
            {name: plan.gone.keys() - plan.refused.keys() for name, plan in plans.items()},
            {name: plan.refused for name, plan in plans.items()},
        )

    def _resolve(self, plan: Plan, numbers: Allocation) -> None:
        """Leave out rows and keys that refer to records that are not there."""
        mirror = plan.mirror
        numbers.load(mirror, plan.rows.values(), plan.gone.values())
        for id, row in list(plan.rows.items()):
            reason = numbers.missing(mirror, row)
            if reason:
                plan.refused[id] = reason
                del plan.rows[id]
        for id, key in list(plan.gone.items()):
            parts = zip(mirror.key_fields, key, strict=True)
            if any(
                field.translated is not None
                and one not in numbers.numbers[field.translated.collection]
                for field, one in parts
            ):
                # Without the record that it refers to, there is no row to delete.
                del plan.gone[id]

    def _apply(self, plans: Sequence[Plan]) -> None:
        """Write and delete, all at once if the constraints let it pass, else row by row."""
        ordered = _parents_first([plan for plan in plans if plan.rows or plan.gone])
        if not ordered:
            return
        self.context.begin_projecting(self.connection)
        for steps in (_puts_first, _deletes_first):
            if self._attempt(partial(self._run, steps, ordered)) is None:
                return
        if self._attempt(partial(self._run_in_circles, ordered)) is None:
            return
        pending = _singly(ordered)
        for _ in range(_PASSES):
            pending = [step for step in pending if not self._one(step)]

    def _run(
        self, steps: Callable[[Sequence[Plan]], Iterator[_Step]], plans: Sequence[Plan]
    ) -> None:
        for step in steps(plans):
            step.run(self.connection, self._numbers)

    def _run_in_circles(self, plans: Sequence[Plan]) -> None:
        """Write and delete rows of tables that refer to each other.

        The references that may be null are written when all rows are there.
        """
        new = [attrs.evolve(plan, rows=_unlinked(plan)) for plan in plans]
        self._run(_puts, new)
        self._run(_puts_first, plans)

    def _one(self, step: _Step) -> bool:
        reason = self._attempt(partial(step.run, self.connection, self._numbers))
        refused = step.plan.refused
        for id in step.ids:
            if reason is None:
                refused.pop(id, None)
            else:
                refused[id] = reason
        return reason is None

    def _attempt(self, work: Callable[[], None]) -> str | None:
        """Do something in a savepoint; return why the database refused it, None if it did not."""
        try:
            with self.connection.begin_nested():
                work()
        except StatementError as error:
            if isinstance(error, DBAPIError) and not _is_refusal(error):
                raise
            return str(error.orig).strip()
        except Exception as error:
            # COPY raises what the driver raises.
            if not str(getattr(error, "sqlstate", None) or "").startswith(("22", "23", "P0")):
                raise
            return str(error).strip()
        return None


@attrs.frozen
class _Step:
    """Rows of one table to be written, or to be deleted."""

    plan: Plan
    ids: tuple[str, ...]
    deletes: bool

    def run(self, connection: Connection, numbers: Numbers) -> None:
        writer = TableWriter(connection, self.plan.mirror, numbers)
        if self.deletes:
            writer.delete([self.plan.gone[id] for id in self.ids])
        else:
            writer.put([self.plan.rows[id] for id in self.ids])


def _puts(plans: Sequence[Plan]) -> Iterator[_Step]:
    for plan in plans:
        if plan.rows:
            yield _Step(plan, tuple(plan.rows), deletes=False)


def _deletes(plans: Sequence[Plan]) -> Iterator[_Step]:
    for plan in reversed(plans):
        if plan.gone:
            yield _Step(plan, tuple(plan.gone), deletes=True)


def _puts_first(plans: Sequence[Plan]) -> Iterator[_Step]:
    yield from _puts(plans)
    yield from _deletes(plans)


def _deletes_first(plans: Sequence[Plan]) -> Iterator[_Step]:
    yield from _deletes(plans)
    yield from _puts(plans)


def _unlinked(plan: Plan) -> dict[str, Row]:
    """Return the rows of a plan without the references that may be null."""
    links: dict[Shape, dict[str, None]] = {}
    for shape in plan.mirror.shapes:
        names = {
            field.name
            for field in shape.fields.values()
            if all(column.nullable for column in field.columns)
            and any(column.foreign_keys for column in field.columns)
        }
        links[shape] = dict.fromkeys(names)
    return {
        id: attrs.evolve(row, values={**row.values, **links[row.shape]})
        for id, row in plan.rows.items()
    }


def _singly(plans: Sequence[Plan]) -> list[_Step]:
    return [_Step(step.plan, (id,), step.deletes) for step in _puts_first(plans) for id in step.ids]


def _parents_first(plans: Sequence[Plan]) -> list[Plan]:
    ordered = tables_in_order(table for plan in plans for table in plan.mirror.tables)
    places = {table: place for place, table in enumerate(ordered)}
    return sorted(plans, key=lambda plan: max(places[table] for table in plan.mirror.tables))


def _is_refusal(error: DBAPIError) -> bool:
    """Return whether the database refused the data: by a constraint, a value or a trigger."""
    return str(getattr(error.orig, "sqlstate", None) or "").startswith(("22", "23", "P0"))


def refusals_of(
    context: PostgresContext, tables: CacheTables, names: Iterable[str]
) -> Iterator[Problem]:
    """Yield the records of some collections that their tables lack, as problems of the logs."""
    for name in names:
        mirror = context.mirrors.get(name)
        begin = "" if mirror is None else f"not applied to the table {mirror.table.name!r}: "
        path = str(context.store.layout.log_path(name))
        for id, reason in sorted(tables.refusals(name).items()):
            yield Problem(name, path, None, f"{begin}{reason}", id)
