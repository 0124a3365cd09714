"""The part of a session's flush: stale rows are refused, and stamps come back to instances.

The database stamps the rows. The listeners see to it that a session does not write over what
another has changed meanwhile, and that its instances read their new versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Table, inspect, select, tuple_
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import LoaderCallableStatus, ORMExecuteState, Session

from taskstore._mirror.capture.versions import StaleRowError
from taskstore._mirror.model.registry import Registry
from taskstore._mirror.model.shape import Mirror
from taskstore._unit.listeners import SessionListeners
from taskstore.errors import UnsupportedError

_AT_ONCE = 500

_Key = tuple[Any, ...]


class FlushHook:
    """The listeners that one store puts on sessions.

    Args:
        mirrors: The mirrored models.
        engine: The application's; sessions on other engines are left alone.
    """

    def __init__(self, mirrors: Registry, engine: Engine) -> None:
        self._mirrors = mirrors
        self._dialect = engine.dialect
        self._written: WeakKeyDictionary[Session, list[tuple[Any, str]]] = WeakKeyDictionary()
        names = ("before_flush", "after_flush", "after_flush_postexec", "do_orm_execute")
        self._listeners = SessionListeners({name: getattr(self, name) for name in names})

    def attach(self, target: Any) -> None:
        """Listen on a session, a sessionmaker or a scoped session; once, if called twice."""
        self._listeners.attach(target)

    def detach(self, target: Any) -> None:
        """Take the listeners off again."""
        self._listeners.detach(target)

    def before_flush(self, session: Session, context: Any, instances: Any) -> None:
        """Refuse to write over rows that were changed since they were loaded.

        Raises:
            StaleRowError: One was.
            UnsupportedError: The rows are in other schemas than the triggers.
        """
        self._check_schemas(session)
        carried: dict[Mirror, dict[_Key, Any]] = {}
        modified = (one for one in session.dirty if session.is_modified(one))
        for instance, mirror in self._versioned((*modified, *session.deleted)):
            state: Any = inspect(instance)
            assert mirror.version is not None
            name = mirror.version.name
            loaded = state.committed_state.get(name, state.dict.get(name))
            if loaded is not None and not isinstance(loaded, LoaderCallableStatus):
                identity = tuple(
                    state.committed_state.get(key, state.dict.get(key)) for key in mirror.key
                )
                carried.setdefault(mirror, {})[identity] = loaded
        for mirror, versions in carried.items():
            connection = session.connection(bind_arguments={"mapper": mirror.base.mapper})
            if connection.dialect is self._dialect:
                _check(connection, mirror, versions)

    def after_flush(self, session: Session, context: Any) -> None:
        """Note which instances have been written."""
        found = [
            (instance, mirror.version.name)
            for instance, mirror in self._versioned((*session.new, *session.dirty))
            if mirror.version is not None
        ]
        if found:
            self._written[session] = found

    def after_flush_postexec(self, session: Session, context: Any) -> None:
        """Make instances read the versions that the database has given them."""
        for instance, name in self._written.pop(session, ()):
            if instance in session:
                session.expire(instance, [name])

    def do_orm_execute(self, state: ORMExecuteState) -> None:
        """Refuse a statement that writes into other schemas than those with the triggers.

        Raises:
            UnsupportedError: It does.
        """
        if not (state.is_insert or state.is_update or state.is_delete):
            return
        written = getattr(state.statement, "table", None)
        # An ORM statement has an annotated table, which equals it.
        for mirror in (one for one in self._mirrors if written in one.tables):
            connection = state.session.connection(bind_arguments={"mapper": mirror.base.mapper})
            if connection.dialect is self._dialect:
                options = {**connection.get_execution_options(), **state.execution_options}
                check_schemas(options, mirror.tables)

    def _check_schemas(self, session: Session) -> None:
        changed = {inspect(one).mapper for one in (*session.new, *session.dirty, *session.deleted)}
        for mapper in changed:
            found = self._mirrors.of(mapper)
            if found is not None:
                connection = session.connection(bind_arguments={"mapper": mapper})
                if connection.dialect is self._dialect:
                    check_schemas(connection.get_execution_options(), found[0].tables)

    def _versioned(self, instances: Iterable[Any]) -> Iterable[tuple[Any, Mirror]]:
        for instance in instances:
            found = self._mirrors.of(inspect(instance).mapper)
            if found is not None and found[0].version is not None:
                yield instance, found[0]


def check_schemas(options: Mapping[str, Any], tables: Iterable[Table] | None = None) -> None:
    """Refuse execution options that put tables into other schemas.

    Args:
        options: The options of an engine, a connection or a statement.
        tables: The tables; None for any.

    Raises:
        UnsupportedError: There is a `schema_translate_map` that does.
    """
    schemas = options.get("schema_translate_map")
    if not schemas:
        return
    if tables is None or any(schemas.get(one.schema, one.schema) != one.schema for one in tables):
        raise UnsupportedError(
            operation="schema_translate_map",
            remedy="connect with the schemas as search_path instead: "
            'create_engine(..., connect_args={"options": "-csearch_path=tenant"})',
        )


def _check(connection: Connection, mirror: Mirror, carried: Mapping[_Key, Any]) -> None:
    """Lock rows, and compare their versions with those that instances carry."""
    assert mirror.version is not None
    columns = [field.column for field in mirror.key_fields]
    keys = list(carried)
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        statement = (
            select(mirror.version.column, *columns)
            .where(tuple_(*columns).in_(some))
            .order_by(*columns)
            .with_for_update()
        )
        for found, *key in connection.execute(statement):
            loaded = carried[tuple(key)]
            stored, known = mirror.order_of(found), mirror.order_of(loaded)
            if stored is not None and known is not None and known < stored:
                raise StaleRowError(
                    collection=mirror.collection,
                    # Of rows that the database counts, the application knows the numbers.
                    id=str(key[0]) if mirror.is_counted else mirror.id_of(key),
                    carried=_shown(loaded),
                    stored=_shown(found),
                )


def _shown(version: Any) -> int | str:
    return version if isinstance(version, int) else str(version)
