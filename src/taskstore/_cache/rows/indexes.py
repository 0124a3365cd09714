"""Index rows: written from lines in Python, or for a whole collection in SQL.

Both give the same rows, which are a function of the line and of `record_index_fields` alone. SQL is
about three times as fast, and is used for what SQLite's JSON functions read as the log does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from taskstore._cache.rows.driver import Statements
from taskstore._records.indexing import IndexField, IndexValue, index_rows, index_value

_MANY = 5000
_IN_PYTHON = frozenset({"datetime", "uuid"})
_VALUES = "field_value_str, field_value_int, field_value_bool, field_value_real"
_SETS = ", ".join(f"{name} = excluded.{name}" for name in _VALUES.split(", "))
_OTHER = " OR ".join(f"{name} IS NOT excluded.{name}" for name in _VALUES.split(", "))
_IF_OTHER = f"ON CONFLICT (collection, id, field_name) DO UPDATE SET {_SETS} WHERE {_OTHER}"
_SQL_VALUES = """
    CASE WHEN kind = 'text' THEN value WHEN kind IS NULL THEN default_str END,
    CASE WHEN kind = 'integer' AND typeof(value) = 'integer' THEN value
         WHEN kind IS NULL THEN default_int END,
    CASE WHEN kind = 'true' THEN 1 WHEN kind = 'false' THEN 0
         WHEN kind IS NULL THEN default_bool END,
    CASE WHEN kind IN ('integer', 'real') AND typeof(value) = 'real' THEN value
         WHEN kind IS NULL THEN default_real END
