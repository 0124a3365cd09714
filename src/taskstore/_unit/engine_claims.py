"""The open stores of each engine: only one store writes the log of a table."""

from __future__ import annotations

import threading
from weakref import ReferenceType, WeakKeyDictionary, ref

from sqlalchemy.engine import Dialect, Engine

from taskstore._store.context import StoreContext
from taskstore.errors import UntrackedWriteError

# A store that is never closed is dropped with its engine.
_followers: WeakKeyDictionary[Dialect, list[ReferenceType[StoreContext]]] = WeakKeyDictionary()
_mutex = threading.Lock()


def follow(engine: Engine, context: StoreContext) -> None:
    """Note that a store follows an engine from now on.

    Raises:
        UntrackedWriteError: An open store follows it for one of the same tables. With two stores,
            the log would get each line twice, or none after the second is closed.
    """
    if context.own_engine:
        # Nobody else has it, and what is noted of it would keep it alive.
        return
    with _mutex:
        others = _followers.setdefault(engine.dialect, [])
        for other in [found for known in others if (found := known()) is not None]:
            if not _tables(context).isdisjoint(_tables(other)):
                raise UntrackedWriteError(
                    statement=f"a second store on {engine!r}, where that of "
                    f"{str(other.layout.directory)!r} is open",
                    remedy="use that one, or close it first",
                )
        others.append(ref(context))


def unfollow(engine: Engine, context: StoreContext) -> None:
    """Note that a store no longer follows an engine. You may call it twice."""
    with _mutex:
        others = _followers.get(engine.dialect, [])
        others[:] = [known for known in others if known() not in (None, context)]


def _tables(context: StoreContext) -> frozenset[str]:
    own = frozenset(context.models.table_names)
    return own | context.mirrors.tables
