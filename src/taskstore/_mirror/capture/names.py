"""The ids that belong to the numbers in keys of instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from taskstore._cache.engine.bridge import closing, driver_cursor
from taskstore._cache.rows.keys import KeyRows
from taskstore._mirror.model.counted_keys import Translated
from taskstore._mirror.model.shape import Mirror
from taskstore._store.context import StoreContext


class Names:
    """Finds ids for numbers, and asks for each number once.

    Args:
        context: The store.
        connection: In the transaction that is meant.
    """

    def __init__(self, context: StoreContext, connection: Connection) -> None:
        self._models = context.models
        self._connection = connection
        self._known: dict[tuple[str, bool], dict[Any, str | None]] = {}

    def learn(self, keys: Iterable[tuple[Mirror, Sequence[Any]]]) -> None:
        """Find the ids of the numbers in some keys."""
        self._learn(
            (field.translated, value)
            for mirror, values in keys
            for field, value in zip(mirror.key_fields, values, strict=True)
            if field.translated is not None
        )

    def id_for(self, translated: Translated, value: Any) -> Any:
        """Return the id of a number, or the value itself if it has none."""
        self._learn([(translated, value)])
        known = self._known.get((translated.collection, translated.own), {})
        return known.get(value) or value

    def _learn(self, numbers: Iterable[tuple[Translated, Any]]) -> None:
        wanted: dict[tuple[str, bool], set[Any]] = {}
        for translated, value in numbers:
            kind = translated.collection, translated.own
            if type(value) is int and value not in self._known.get(kind, ()):
                wanted.setdefault(kind, set()).add(value)
        if not wanted:
            return
        with closing(driver_cursor(self._connection)) as cursor:
            pairs = KeyRows(cursor, self._models)
            for (collection, is_own), some in wanted.items():
                found = pairs.by_number(collection, some)
                known = self._known.setdefault((collection, is_own), {})
                known |= dict.fromkeys(some)
                known |= {n: one.id for n, one in found.items() if not (is_own and one.gone)}

    def named(self, mirror: Mirror, values: Sequence[Any]) -> Sequence[Any]:
        """Return the values of a key with ids in place of numbers; None for one without an id."""
        if not mirror.is_translated:
            return values
        self.learn([(mirror, values)])
        return [
            value
            if field.translated is None
            else self._known.get((field.translated.collection, field.is_own), {}).get(value)
            for field, value in zip(mirror.key_fields, values, strict=True)
        ]
