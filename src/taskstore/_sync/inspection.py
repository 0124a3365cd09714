"""Read the logs themselves: every version of a record, and the records that can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from taskstore._evolution.shape import Shape, mark_of
from taskstore._format.lines import LineError, decode_envelope, decode_object, may_be_of
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.lines import read_lines
from taskstore._log.recovery import virtual_limits
from taskstore._log.replay import LogChangedError, replay
from taskstore._query.conditions import Condition
from taskstore._query.ordering import resolve_order, sort_key
from taskstore._query.resolve import matches
from taskstore._records.interface import RecordCodec
from taskstore._records.types import RecordType
from taskstore._store.context import StoreContext
from taskstore.errors import InvalidRecordError, StoreAccessError

T = TypeVar("T")
_ATTEMPTS = 10


@attrs.frozen
class Version(Generic[T]):
    """One line of a record's history.

    Attributes:
        line: Its number in the log, from 1.
        updated_at: The version as in the line.
        order_us: The same in microseconds since the epoch, for the order of a replay.
        deleted: Whether the line is a tombstone.
        data: The line's JSON object in today's shape. If its revision is unknown, the object is
            as in the line.
        record: The record; None for a tombstone, and for a line that does not fit the type.
        reason: Why it does not fit.
    """

    line: int
    updated_at: int | str | None
    order_us: int
    deleted: bool
    data: dict[str, Any]
    record: T | None
    reason: str | None = None


@attrs.define
class Inspector:
    """Reads the logs of one store, without the cache."""

    context: StoreContext

    def history(self, codec: RecordCodec[T], id: str) -> list[Version[T]]:
        """Return every version of a record, oldest first. The last one counts."""
        with self._opened(codec.collection) as (fd, limit):
            versions = [
                self._version(codec, number, raw)
                for number, raw in _lines(fd, limit)
                if may_be_of(raw, id) and _id_of(raw) == id
            ]
        return sorted(versions, key=lambda version: (version.order_us, version.line))

    def records(
        self, codec: RecordCodec[T], condition: Condition | None
    ) -> tuple[list[T], list[Problem]]:
        """Return the records of a log that fit, newest first, and its problems."""
        path = self.context.layout.log_path(codec.collection)
        for _ in range(_ATTEMPTS):
            with self._opened(codec.collection) as (fd, limit):
                if fd is None:
                    return [], []
                try:
                    return self._read(codec, condition, fd, limit)
                except (LogChangedError, LineError, UnicodeDecodeError):
                    # Cut or overwritten in the meantime, by a program that takes no lock.
                    continue
        raise StoreAccessError(path, operation="read", reason="another program keeps changing it")

    def _read(
        self, codec: RecordCodec[T], condition: Condition | None, fd: int, limit: int | None
    ) -> tuple[list[T], list[Problem]]:
        facts = codec if isinstance(codec, RecordType) else None
        found: list[tuple[Any, T]] = []
        misfits: dict[str, InvalidRecordError] = {}
        path = str(self.context.layout.log_path(codec.collection))
        shape = self.context.shapes.of(codec.collection)
        log = replay(fd, collection=codec.collection, path=path, limit=limit, lacks=shape.lacks)
        sorts = resolve_order(None, facts)
        for winner in log.winners(fd):
            line = None if winner.deleted else shape.read(winner.line)
            if line is None:
                continue
            data = decode_object(line)
            if not matches(condition, data, facts):
                continue
            try:
                found.append((sort_key(sorts, data), codec.decode(line)))
            except InvalidRecordError as error:
                misfits[winner.line] = error
        placed = _placed(misfits, _lines(fd, limit)) if misfits else ()
        misfitting = [
            Problem(codec.collection, path, number, reason, id) for number, reason, id in placed
        ]
        found.sort(key=lambda item: item[0])
        return [record for _, record in found], [*log.problems, *misfitting]

    def _version(self, codec: RecordCodec[T], number: int, raw: bytes) -> Version[T]:
        envelope = decode_envelope(raw)
        line, reason = _in_shape(raw, self.context.shapes.of(codec.collection))
        data = decode_object(line)
        record = None
        if not envelope.deleted and reason is None:
            try:
                record = codec.decode(line)
            except InvalidRecordError as error:
                reason = str(error)
        return Version(
            number,
            envelope.updated_at,
            envelope.order_us,
            envelope.deleted,
            data,
            record,
            reason,
        )

    def _open(self, path: Path, collection: str) -> tuple[int | None, int | None]:
        context = self.context
        limit = None
        if context.read_only:
            limit = virtual_limits(context.layout).get(collection)
        else:
            context.recover()
        fd = None
        with access(path), suppress(FileNotFoundError):
            fd = files.open_log(path)
        if fd is not None and limit is None:
            # Lines that are appended from here on may still be undone.
            limit = os.fstat(fd).st_size
        return fd, limit

    @contextmanager
    def _opened(self, collection: str) -> Iterator[tuple[int | None, int | None]]:
        """Yield a log as it is between two commits: its descriptor, and where to stop reading."""
        context = self.context
        path = context.layout.log_path(collection)
        fd, limit = context.log_lock.run(context.lock_timeout, lambda: self._open(path, collection))
        try:
            with access(path):
                yield fd, limit
        finally:
            if fd is not None:
                os.close(fd)


def _lines(fd: int | None, limit: int | None) -> Iterator[tuple[int, bytes]]:
    """The lines of a log with their numbers, without those that are too long to be records."""
    for line in () if fd is None else read_lines(fd, limit=limit):
        if line.raw is not None:
            yield line.number, line.raw


def _placed(
    misfits: dict[str, InvalidRecordError], lines: Iterator[tuple[int, bytes]]
) -> Iterator[tuple[int | None, str, str | None]]:
    """Misfits with the number of the line that counts, which is the last one of its text."""
    numbers: dict[str, int] = {}
    for number, raw in lines:
        text = raw.decode(errors="replace").strip(" \t\r\n")
        if text in misfits:
            numbers[text] = number
    for text, error in misfits.items():
        reason = f"field {error.field!r}: {error.reason}" if error.field else error.reason
        yield numbers.get(text), reason, error.id


def _in_shape(raw: bytes, shape: Shape) -> tuple[bytes | str, str | None]:
    """A line in today's shape, and why it has none; then it is as it stands."""
    mark = "" if decode_envelope(raw).deleted else mark_of(raw)
    return shape.shown(raw), shape.lacks(mark) if mark else None


def _id_of(raw: bytes) -> str | None:
    try:
        return decode_envelope(raw).id
    except LineError:
        return None
