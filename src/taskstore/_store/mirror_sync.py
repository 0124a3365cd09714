"""Brings mirrored tables along when lines of their collections change in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
from sqlalchemy.engine import Connection

from taskstore._cache.rows import Rows, Stored
from taskstore._format.lines import raw_fields
from taskstore._format.problems import Problem
from taskstore._mirror.projecting import Projector, Wish
from taskstore._mirror.reading import any_row, ids_in, read_rows
from taskstore._mirror.shape import Mirror, Row
from taskstore._store.context import StoreContext
from taskstore._store.mirror_guard import count_rows, has_line_of, missing_error
from taskstore._store.mirror_rows import mirroring
from taskstore._store.report import SyncReport
from taskstore._store.transaction import Unit

_AT_ONCE = 500
_ELSEWHERE = "it came while a store was open that does not mirror the table"


@attrs.define
class _Touched:
    """What a sync has done to one collection.

    Attributes:
        changed: ids that were written or buried.
        removed: ids of live records that the log held, and does not any more.
        held: how many live records there were before.
        known: what the cache had of each id; None while it can be asked.
        new: the ids among those changed that it had not.
        before: the orders of live records before they were changed.
        doubtful: whether a row that is newer than its line counts as one that was never logged.
    """

    changed: dict[str, None] = attrs.field(factory=dict)
    removed: dict[str, None] = attrs.field(factory=dict)
    held: int = 0
    known: Mapping[str, Stored] | None = None
    new: set[str] = attrs.field(factory=set)
    before: dict[str, int] = attrs.field(factory=dict)
    doubtful: bool = False


@attrs.define
class MirrorSync:
    """The part of one sync that is about mirrored tables.

    Attributes:
        context: the store.
        connection: in the sync's write transaction.
        rows: on that connection.
        unit: of that transaction.
        prune: whether to give up rows that the log does not have.
    """

    context: StoreContext
    connection: Connection
    rows: Rows
    unit: Unit
    prune: bool = False
    _touched: dict[str, _Touched] = attrs.field(factory=dict)
    _dropped: dict[str, list[str]] = attrs.field(factory=dict)
    _strange: dict[str, set[str]] = attrs.field(factory=dict)
    _elsewhere: frozenset[str] = frozenset()

    def catch_up(self) -> None:
        """Bring tables to what the cache has, where that was not done as their models are now.

        Without this, a column that was added would stay empty where its lines had come before, and
        the next edit of the row would write that to the log.
        """
        digests = self.context.mirrors.digests
        states = self.rows.mirror_states()
        self._elsewhere = frozenset(states.keys() - digests.keys())
        late = late_mirrors(self.context, self.connection, self.rows, states)
        if not late:
            return
        for collection in late:
            self._touched[collection] = self._all_of(collection, states.get(collection))
        prune, self.prune = self.prune, False
        self.project()
        self.prune = prune
        self._touched.clear()
        for collection in late:
            self.rows.set_mirror_state(collection, digests[collection])

    def _all_of(self, collection: str, state: str | None) -> _Touched:
        """All that the cache has, for a table that was in some state; None for never looked at."""
        touched = _Touched(doubtful=True)
        for id, known in self.rows.in_order(collection):
            # Where only the model has changed, each deletion has reached the table: a row that is
            # there has come since.
            if not known.deleted or not state:
                touched.changed[id] = None
        if state is None:
            touched.new = touched.changed.keys() - self.rows.problems(collection).keys()
        return touched

    def begin(self, collection: str, *, force: bool) -> None:
        """Before the log of a collection is looked at."""
        self.rows.on_change = None
        if collection not in {*self.context.mirrors.by_collection, *self._elsewhere}:
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
        """Whether the log that was just read says nothing of the rows beside it."""
        mirror = self.context.mirrors.by_collection.get(collection)
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
        """Whether a log lacks records that were there, and has no line of those that it has.

        A common id alone says little: keys that people choose are the same in many projects.
        """
        if not touched.removed:
            return False
        if len(touched.removed.keys() | touched.before.keys()) < touched.held:
            return False
        return not has_line_of(self.context, collection, touched.before)

    def _note_dropped(self, collection: str) -> None:
        """Of what was dropped before the log was read anew: what did not come back?"""
        ids = self._dropped.pop(collection, [])
        touched = self._touched[collection]
        for some in _chunks(ids):
            stored = self.rows.stored(collection, some)
            touched.removed.update(dict.fromkeys(id for id in some if id not in stored))

    def project(self) -> tuple[Problem, ...]:
        """Bring the tables to what the logs say; return what they do not take."""
        self.rows.on_change = None
        unfit: dict[tuple[str, str], str] = {}
        wishes = [wish for mirror in self.context.mirrors for wish in self._wishes(mirror, unfit)]
        if wishes:
            with mirroring(self.unit):
                unfit |= Projector(self.connection, self.context.mirrors.links).run(wishes)
        problems: list[Problem] = []
        for mirror in self.context.mirrors:
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

    def _wishes(self, mirror: Mirror, unfit: dict[tuple[str, str], str]) -> Iterator[Wish]:
        touched = self._touched.get(mirror.collection) or _Touched()
        strange = set() if self.prune else touched.new | self.rows.never_logged(mirror.collection)
        self._strange[mirror.collection] = strange
        ids, given_up = self._ids(mirror, touched)
        for some in _chunks(ids):
            stored = self.rows.stored(mirror.collection, some)
            current = read_rows(self.connection, mirror, some, lenient=True)
            for id in some:
                known, row = stored.get(id), current.get(id)
                is_strange = id in strange or (touched.doubtful and _is_newer(mirror, known, row))
                if is_strange:
                    strange.add(id)
                try:
                    wish = wish_for(
                        mirror,
                        id,
                        known,
                        row,
                        is_given_up=id in given_up,
                        is_strange=is_strange,
                    )
                except ValueError as error:
                    unfit[mirror.collection, id] = str(error)
                else:
                    if wish is not None:
                        yield wish

    def _ids(self, mirror: Mirror, touched: _Touched) -> tuple[list[str], set[str]]:
        """The ids to look at, and those among them whose rows go if the log says nothing."""
        again = self.rows.problems(mirror.collection)
        ids = touched.changed | touched.removed | dict.fromkeys(again)
        given_up = {*touched.removed, *again}
        if self.prune:
            pages = [id for page in ids_in(self.connection, mirror) for id in page]
            given_up.update(pages)
            ids |= dict.fromkeys(pages)
        return list(ids), given_up


def late_mirrors(
    context: StoreContext, connection: Connection, rows: Rows, states: Mapping[str, str]
) -> list[str]:
    """Return the collections whose tables, in some states, were not brought along as they are now.

    Their models are new or have other attributes, or a store that does not mirror them has written
    to them; or the table is empty where there are records, as one that was dropped and made anew.

    Raises:
        InvalidDeclarationError: there is no table for a collection that has records.
    """
    return [
        mirror.collection
        for mirror in context.mirrors
        if states.get(mirror.collection) != context.mirrors.digests[mirror.collection]
        or (rows.has_records(mirror.collection) and not any_row(connection, mirror))
    ]


def wish_for(
    mirror: Mirror,
    id: str,
    stored: Stored | None,
    current: Row | None,
    *,
    is_given_up: bool,
    is_strange: bool,
) -> Wish | None:
    """What is to become of a row; None if it may stay as it is.

    Args:
        mirror: whose row it is.
        id: its id.
        stored: what the log says of it; None for nothing.
        current: the row that is there; None for none.
        is_given_up: whether a row of which the log says nothing goes.
        is_strange: whether the log has never held the row that is there.

    Raises:
        ValueError: its line does not fit the model, or the row is one that the log has never held,
            and differs. The message is the reason alone.
    """
    if stored is not None and stored.line is not None:
        row = mirror.decoded(id, raw_fields(stored.line))
        if current is not None:
            is_alike = current.shape is row.shape
            if is_alike and equals(mirror, row, current):
                return None
            if is_strange and not (is_alike and _is_older(mirror, row, current)):
                raise ValueError(_kept(mirror, "differs from its line"))
        return Wish(mirror, id, row, current)
    if current is None or (stored is None and (is_strange or not is_given_up)):
        return None
    if is_strange:
        raise ValueError(_kept(mirror, "was deleted elsewhere"))
    return Wish(mirror, id, None, current)


def equals(mirror: Mirror, row: Row, current: Row) -> bool:
    """Whether a row is what a line asks for, as far as the line says something."""
    if current.flaw or not _same_values(row, current):
        return False
    if mirror.version is None or row.version == current.version:
        return True
    try:
        return mirror.order_of(row.version) == mirror.order_of(current.version)
    except ValueError:
        return False


def _same_values(row: Row, current: Row) -> bool:
    fields = row.shape.fields
    for name, value in row.values.items():
        try:
            if fields[name].codec.raw(value) != fields[name].codec.raw(current.values[name]):
                return False
        except ValueError:
            return False
    return True


def _is_older(mirror: Mirror, row: Row, current: Row) -> bool:
    """Whether a row is what its line says, under an older version."""
    if current.flaw or not _same_values(row, current):
        return False
    try:
        asked, there = mirror.order_of(row.version), mirror.order_of(current.version)
    except ValueError:
        return False
    return there is None or (asked is not None and there < asked)


def _is_newer(mirror: Mirror, stored: Stored | None, current: Row | None) -> bool:
    """Whether a row is newer than what the log says of it."""
    if stored is None or current is None or mirror.version is None:
        return False
    try:
        there = mirror.order_of(current.version)
    except ValueError:
        return True
    return there is not None and there > stored.order_us


def _kept(mirror: Mirror, what: str) -> str:
    return (
        f"the row that is there was never logged here, {what}, and is kept: "
        f"store.export({mirror.name}) writes it, store.sync(prune=True) takes what the logs say"
    )


def problems_of(
    context: StoreContext, mirror: Mirror, reasons: Mapping[str, str]
) -> Iterator[Problem]:
    """What a table does not take, as problems of its log."""
    path = str(context.layout.log_path(mirror.collection))
    for id, reason in sorted(reasons.items()):
        yield Problem(
            mirror.collection, path, None, f"the table {mirror.table.name!r} lacks it: {reason}", id
        )


def check_synced(context: StoreContext, connection: Connection, report: SyncReport) -> None:
    """Say that logs are missing, when the rest is synced.

    Raises:
        MissingLogError: rows stand beside a log that is missing, empty, or another one.
    """
    for found in report:
        if found.action == "missing":
            mirror = context.mirrors.by_collection[found.collection]
            raise missing_error(context, mirror, count_rows(connection, mirror))


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
