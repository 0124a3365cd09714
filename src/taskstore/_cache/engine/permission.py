"""Tells the writes of the store itself from those of others, on any connection."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakValueDictionary

from taskstore._cache.engine.guard import GuardedConnection


class Pausable(Protocol):
    """An object that notes writes, and can skip those of the store itself."""

    def pause(self) -> None:
        """Note nothing until as many calls of `resume` have followed."""

    def resume(self) -> None:
        """Undo one `pause`."""


_followed: WeakValueDictionary[tuple[int, str], Any] = WeakValueDictionary()


def follow_writes(driver: Any, records: str, notes: Pausable) -> None:
    """Let `permitted` pause the notes of a connection.

    Args:
        driver: The driver's own connection.
        records: The name of the table of records, because two stores may share a connection.
        notes: They are not kept alive by this.
    """
    # The driver's connections do not allow weak references. A reused number belongs to a
    # connection that enters its own notes here, or has none.
    _followed[id(driver), records] = notes


def notes_of(driver: Any, records: str) -> Any:
    """Return the notes of a connection; None if there are none."""
    return _followed.get((id(getattr(driver, "inner", driver)), records))


def is_permitted(driver: Any) -> bool:
    """Return whether a connection of our own is in a block of `permitted`."""
    return driver.__class__ is GuardedConnection and driver.permits > 0


class permitted:  # noqa: N801 - used like a function
    """A block in which a driver's connection may write the protected tables, and nothing is noted.

    Args:
        connection: The driver's connection, or its stand-in.
        records: The name of the table of records.
    """

    __slots__ = ("_guarded", "_key", "_paused")

    def __init__(self, connection: Any, records: str) -> None:
        self._guarded = connection if isinstance(connection, GuardedConnection) else None
        self._key = (id(getattr(connection, "inner", connection)), records)
        self._paused: list[Pausable | None] = []

    def __enter__(self) -> None:
        if self._guarded is not None:
            self._guarded.permits += 1
            if self._guarded.permits > 1:
                # The outer block has paused the notes.
                self._paused.append(None)
                return
        notes = _followed.get(self._key)
        self._paused.append(notes)
        if notes is not None:
            notes.pause()

    def __exit__(self, *_: object) -> None:
        if self._guarded is not None:
            self._guarded.permits -= 1
        notes = self._paused.pop()
        if notes is not None:
            notes.resume()
