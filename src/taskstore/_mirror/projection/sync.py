"""Update mirrored tables when lines of their collections change in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
from sqlalchemy.engine import Connection

from taskstore._cache.evolution.fingerprint_rows import State
from taskstore._cache.rows.records import Stored
from taskstore._cache.rows.rows import Rows
from taskstore._cache.schema.names import BEHIND, CREATED, MIGRATED, WRITTEN
from taskstore._evolution.decoding import encode_evolution
from taskstore._format.problems import Problem
from taskstore._mirror.capture.missing_logs import count_rows, has_line_of, missing_error
from taskstore._mirror.capture.numbers import adopt, complete
from taskstore._mirror.model.registry import attributes_in, is_same_model, registry
from taskstore._mirror.model.shape import Mirror, Row
from taskstore._mirror.projection.allocation import Allocation, first_to_go
from taskstore._mirror.projection.answers import project
from taskstore._mirror.projection.recognition import recognise
from taskstore._mirror.projection.wanted import Key, WantedRow
from taskstore._mirror.projection.wanted_rows import (
    DIFFERS,
    REMOVED,
    differs,
    is_newer,
    kept,
    wanted_row,
)
from taskstore._mirror.tables.reading import any_row, ids_in, read_rows
from taskstore._store.context import StoreContext
from taskstore._sync.report import SyncReport
from taskstore._unit.unit import Unit

_AT_ONCE = 500
_ELSEWHERE = "it came while a store was open that does not mirror the table"


@attrs.define
class _Touched:
    """What a sync has done to one collection.

    Attributes:
        changed: Ids that were written or deleted.
        removed: Ids of live records that the log held, and does not any more.
        held: How many live records there were before.
        known: What the cache had of each id; None while it can be asked.
        new: The ids among those changed that it had not.
        before: The orders of live records before they were changed.
        doubtful: Whether a row that is newer than its line counts as one that was never logged.
        behind: The ids of which that is true of a row as new as its line, too.
        digests: What the lines say of what is looked at because its shape has changed.
        logged: The attributes whose values were the same in rows and lines. Where they differ now,
            something else has written the row.
    """

    changed: dict[str, None] = attrs.field(factory=dict)
    removed: dict[str, None] = attrs.field(factory=dict)
    held: int = 0
    known: Mapping[str, Stored] | None = None
    new: set[str] = attrs.field(factory=set)
    before: dict[str, int] = attrs.field(factory=dict)
    doubtful: bool = False
    behind: set[str] = attrs.field(factory=set)
    digests: dict[str, bytes] = attrs.field(factory=dict)
    logged: frozenset[str] = frozenset()

    def unchanged(self, before: Mapping[str, bytes]) -> set[str]:
        """Return the ids whose lines say what they said before."""
        return {id for id, digest in self.digests.items() if before.get(id) == digest}


@attrs.define
class MirrorSync:
    """The part of one sync that is about mirrored tables.

    Attributes:
        context: The store.
        connection: In the sync's write transaction.
        rows: On that connection.
        unit: Of that transaction.
        prune: Whether to give up rows that the log does not have.
    """

    context: StoreContext
    connection: Connection
    rows: Rows
    unit: Unit
    prune: bool = False
    _touched: dict[str, _Touched] = attrs.field(factory=dict)
    _dropped: dict[str, list[str]] = attrs.field(factory=dict)
    _strange: dict[str, set[str]] = attrs.field(factory=dict)
    _removable: dict[str, set[str]] = attrs.field(factory=dict)
    _elsewhere: frozenset[str] = frozenset()

    def catch_up(self, reshaped: Mapping[str, Mapping[str, bytes]]) -> None:
        """Update tables from the cache, if that was not done for their present models.

        Without this, a column that was added would stay empty where its lines had come before, and
        the next edit of the row would write that to the log.

        Args:
            reshaped: The collections whose lines have just been read in another shape, with a
                digest of what each record's line would say now, had it stayed the same.
        """
        digests = registry(self.context).digests
        states = self.rows.mirror_states()
        self._elsewhere = frozenset(states.keys() - digests.keys())
        late = late_mirrors(self.context, self.connection, self.rows, states)
        late += [name for name in reshaped if name in digests and name not in late]
        if not late:
            return
        for collection in late:
            state, before = states.get(collection), reshaped.get(collection)
            touched = self._touched[collection] = self._all_of(collection, state, before)
            # Their lines are the same. Where rows differ, the upgrade has written them.
            same = touched.unchanged(before or {})
            if state in ("", BEHIND):
                touched.behind = same
            elif state not in (None, CREATED):
                touched.new |= same
            if state == MIGRATED:
                self._note_removable(collection, same)
        prune, self.prune = self.prune, False
        self.project()
        self.prune = prune
        self._touched.clear()
        for collection in late:
            if states.get(collection) in (None, CREATED):
                self._note_reached(collection)
            if states.get(collection) not in WRITTEN:
                self.rows.set_mirror_state(collection, digests[collection])

    def _note_reached(self, collection: str) -> None:
        """Note the evolutions that a new table has, where no migrations have said so.

        Those that come later are none of its own, until migrations say that they are.
        """
        graph = self.context.shapes.of(collection).graph
        if graph.evolutions and collection not in self.rows.evolutions():
            states = [
                State(name, encode_evolution(one).decode(), applied=True)
                for name, one in graph.evolutions.items()
            ]
            self.rows.set_evolutions(collection, states)

    def _note_removable(self, collection: str, same: set[str]) -> None:
        """Note which rows, if they are gone, migrations have removed.

        Not those that never came into the table; and an empty one was rebuilt.
        """
        mirror = registry(self.context).by_collection[collection]
        if any_row(self.connection, mirror):
            unfit = self.rows.problems(collection).items()
            never_came = {id for id, reason in unfit if reason != REMOVED}
            self._removable[collection] = same - never_came

    def _all_of(
        self, collection: str, state: str | None, before: Mapping[str, bytes] | None
    ) -> _Touched:
        """Return everything that the cache has for a table with a given state.

        Args:
            collection: The collection.
            state: The state; None for never looked at.
            before: Digests of what records said before the log was read; None if it was not.
        """
        touched = _Touched(doubtful=True)
        is_settled = state not in (None, "", BEHIND, CREATED)
        if state is not None and is_settled and state != MIGRATED and before is None:
            touched.logged = attributes_in(state)
        for id, known in self.rows.in_order(collection):
            # Where only the model has changed, each deletion has reached the table: a row that is
            # there has come since.
            has_come = before is not None and before.get(id) != known.digest
            if not known.deleted or not is_settled or has_come:
                touched.changed[id] = None
                if before is not None and known.line is not None:
                    touched.digests[id] = known.digest
        if state is None:
            touched.new = touched.changed.keys() - self.rows.problems(collection).keys()
        return touched

    def begin(self, collection: str, *, force: bool) -> None:
        """Before the log of a collection is looked at."""
        self.rows.on_change = None
        if collection not in {*registry(self.context).by_collection, *self._elsewhere}:
            return
        self.rows.on_change = self._note
        live, dead = self.rows.counts(collection)
        touched = self._touched[collection] = _Touched(held=live)
        if force:
            touched.known = {
                # Without its line, which may be long.
                id: Stored(None if known.deleted else "", known.order_us)
                for id, known in self.rows.in_order(collection)
            }
            self._dropped[collection] = [
                id for id, known in touched.known.items() if not known.deleted
            ]
        elif not live and not dead:
            touched.known = {}

    def _note(self, collection: str, changed: Iterable[str], removed: Iterable[str]) -> None:
        touched = self._touched.get(collection)
        if touched is None:
            return
        ids = list(changed)
        touched.changed.update(dict.fromkeys(ids))
        known = touched.known if touched.known is not None else self.rows.stored(collection, ids)
        for id in ids:
            if id not in known:
                touched.new.add(id)
            elif not known[id].deleted:
                touched.before[id] = known[id].order_us
        gone = list(removed)
        if gone:
            stored = self.rows.stored(collection, gone)
            touched.removed.update(
                dict.fromkeys(id for id in gone if id in stored and not stored[id].deleted)
            )

    def is_missing(self, collection: str) -> bool:
        """Return whether the log that was just read says nothing of the rows beside it."""
        mirror = registry(self.context).by_collection.get(collection)
        if mirror is None:
            return False
        self._note_dropped(collection)
        if self.prune:
            return False
        touched = self._touched[collection]
        is_empty = not any(self.rows.counts(collection))
        if not (is_empty or self._is_another(collection, touched)):
            return False
        if not any_row(self.connection, mirror):
            return False
        self._touched[collection] = _Touched()
        return True

    def _is_another(self, collection: str, touched: _Touched) -> bool:
        """Return whether a log lacks records that were there, and has no line of those that it has.

        A common id alone says little: keys that people choose are the same in many projects.
        """
        if not touched.removed:
            return False
        if len(touched.removed.keys() | touched.before.keys()) < touched.held:
            return False
        return not has_line_of(self.context, collection, touched.before)

    def _note_dropped(self, collection: str) -> None:
        """Of what was dropped before the log was read again: what did not come back?"""
        ids = self._dropped.pop(collection, [])
        touched = self._touched[collection]
        for some in _chunks(ids):
            stored = self.rows.stored(collection, some)
            touched.removed.update(dict.fromkeys(id for id in some if id not in stored))

    def project(self) -> tuple[Problem, ...]:
        """Update the tables from the logs, and return the lines that they refuse."""
        self.rows.on_change = None
        unfit: dict[tuple[str, str], str] = {}
        changed = {name: touched.changed for name, touched in self._touched.items()}
        if any(changed.values()):
            complete(self.context, self.connection)
            recognise(self.context, self.connection, changed)
        targets = [
            target for mirror in registry(self.context) for target in self._targets(mirror, unfit)
        ]
        if targets:
            unfit |= self._projected(targets)
        problems: list[Problem] = []
        for mirror in registry(self.context):
            collection = mirror.collection
            reasons = {id: why for (of, id), why in unfit.items() if of == collection}
            never_logged = self._strange.get(collection, set()) & reasons.keys()
            if (reasons, never_logged) != (
                self.rows.problems(collection),
                self.rows.never_logged(collection),
            ):
                self.rows.set_problems(collection, reasons, never_logged)
            problems += problems_of(self.context, mirror, reasons)
        for collection in self._elsewhere & self._touched.keys():
            self.rows.note_never_logged(collection, self._touched[collection].new, _ELSEWHERE)
        return tuple(problems)

    def _projected(self, targets: Sequence[WantedRow]) -> dict[Key, str]:
        """Write the wanted rows; return why the others were refused."""
        early = first_to_go(self.context, self.connection, targets)
        if early:
            targets = self._left(targets, early)
            if not {target.key for target in early}.isdisjoint(target.key for target in targets):
                # Rows that are to change refer to them still.
                targets = self._left(
                    targets, [target for target in targets if target.current is not None]
                )
        return self._applied(targets)

    def _left(self, targets: Sequence[WantedRow], early: Sequence[WantedRow]) -> list[WantedRow]:
        """Write some wanted rows; return all but those that could be."""
        refused = self._applied(early)
        done = {target.key for target in early if target.key not in refused}
        return [target for target in targets if target.key not in done]

    def _applied(self, targets: Sequence[WantedRow]) -> dict[Key, str]:
        allocation = Allocation(self.context, self.connection, targets)
        allocation.begin()
        refused = project(self.context, self.connection, self.unit, self.rows, targets)
        allocation.end(refused)
        return refused

    def _targets(self, mirror: Mirror, unfit: dict[tuple[str, str], str]) -> Iterator[WantedRow]:
        touched = self._touched.get(mirror.collection) or _Touched()
        strange = touched.new | self.rows.never_logged(mirror.collection)
        if self.prune or self.rows.mirror_states().get(mirror.collection) == CREATED:
            # Migrations that run on an empty table repeat what others have logged since.
            strange = set()
        self._strange[mirror.collection] = strange
        removable = self._removable.get(mirror.collection, set())
        refused = self.rows.problems(mirror.collection).keys() if touched.logged else set()
        ids, given_up = self._ids(mirror, touched)
        for id, known, row in self._known_and_there(mirror, ids):
            if known is not None and known.revision is not None:
                unfit[mirror.collection, id] = f"its line is of the revision {known.revision!r}"
                continue
            is_strange = id in strange or (
                touched.doubtful and is_newer(mirror, known, row, or_equal=id in touched.behind)
            )
            if is_strange:
                strange.add(id)
            if row is None and id in removable and known and known.line:
                unfit[mirror.collection, id] = REMOVED
                continue
            try:
                target = wanted_row(
                    mirror, id, known, row, is_given_up=id in given_up, is_strange=is_strange
                )
            except ValueError as error:
                unfit[mirror.collection, id] = str(error)
                continue
            if target is None:
                continue
            if id not in refused and differs(target, touched.logged):
                strange.add(id)
                unfit[mirror.collection, id] = kept(mirror, DIFFERS)
            else:
                yield target

    def _known_and_there(
        self, mirror: Mirror, ids: Sequence[str]
    ) -> Iterator[tuple[str, Stored | None, Row | None]]:
        """Yield each id with what the cache knows, and the row that is there."""
        # The first rows are always asked for, which checks that the table fits the model.
        current: dict[str, Row] = {}
        has_rows = True
        for some in _chunks(ids):
            stored = self.rows.stored(mirror.collection, some)
            if has_rows:
                current = read_rows(self.connection, mirror, some, lenient=True)
                has_rows = bool(current) or any_row(self.connection, mirror)
            for id in some:
                yield id, stored.get(id), current.get(id)

    def _ids(self, mirror: Mirror, touched: _Touched) -> tuple[list[str], set[str]]:
        """The ids to look at, and those among them whose rows go if the log says nothing."""
        again = self.rows.problems(mirror.collection)
        ids = touched.changed | touched.removed | dict.fromkeys(again)
        given_up = {*touched.removed, *again}
        if self.prune:
            adopt(self.context, self.connection, mirror)
            pages = [id for page in ids_in(self.connection, mirror) for id in page]
            given_up.update(pages)
            ids |= dict.fromkeys(pages)
        return list(ids), given_up


def late_mirrors(
    context: StoreContext, connection: Connection, rows: Rows, states: Mapping[str, str]
) -> list[str]:
    """Return the collections whose tables were not compared since their models changed.

    Their models are new or have other attributes, or a store that does not mirror them has written
    to them; or the table is empty where there are records, as one that was dropped and rebuilt.

    Raises:
        InvalidDeclarationError: There is no table for a collection that has records.
    """
    return [
        mirror.collection
        for mirror in registry(context)
        if not is_same_model(
            states.get(mirror.collection, ""), registry(context).digests[mirror.collection]
        )
        or (rows.has_records(mirror.collection) and not any_row(connection, mirror))
    ]


def problems_of(
    context: StoreContext, mirror: Mirror, reasons: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield the records that could not be applied to a table, as problems of its log."""
    path = str(context.layout.log_path(mirror.collection))
    for id, reason in sorted(reasons.items()):
        told = f"not applied to the table {mirror.table.name!r}: {reason}"
        yield Problem(mirror.collection, path, None, told, id)


def check_synced(context: StoreContext, connection: Connection, report: SyncReport) -> None:
    """Say that logs are missing, when the rest is synced.

    Raises:
        MissingLogError: A table has rows, and its log is missing, empty, or another one.
    """
    for found in report:
        if found.action == "missing":
            mirror = registry(context).by_collection[found.collection]
            raise missing_error(context, mirror, count_rows(connection, mirror))


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
