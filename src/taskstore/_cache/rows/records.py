"""The rows of records and tombstones."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from taskstore._cache.evolution.fingerprint_rows import FingerprintRows
from taskstore._cache.schema.names import WRITTEN
from taskstore._format.lines import content_digest
from taskstore.errors import UnknownRevisionError

_FEW = 200
_BURIED = (
    "ON CONFLICT (collection, id) DO UPDATE SET "
    "updated_at = excluded.updated_at, updated_at_us = excluded.updated_at_us, "
    "updated_at_text = excluded.updated_at_text, revision = excluded.revision"
)


class _Versioned(msgspec.Struct):
    """What a line says about its version. The rest of the line is skipped."""

    updated_at: int | str | None = None


# The line was looked at as a whole when it came into the cache.
_decode_version = msgspec.json.Decoder(_Versioned).decode


class Stored(NamedTuple):
    """What the cache has of one id.

    Attributes:
        line: The line of the live record; None for a dead one.
        order_us: The version in microseconds since the epoch.
        updated_at_text: The text of a tombstone's version, where it had one.
        revision: Of a record that lives and is not served, the revision of its newest line,
            which is not known here.
    """

    line: str | None
    order_us: int
    updated_at_text: str | None = None
    revision: str | None = None

    @property
    def deleted(self) -> bool:
        """Whether the record is deleted, or not served."""
        return self.line is None

    @property
    def digest(self) -> bytes:
        """A digest of what it says; of a dead record, its version."""
        return b"%d" % self.order_us if self.line is None else content_digest(self.line)

    @property
    def updated_at(self) -> int | str | None:
        """The version as its line has it."""
        if self.line is not None:
            return _decode_version(self.line).updated_at
        return self.updated_at_text if self.updated_at_text is not None else self.order_us // 1000


class Burial(Protocol):
    """The version of a tombstone."""

    @property
    def value(self) -> int | str:
        """The version as its line has it."""

    @property
    def order_us(self) -> int:
        """The same in microseconds since the epoch."""


Hidden: TypeAlias = tuple[str, int, int, str | None, str | None]
"""Id, version in ms and in us, its text, and the revision of a line that is not known here."""


class RecordRows(FingerprintRows):
    """The tables `records` and `tombstones`, and what mirrored tables lack."""

    def stored(self, collection: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Return what the cache has of some ids, live or dead; nothing for those it never saw."""
        if len(ids) <= _FEW:
            marks = ",".join("?" * len(ids))
            rows = self._read(
                "SELECT id, NULL, updated_at_us, updated_at_text, revision "
                f"FROM {self._tombstones} WHERE collection = ? AND id IN ({marks}) UNION ALL "
                f"SELECT id, data_json, updated_at_us, NULL, NULL FROM {self._records} "
                f"WHERE collection = ? AND id IN ({marks})",
                (collection, *ids, collection, *ids),
            )
            return {row[0]: Stored(*row[1:]) for row in rows}
        found = self.dead(collection, ids)
        if self._may_have(self._records, collection, ids):
            for id, line, order_us in self._read_ids(
                f"SELECT id, data_json, updated_at_us FROM {self._records} "
                "WHERE collection = ? AND id IN",
                collection,
                ids,
            ):
                found[id] = Stored(line, order_us)
        return found

    def dead(self, collection: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Return the tombstones of some ids."""
        if not self._may_have(self._tombstones, collection, ids):
            return {}
        return {
            id: Stored(None, order_us, text, revision)
            for id, order_us, text, revision in self._read_ids(
                f"SELECT id, updated_at_us, updated_at_text, revision FROM {self._tombstones} "
                "WHERE collection = ? AND id IN",
                collection,
                ids,
            )
        }

    def orders(self, collection: str, ids: Sequence[str]) -> dict[str, int]:
        """Return the versions of some ids, live or dead, in microseconds since the epoch."""
        if len(ids) <= _FEW:
            marks = ",".join("?" * len(ids))
            found = self._read(
                f"SELECT id, updated_at_us FROM {self._tombstones} "
                f"WHERE collection = ? AND id IN ({marks}) UNION ALL "
                f"SELECT id, updated_at_us FROM {self._records} "
                f"WHERE collection = ? AND id IN ({marks})",
                (collection, *ids, collection, *ids),
            )
            return dict(found)
        return {
            id: order_us
            for table in (self._tombstones, self._records)
            if self._may_have(table, collection, ids)
            for id, order_us in self._read_ids(
                f"SELECT id, updated_at_us FROM {table} WHERE collection = ? AND id IN",
                collection,
                ids,
            )
        }

    def _may_have(self, table: str, collection: str, ids: Sequence[str]) -> bool:
        """Return whether a table may have any of the ids: it has none outside its range."""
        if len(ids) <= _FEW:
            return True
        [(first, last)] = self._read(
            f"SELECT (SELECT min(id) FROM {table} WHERE collection = ?1), "
            f"(SELECT max(id) FROM {table} WHERE collection = ?1)",
            (collection,),
        )
        # Python orders text by its code points, as SQLite does by its bytes in UTF-8.
        return first is not None and min(ids) <= last and first <= max(ids)

    def line(self, collection: str, id: str) -> str | None:
        """Return the line of a live record, or None."""
        rows = self._read(
            f"SELECT data_json FROM {self._records} WHERE collection = ? AND id = ?",
            (collection, id),
        )
        return rows[0][0] if rows else None

    def lines(self, collection: str) -> Iterator[tuple[str, str]]:
        """Yield id and line of every live record, in the order of the ids."""
        for page in self._pages(
            f"SELECT id, data_json FROM {self._records} "
            "WHERE collection = ? AND id > ? ORDER BY id",
            collection,
        ):
            yield from page

    def insert(self, collection: str, rows: Iterable[tuple[str, str, int, int]]) -> None:
        """Insert live records that are not there: id, line, and version in ms and in us."""
        rows = list(rows)
        self._write_many(
            f"INSERT INTO {self._records} (collection, id, data_json, updated_at, updated_at_us) "
            "VALUES (?, ?, ?, ?, ?)",
            ((collection, *row) for row in rows),
        )
        self.drop_tombstones(collection, [row[0] for row in rows])

    def replace(
        self,
        collection: str,
        rows: Iterable[tuple[str, str, int, int]],
        *,
        new: bool = False,
        loading: bool = False,
    ) -> None:
        """Insert or update live records: id, line, and version in ms and in us.

        Their index rows are not touched. Of `new` ones the cache has nothing, no tombstone either.

        Raises:
            UnknownRevisionError: The newest line of one cannot be read here, and this is a write,
                not the loading of a line that is newer still.
        """
        rows = sorted(rows)
        self._write_many(
            f"INSERT INTO {self._records} (collection, id, data_json, updated_at, updated_at_us) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (collection, id) DO UPDATE SET "
            "data_json = excluded.data_json, updated_at = excluded.updated_at, "
            "updated_at_us = excluded.updated_at_us",
            ((collection, *row) for row in rows),
        )
        if not new:
            self.drop_tombstones(collection, [row[0] for row in rows], loading=loading)

    def update(self, collection: str, rows: Iterable[tuple[str, str, int, int]]) -> None:
        """Update records that live: id, line, and version in ms and in us.

        Their index rows are not touched.
        """
        self._write_many(
            f"UPDATE {self._records} SET data_json = ?, updated_at = ?, updated_at_us = ? "
            "WHERE collection = ? AND id = ?",
            ((line, ms, us, collection, id) for id, line, ms, us in sorted(rows)),
        )

    def drop_tombstones(
        self, collection: str, ids: Sequence[str], *, loading: bool = False
    ) -> None:
        """Remove the tombstones of some ids.

        Raises:
            UnknownRevisionError: As for `replace`.
        """
        if self._read(
            f"SELECT 1 FROM {self._tombstones} WHERE collection = ? LIMIT 1", (collection,)
        ):
            if not loading:
                self._check_known(collection, ids)
            self._delete(self._tombstones, collection, ids)

    def _check_known(self, collection: str, ids: Sequence[str]) -> None:
        for id, revision in self._read_ids(
            f"SELECT id, revision FROM {self._tombstones} "
            "WHERE revision IS NOT NULL AND collection = ? AND id IN",
            collection,
            ids,
        ):
            raise UnknownRevisionError(collection=collection, id=id, revision=revision)

    def set_tombstones(
        self, collection: str, tombstones: Iterable[tuple[str, int, int, str | None]]
    ) -> None:
        """Remove live records and set tombstones: id, version in ms and in us, and its text."""
        self.hide(collection, [(*tombstone, None) for tombstone in tombstones])

    def hide(self, collection: str, tombstones: Iterable[Hidden]) -> None:
        """Remove live records that are deleted, or whose newest line is not known here."""
        # In the order of the key, as in `replace`: otherwise SQLite searches for each place again.
        tombstones = sorted(tombstones, key=itemgetter(0))
        self._remove(collection, [tombstone[0] for tombstone in tombstones])
        self._write_many(
            f"INSERT INTO {self._tombstones} "
            "(collection, id, updated_at, updated_at_us, updated_at_text, revision) "
            f"VALUES (?, ?, ?, ?, ?, ?) {_BURIED}",
            ((collection, *tombstone) for tombstone in tombstones),
        )

    def bury(self, collection: str, versions: Mapping[str, Burial]) -> None:
        """Remove records that live, and set their tombstones. Most of them have one version."""
        self._remove(collection, sorted(versions))
        by_version: dict[Burial, list[str]] = {}
        for id in sorted(versions):
            by_version.setdefault(versions[id], []).append(id)
        for version, ids in by_version.items():
            text = version.value if isinstance(version.value, str) else None
            values = (version.order_us // 1000, version.order_us, text)
            for start in range(0, len(ids), _FEW):
                some = ids[start : start + _FEW]
                self._write(
                    f"WITH gone (id) AS (VALUES {','.join(['(?)'] * len(some))}) "
                    f"INSERT INTO {self._tombstones} "
                    "(collection, id, updated_at, updated_at_us, updated_at_text) "
                    f"SELECT ?, id, ?, ?, ? FROM gone WHERE 1 {_BURIED}",
                    [*some, collection, *values],
                )

    def forget(self, collection: str, *ids: str) -> None:
        """Remove all that is known of some ids, as if they had never been."""
        self._remove(collection, ids)
        self._delete(self._tombstones, collection, ids)

    def drop_collection(self, collection: str) -> None:
        """Remove a collection's records, tombstones and fingerprint.

        Which of its fields are indexed stays: that is declared, not read from the log.
        """
        self.clear_index(collection)
        with self._without_triggers(self._records):
            for table in (self._records, self._tombstones, self._metadata):
                self._write(f"DELETE FROM {table} WHERE collection = ?", (collection,))

    def collections(self) -> list[str]:
        """Return the names of the collections that have records or tombstones, sorted."""
        return sorted({*self._names(self._records), *self._names(self._tombstones)})

    def indexed_collections(self) -> list[str]:
        """Return the names of the collections that have index rows, sorted."""
        return self._names(self._indexes)

    def contradictions(self, collection: str) -> dict[str, str]:
        """Return the ids of rows that our writes never leave like this, and what is wrong."""
        found = {
            id: f"updated_at {ms} beside updated_at_us {us}"
            for table in (self._records, self._tombstones)
            for id, ms, us in self._read(
                f"SELECT id, updated_at, updated_at_us FROM {table} WHERE collection = ? "
                "AND updated_at_us - updated_at * 1000 NOT BETWEEN 0 AND 999",
                (collection,),
            )
        }
        for (id,) in self._read(
            f"SELECT id FROM {self._records} JOIN {self._tombstones} USING (collection, id) "
            "WHERE collection = ?",
            (collection,),
        ):
            found[id] = "a live record and a tombstone"
        return found

    def counts(self, collection: str) -> tuple[int, int]:
        """Return how many records and how many tombstones a collection has."""
        [(records, tombstones)] = self._read(
            f"SELECT (SELECT count(*) FROM {self._records} WHERE collection = ?1), "
            f"(SELECT count(*) FROM {self._tombstones} WHERE collection = ?1)",
            (collection,),
        )
        return records, tombstones

    def has_records(self, collection: str) -> bool:
        """Say whether a collection has any live record."""
        found = self._read(
            f"SELECT 1 FROM {self._records} WHERE collection = ? LIMIT 1", (collection,)
        )
        return bool(found)

    def problems(self, collection: str) -> dict[str, str]:
        """Return the ids that a mirrored table does not hold as the log has them, and why."""
        return dict(
            self._read(
                f"SELECT id, reason FROM {self._mirror_problems} WHERE collection = ? ORDER BY id",
                (collection,),
            )
        )

    def never_logged(self, collection: str) -> set[str]:
        """Return the ids of rows of a mirrored table that were never logged, and differ."""
        found = self._read(
            f"SELECT id FROM {self._mirror_problems} WHERE collection = ? AND never_logged",
            (collection,),
        )
        return {id for (id,) in found}

    def set_problems(
        self, collection: str, reasons: Mapping[str, str], never_logged: Container[str] = ()
    ) -> None:
        """Note all that a mirrored table does not hold as the log has it.

        Args:
            collection: The collection.
            reasons: Why, by id.
            never_logged: Those whose row was never logged.
        """
        self._write(f"DELETE FROM {self._mirror_problems} WHERE collection = ?", (collection,))
        self._write_many(
            f"INSERT INTO {self._mirror_problems} (collection, id, reason, never_logged) "
            "VALUES (?, ?, ?, ?)",
            (
                (collection, id, reason, id in never_logged)
                for id, reason in sorted(reasons.items())
            ),
        )

    def note_never_logged(self, collection: str, ids: Iterable[str], reason: str) -> None:
        """Note ids whose rows, if a mirrored table has any, were there before their lines."""
        self._write_many(
            f"INSERT OR IGNORE INTO {self._mirror_problems} "
            "(collection, id, reason, never_logged) VALUES (?, ?, ?, 1)",
            ((collection, id, reason) for id in sorted(ids)),
        )

    def settle_problems(self, collection: str, ids: Iterable[str]) -> None:
        """Forget the problems of some ids: the row has been rewritten."""
        if self.problems(collection):
            self._delete(self._mirror_problems, collection, ids)

    def mirror_states(self) -> dict[str, str]:
        """Return the digests of the attributes with which mirrored tables were last compared."""
        return dict(self._read(f"SELECT collection, digest FROM {self._mirror_states}"))

    def set_mirror_state(self, collection: str, digest: str) -> None:
        """Note that a mirrored table was brought to what the cache has of its collection."""
        self._write(
            f"INSERT OR REPLACE INTO {self._mirror_states} (collection, digest) VALUES (?, ?)",
            (collection, digest),
        )

    def unsettle_mirror(self, collection: str, digest: str) -> None:
        """Note that a collection is written by a store that mirrors it with some attributes.

        A table that was brought along with others, or that is not mirrored there, is to be
        compared with all records again.

        Args:
            collection: The collection.
            digest: Of the attributes; empty where the store does not mirror it.
        """
        self._write(
            f"UPDATE {self._mirror_states} SET digest = '' "
            "WHERE collection = ? AND substr(?, 1, length(digest)) != digest "
            "AND digest NOT IN (?, ?, ?)",
            (collection, digest, *WRITTEN),
        )

    def _remove(self, collection: str, ids: Sequence[str]) -> None:
        # Not by the foreign key: an application's engine may not enforce it.
        if self._read(f"SELECT 1 FROM {self._indexes} WHERE collection = ? LIMIT 1", [collection]):
            self._delete(self._indexes, collection, ids)
        self._delete(self._records, collection, ids)

    def _delete(self, table: str, collection: str, ids: Iterable[str]) -> None:
        self._write_ids(f"DELETE FROM {table} WHERE collection = ? AND id IN", collection, [*ids])

    def _names(self, table: str) -> list[str]:
        # A step for each collection, where DISTINCT would look at every record.
        names: list[str] = []
        after = ""
        while True:
            [(name,)] = self._read(
                f"SELECT min(collection) FROM {table} WHERE collection > ?", (after,)
            )
            if name is None:
                return names
            names.append(name)
            after = name
