"""What waits for the log, and where the logs are: asked of the database alone."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from sqlalchemy.engine import Connection, Engine

from taskstore._cache.schema.models import DEFAULT, Models, build_models
from taskstore._postgres.names import Outbox, execute_sql, outbox_of
from taskstore._postgres.preparing import check_outbox


@attrs.frozen
class Lag:
    """What waits for the log.

    Attributes:
        rows: How many rows of the outbox wait.
        seconds: For how long the oldest of them does.
        problems: The rows that no line can carry, and why.
        place: The host and the directory of the logs; None where nobody has written them yet.
    """

    rows: int
    seconds: float
    problems: Sequence[str]
    place: str | None


def lag_of(engine: Engine, prefix: str) -> Lag:
    """Return what waits for the log in a database.

    Raises:
        MigrationRequiredError: It has no outbox.
    """
    with engine.connect() as connection:
        return lag_on(connection, _outbox(connection, prefix))


def lag_on(connection: Connection, outbox: Outbox) -> Lag:
    """Return what waits for the log in an outbox."""
    count, seconds = execute_sql(
        connection,
        "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(written)), 0) "
        f"FROM {outbox.table} WHERE problem IS NULL",
    ).one()
    problems = execute_sql(
        connection,
        f"SELECT collection || coalesce('/' || id, '') || ': ' || problem FROM {outbox.table} "
        "WHERE problem IS NOT NULL ORDER BY seq",
    ).scalars()
    reasons = tuple(problems)
    place = execute_sql(connection, f"SELECT place FROM {outbox.scribe}").scalar_one()
    return Lag(count, max(float(seconds), 0.0), reasons, place)


def _outbox(connection: Connection, prefix: str) -> Outbox:
    models: Models = DEFAULT if not prefix else build_models(prefix=prefix)
    outbox = outbox_of(connection, models)
    check_outbox(connection, outbox)
    return outbox