"""


class IndexRows(Statements):
    """The tables `record_index_fields` and `record_indexes`."""

    _known_fields: dict[str, Mapping[str, IndexField]] | None = None

    def index_fields(self, collection: str) -> dict[str, IndexField]:
        """Return the indexed fields of a collection, by name."""
        return dict(self.all_index_fields().get(collection, {}))

    def all_index_fields(self) -> Mapping[str, Mapping[str, IndexField]]:
        """Return the indexed fields of all collections; read once for these `Rows`."""
        if self._known_fields is None:
            found: dict[str, dict[str, IndexField]] = {}
            for collection, name, type, default in self._read(
                "SELECT collection, field_name, field_type, default_json "
                f"FROM {self._fields} ORDER BY collection, field_name"
            ):
                found.setdefault(collection, {})[name] = IndexField(name, type, default)
            self._known_fields = {**found}
        return self._known_fields

    def set_index_fields(self, collection: str, fields: Iterable[IndexField]) -> bool:
        """Say which fields of a collection are indexed.

        Returns:
            Whether that is a change: then the caller runs `rebuild_index`.
        """
        wanted = {field.name: field for field in fields}
        if wanted == self.index_fields(collection):
            return False
        known = {name: of for name, of in self.all_index_fields().items() if name != collection}
        self._known_fields = None
        self._write(f"DELETE FROM {self._fields} WHERE collection = ?", (collection,))
        self._write_many(
            f"INSERT INTO {self._fields} (collection, field_name, field_type, default_json) "
            "VALUES (?, ?, ?, ?)",
            [(collection, field.name, field.type, field.default) for field in wanted.values()],
        )
        if wanted:
            known[collection] = {name: wanted[name] for name in sorted(wanted)}
        # Reading them again would cost the square of the number of collections.
        self._known_fields = known
        return True

    def write_index(
        self, collection: str, lines: Sequence[tuple[str, str | bytes]], *, new: bool = False
    ) -> None:
        """Write the index rows of some records, given as id and line, in place of their old ones.

        The records themselves are there already. Those of `new` ones have no old index rows.
        """
        fields = self._sorted_fields(collection)
        if not fields:
            # Its index rows went with the last of them.
            return
        if self._is_most(collection, len(lines)):
            self.rebuild_index(collection)
            return
        if new:
            self._insert_index(collection, fields, lines)
        else:
            self._update_index(collection, fields, lines)

    def _update_index(
        self, collection: str, fields: Sequence[IndexField], lines: Iterable[tuple[str, Any]]
    ) -> None:
        """Write those index rows that differ."""
        rows: list[tuple[Any, ...]] = []
        lacking = []
        for id, line in lines:
            found = index_rows(fields, line)
            rows += [(collection, id, name, *value) for name, value in found]
            if len(found) < len(fields):
                lacking.append(id)
        self.clear_index(collection, lacking)
        self._write_many(
            f"INSERT INTO {self._indexes} (collection, id, field_name, {_VALUES}) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?) {_IF_OTHER}",
            rows,
        )

    def index_values(self, collection: str) -> Iterator[tuple[str, str, IndexValue]]:
        """Yield id, field and value of every index row, in the order of the ids.

        The tables must not be changed meanwhile.
        """
        for id, field, *values in self._driver.cursor().execute(
            f"SELECT id, field_name, {_VALUES} FROM {self._indexes} "
            "WHERE collection = ? ORDER BY id, field_name",
            (collection,),
        ):
            text, integer, boolean, real = values
            flag = None if boolean is None else bool(boolean)
            yield id, field, IndexValue(text, integer, flag, real)

    def has_index(self, collection: str, wanted: Iterable[tuple[Any, ...]]) -> bool:
        """Say whether a collection's index rows are just those that are wanted.

        The tables must not be changed meanwhile.

        Args:
            collection: The collection.
            wanted: Id, field name and the four values of each, in the order of id and name; it is
                read to its end in any case.
        """
        cursor = self._driver.cursor()
        found = cursor.execute(
            f"SELECT id, field_name, {_VALUES} FROM {self._indexes} "
            "WHERE collection = ? ORDER BY id, field_name",
            (collection,),
        )
        same = True
        for row in wanted:
            if same and row != next(found, None):
                same = False
        same = same and next(found, None) is None
        cursor.close()
        return same

    def clear_index(self, collection: str, ids: Iterable[str] | None = None) -> None:
        """Remove the index rows of some records, or of all in the collection."""
        if ids is not None:
            self._write_many(
                f"DELETE FROM {self._indexes} WHERE collection = ? AND id = ?",
                [(collection, id) for id in ids],
            )
        elif self._others(collection):
            self._write(f"DELETE FROM {self._indexes} WHERE collection = ?", (collection,))
        else:
            # Without WHERE the table is emptied at once.
            self._write(f"DELETE FROM {self._indexes}")

    def rebuild_index(self, collection: str) -> int:
        """Rewrite the index rows of a whole collection.

        Returns:
            How many records it has.
        """
        self.clear_index(collection)
        [(count,)] = self._read(
            f"SELECT count(*) FROM {self._records} WHERE collection = ?", (collection,)
        )
        fields = self._sorted_fields(collection)
        if not fields or not count:
            return int(count)
        big = count * len(fields) >= 10_000
        with self._in_bulk(self._indexes, worth=big and self._is_small_beside(count)):
            self._fill_index(collection, fields)
        return int(count)

    def _is_most(self, collection: str, count: int) -> bool:
        """Return whether it is faster to index the whole collection in SQL."""
        if count < _MANY:
            return False
        [(all,)] = self._read(
            f"SELECT count(*) FROM (SELECT 1 FROM {self._records} WHERE collection = ? LIMIT ?)",
            (collection, 2 * count + 1),
        )
        return bool(all <= 2 * count)

    def _others(self, collection: str) -> bool:
        """Return whether other collections have index rows."""
        [(others,)] = self._read(
            f"SELECT EXISTS (SELECT 1 FROM {self._indexes} WHERE collection < ?1) "
            f"OR EXISTS (SELECT 1 FROM {self._indexes} WHERE collection > ?1)",
            (collection,),
        )
        return bool(others)

    def _is_small_beside(self, count: int) -> bool:
        """Return whether rebuilding the secondary indexes costs the other collections little."""
        [(rows,)] = self._read(
            f"SELECT count(*) FROM (SELECT 1 FROM {self._indexes} LIMIT ?)", (count + 1,)
        )
        return bool(rows <= count)

    def _sorted_fields(self, collection: str) -> list[IndexField]:
        fields = self.all_index_fields().get(collection, {})
        return [fields[name] for name in sorted(fields)]

    def _fill_index(self, collection: str, fields: Sequence[IndexField]) -> None:
        """Write the index rows of a collection that has none."""
        plain = [field for field in fields if field.type not in _IN_PYTHON]
        others = [field for field in fields if field.type in _IN_PYTHON]
        irregular = _irregular(plain)
        if plain:
            self._fill_in_sql(collection, plain, irregular)
            self._correct_reals(collection, plain)
            self._fill_in_python(collection, fields, irregular)
        if others:
            self._fill_in_python(collection, others, f"NOT ({irregular})" if plain else "1")

    def _fill_in_sql(self, collection: str, fields: Sequence[IndexField], irregular: str) -> None:
        """Write the rows of regular lines, in the order of the key."""
        parameters: list[Any] = []
        for field in fields:
            default = index_value(field, False, None)
            parameters += [field.name, f"$.{field.name}", *(default or (None,) * 4)]
        values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(fields))
        self._write(
            f"""
            WITH fields (name, path, default_str, default_int, default_bool, default_real)
                AS (VALUES {values})
            INSERT INTO {self._indexes} (collection, id, field_name, {_VALUES})
            SELECT ?, id, name, {_SQL_VALUES}
            FROM (
                SELECT records.id, fields.name, fields.default_str, fields.default_int,
                    fields.default_bool, fields.default_real,
                    json_type(records.data_json, fields.path) AS kind,
                    json_extract(records.data_json, fields.path) AS value
                FROM {self._records} AS records CROSS JOIN fields
                WHERE records.collection = ? AND NOT ({irregular})
                -- Kept apart from the outer query, each line is read once.
                LIMIT -1 OFFSET 0
            )
            WHERE kind IN ('text', 'integer', 'real', 'true', 'false')
                OR (kind IS NULL AND coalesce(
                    default_str, default_int, default_bool, default_real) IS NOT NULL)
            """,
            [*parameters, collection, collection],
        )

    def _fill_in_python(self, collection: str, fields: Sequence[IndexField], where: str) -> None:
        for page in self._pages(
            f"SELECT id, data_json FROM {self._records} AS records WHERE collection = ? "
            f"AND ({where}) AND id > ? ORDER BY id",
            collection,
        ):
            self._insert_index(collection, fields, page)

    def _correct_reals(self, collection: str, fields: Sequence[IndexField]) -> None:
        """Give real values the nearest double: some builds of SQLite miss it by one bit."""
        real = f"SELECT 1 FROM {self._indexes} AS i WHERE i.collection = "
        if not self._read(f"{real} ? AND i.field_value_real IS NOT NULL LIMIT 1", (collection,)):
            return
        for page in self._pages(
            f"SELECT id, data_json FROM {self._records} AS r WHERE collection = ? AND id > ? "
            f"AND EXISTS ({real} r.collection AND i.id = r.id AND i.field_value_real IS NOT NULL) "
            "ORDER BY id",
            collection,
        ):
            self._write_many(
                f"UPDATE {self._indexes} SET field_value_real = ?1 WHERE collection = ?2 "
                "AND id = ?3 AND field_name = ?4 AND field_value_real IS NOT ?1",
                (
                    (value.float, collection, id, name)
                    for id, line in page
                    for name, value in index_rows(fields, line)
                    if value.float is not None
                ),
            )

    def _insert_index(
        self, collection: str, fields: Sequence[IndexField], lines: Iterable[tuple[Any, ...]]
    ) -> None:
        self._write_many(
            f"INSERT INTO {self._indexes} (collection, id, field_name, {_VALUES}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (collection, id, name, *value)
                for id, line in lines
                for name, value in index_rows(fields, line)
            ),
        )


def _irregular(fields: Iterable[IndexField]) -> str:
    r"""Return the condition for lines that SQLite's JSON functions may read differently.

    They take the first of duplicate keys, cut strings at `\u0000`, and do not find a key that is
    written with escapes, all of which are `\u00..` in a valid name.
    """
    conditions = [r"records.data_json GLOB '*\u00*'"]
    conditions += [
        f"""records.data_json GLOB '*"{field.name}"*"{field.name}"*'""" for field in fields
    ]
    return " OR ".join(conditions)
