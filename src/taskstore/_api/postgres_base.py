"""What stores on PostgreSQL have in common, with and without a directory."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from taskstore._api.opening import check_bind
from taskstore._postgres.flush import FlushHook


class PostgresBase:
    """The calls that need the database only."""

    _context: Any
    _flush: FlushHook
    _attached: list[Any]
    _ack: str = "database"

    def close(self) -> None:
        """Close the store. You may close it twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def attach(self, target: Any) -> None:
        """Attach sessions: they refuse stale rows, and their instances get the database's stamps.

        Writes are captured in any case, also by sessions that are not attached.

        Raises:
            UntrackedWriteError: It is bound to another engine, or it is for asyncio.
        """
        self._context.check_open()
        check_bind(target, self._context.engine)
        self._flush.attach(target)
        if not any(target is known for known in self._attached):
            self._attached.append(target)

    def detach(self, target: Any) -> None:
        """Detach what was attached."""
        self._flush.detach(target)
        self._attached = [known for known in self._attached if known is not target]


def kind_with(calls: type[Any], kind: type[Any], refused: Callable[[str], Any]) -> type[Any]:
    """Return a class of stores that has some calls, and replaces all others.

    Args:
        calls: The class with the calls.
        kind: The class of stores whose calls are replaced.
        refused: Makes the replacement of a call, by its name.
    """
    others = {
        name: refused(name)
        for name in dir(kind)
        if not name.startswith("_")
        and name not in ("open", "find")
        and not hasattr(calls, name)
        and callable(getattr(kind, name))
    }
    return type(kind.__name__, (calls, kind), {**others, "__module__": kind.__module__})
