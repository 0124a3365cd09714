"""The reads of a store on PostgreSQL: one statement each, on its table of records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from sqlalchemy import Select, select

from taskstore._api.reading import Question, facts_of
from taskstore._cache.schema.models import Models
from taskstore._format.lines import decode_object
from taskstore._postgres.records.questions import RecordQuestion
from taskstore._postgres.records.sessions import RecordSessions
from taskstore._records.interface import RecordCodec


@attrs.frozen
class RecordReader:
    """Reads records, with the same methods as `Reader`."""

    models: Models
    sessions: RecordSessions

    def get(self, codec: RecordCodec[Any], id: str) -> Any:
        """Return the record with an id, or None."""
        if "\0" in id:
            # PostgreSQL has no such text.
            return None
        columns: Any = self.models.StoredRecord.__table__.c
        statement = select(columns.data_json).where(
            columns.collection == codec.collection, columns.id == id
        )
        with self.sessions.reading() as connection:
            line = connection.execute(statement).scalar_one_or_none()
        return None if line is None else codec.decode(line)

    def records(self, question: Question) -> list[Any]:
        """Return the matching records, in order."""
        return [question.codec.decode(line) for line in self._lines(question)]

    def ids(self, question: Question) -> list[str]:
        """Return the ids of the matching records."""
        return [decode_object(line)["id"] for line in self._lines(question)]

    def count(self, question: Question) -> int:
        """Return the number of matching records."""
        with self.sessions.reading() as connection:
            return self._asked(question).count(connection)

    def exists(self, question: Question) -> bool:
        """Return whether any record matches."""
        with self.sessions.reading() as connection:
            return self._asked(question).exists(connection)

    def page(self, question: Question, after: str | None) -> tuple[list[Any], str | None]:
        """Return a page of records, and the token of the next page; None if it is the last."""
        limit = question.limit or 0
        asked = self._asked(question)
        with self.sessions.reading() as connection:
            lines = list(asked.lines(connection, limit=limit + 1, after=after))
        items = [question.codec.decode(line) for line in lines[:limit]]
        more = len(lines) > limit > 0
        return items, asked.token(lines[limit - 1]) if more else None

    def iterate(self, question: Question) -> Iterator[Any]:
        """Yield the matching records one by one, from one snapshot."""
        asked, window = self._asked(question), (question.limit, question.offset)
        with self.sessions.reading() as connection:
            for line in asked.lines(connection, *window, stream=True):
                yield question.codec.decode(line)

    def select(self, question: Question) -> Select[Any]:
        """Return a SELECT of the matching StoredRecord rows, for a session of the user."""
        return self._asked(question).select()

    def _lines(self, question: Question) -> list[str]:
        asked = self._asked(question)
        with self.sessions.reading() as connection:
            return list(asked.lines(connection, question.limit, question.offset))

    def _asked(self, question: Question) -> RecordQuestion:
        codec = question.codec
        return RecordQuestion.of(
            self.models,
            codec.collection,
            question.condition,
            facts_of(codec),
            question.order_by,
        )
