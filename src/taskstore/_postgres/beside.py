"""Makes a synchronous engine that connects to the same database as an asyncio engine.

The scribe and the store's calls run in threads, where an asyncio engine cannot be used. Their
connections come from psycopg. They use the parameters of the application's engine: its URL, its
`connect_args`, and the changes that its `do_connect` listeners make.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from taskstore.errors import UntrackedWriteError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_SAME = ("host", "port", "user", "password", "passfile", "target_session_attrs", "krbsrvname")
_NAMES = {
    **{name: name for name in _SAME},
    "database": "dbname",
    "ssl": "sslmode",
    "timeout": "connect_timeout",
}
"""The names of asyncpg's parameters in libpq. Its other parameters are for asyncpg alone."""

_ASYNC_ONLY = {"cursor_factory", "async_creator_fn", "async_fallback"}

_PLACE = (
    "SELECT pg_catalog.pg_postmaster_start_time()::text, current_database()::text, "
    "current_user::text, current_schemas(true)::text"
)

_REMEDY_EXTRA = "install psycopg 3 as well: pip install 'taskstore[asyncpg]'"

_is_asking: ContextVar[bool] = ContextVar("taskstore_is_asking", default=False)


class _Parameters(Exception):  # noqa: N818 - it carries an answer
    """Carries the parameters that an engine was about to give its driver."""


async def postgres_beside(engine: AsyncEngine) -> Engine:
    """Return a synchronous engine that connects as an asyncio one on PostgreSQL does.

    Raises:
        UntrackedWriteError: There is no psycopg, or it cannot connect in the same way.
    """
    dialect: Any = engine.dialect
    # The content of JSON columns must not depend on the engine that reads them.
    json = {
        "json_serializer": dialect._json_serializer,
        "json_deserializer": dialect._json_deserializer,
    }

    def connect() -> Any:
        return second.dialect.loaded_dbapi.connect(**parameters_of(engine))

    def answer(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
        if _is_asking.get():
            raise _Parameters(parameters)

    try:
        second: Any = create_engine("postgresql+psycopg://", creator=connect, **json)
    except ImportError as error:
        raise _refused(engine, "which needs psycopg", _REMEDY_EXTRA) from error
    event.listen(engine.sync_engine, "do_connect", answer)
    event.listen(
        second,
        "engine_disposed",
        lambda _: event.remove(engine.sync_engine, "do_connect", answer),
        once=True,
    )
    try:
        async with engine.connect() as connection:
            theirs = (await connection.exec_driver_sql(_PLACE)).one()
        ours = await asyncio.to_thread(_place, engine, second)
        if tuple(theirs) != ours:
            raise _refused(
                engine,
                f"whose connections reach {theirs[1:]}, while the store's own reach {ours[1:]}",
                "state server, database, user and search_path in the URL or in connect_args",
            )
    except BaseException:
        second.dispose()
        raise
    made: Engine = second
    return made


def _place(engine: AsyncEngine, second: Engine) -> tuple[Any, ...]:
    try:
        with second.connect() as connection:
            return tuple(connection.exec_driver_sql(_PLACE).one())
    except SQLAlchemyError as error:
        raise _refused(
            engine,
            f"which psycopg cannot reach ({error})",
            "state what is needed to connect in the URL or in connect_args",
        ) from error


def parameters_of(engine: AsyncEngine) -> dict[str, Any]:
    """Return the parameters with which psycopg connects as an asyncio engine does.

    Raises:
        UntrackedWriteError: The engine does not show them, or psycopg cannot take one.
    """
    token = _is_asking.set(True)
    try:
        engine.sync_engine.pool.recreate().connect()
    except _Parameters as found:
        parameters: dict[str, Any] = found.args[0]
    except Exception as error:
        raise _unknown(engine) from error
    else:
        raise _unknown(engine)
    finally:
        _is_asking.reset(token)
    if engine.dialect.driver == "asyncpg":
        return _of_asyncpg(engine, parameters)
    return {name: value for name, value in parameters.items() if name not in _ASYNC_ONLY}


def _of_asyncpg(engine: AsyncEngine, parameters: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, ours in _NAMES.items():
        value = parameters.get(name)
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            found[ours] = value
        elif value is not None:
            raise _refused(
                engine,
                f"whose parameter {name!r} psycopg cannot take",
                "state it as text in the URL, such as ?ssl=verify-full",
            )
    if "connect_timeout" in found:
        found["connect_timeout"] = max(1, round(found["connect_timeout"]))
    settings: Mapping[str, Any] = parameters.get("server_settings") or {}
    if settings:
        found["options"] = " ".join(f"-c {n}={_escaped(v)}" for n, v in settings.items())
    # Behind PgBouncer, statements that were prepared on one connection reach another.
    return {**found, "prepare_threshold": None}


def _escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace(" ", "\\ ")


def _unknown(engine: AsyncEngine) -> UntrackedWriteError:
    return _refused(
        engine,
        "which makes its connections with a function (async_creator or do_connect)",
        "state how to connect in the URL or in connect_args",
    )


def _refused(engine: AsyncEngine, what: str, remedy: str) -> UntrackedWriteError:
    return UntrackedWriteError(statement=f"a store on {engine.url!r}, {what}", remedy=remedy)
