"""Changes of records of which the log has lines that the tables do not have yet.

Git has brought these lines, and no sync has come since; or a newer revision of the application has
written them, and the tables come to it with the next upgrade. A change here is merged with such a
line as `git merge` would merge the two, field by field, so that neither side loses what it wrote.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import attrs

from taskstore._cache.rows.records import Stored
from taskstore._evolution.graph import Graph
from taskstore._evolution.shape import Shape, with_stamp
from taskstore._format.lines import (
    LineError,
    decode_envelope,
    decode_key,
    encode_value,
    join_fields,
    key_spellings,
    raw_fields,
    tombstone_line,
)
from taskstore._log import files
from taskstore._log.files import access
from taskstore._log.layout import Layout
from taskstore._log.lines import read_lines
from taskstore._merge.evolved import merge_evolved
from taskstore._merge.logs import Line
from taskstore._merge.policies import parse_policies
from taskstore._unit.versions import next_version


@attrs.frozen
class Pulled:
    """The newest lines of some records of one collection, where the tables do not have them.

    Attributes:
        collection: The collection.
        shape: That of its table.
        policies: Those of its fields.
        lines: The lines, by id; changes with what is merged into them.
        written: All lines of these records that the log has.
    """

    collection: str
    shape: Shape = attrs.field(factory=Shape)
    policies: Mapping[str, str] = attrs.field(factory=dict)
    lines: dict[str, Line] = attrs.field(factory=dict)
    written: frozenset[bytes] = frozenset()

    def merged(self, before: Stored | None, line: bytes, now: Stored) -> bytes | None:
        """Return the line to append for a change; None if the log says all that it says.

        Args:
            before: What was stored of the record before the change.
            line: The line of the change, with the reserved key.
            now: What is to be stored.

        Raises:
            UnknownRevisionError: The newest line is of a revision that nothing states.
            InvalidRecordError: The merged line would be too long.
        """
        id = decode_envelope(line).id
        newest = self.lines.get(id)
        if newest is None:
            return line
        if line in self.written:
            # A crash, or an older state of the database, has kept it from being known here.
            return None
        change = Line(line, id, now.order_us, now.deleted)
        graph = self.shape.graph
        found = merge_evolved(
            (self._base(id, before), change, newest), self.policies, graph, may_go_back=False
        ).line
        if found is None or _says(graph, found) == _says(graph, newest):
            return None
        if found.order_us <= newest.order_us:
            found = self._later(found, newest)
        self.lines[id] = found
        return found.raw

    def _base(self, id: str, before: Stored | None) -> Line | None:
        if before is None:
            return None
        if before.line is None:
            told = before.order_us // 1000 if before.updated_at_text is None else before.updated_at
            return Line(tombstone_line(id, told or 0), id, before.order_us, deleted=True)
        raw = with_stamp(before.line, self.shape.signature).encode()
        return Line(raw, id, before.order_us)

    def _later(self, line: Line, newest: Line) -> Line:
        """Return a line with a version that is newer than that of another line."""
        version = next_version(
            None,
            newest.order_us,
            decode_envelope(newest.raw).updated_at,
            0,
            collection=self.collection,
            id=line.id or "",
        )
        fields = raw_fields(line.raw) | {"updated_at": encode_value(version.value)}
        raw = join_fields(fields, key_spellings(line.raw))
        return line._replace(raw=raw, order_us=version.order_us)


def _says(graph: Graph, line: Line) -> tuple[bool, dict[str, bytes]]:
    """Return what a line says in the newest shape, without its version."""
    if line.deleted:
        return True, {}
    read = Shape(graph, graph.whole).read(line.raw.decode())
    fields = raw_fields(line.raw if read is None else read)
    fields.pop("updated_at", None)
    return False, fields


def read_pulled(
    layout: Layout,
    collection: str,
    shape: Shape,
    stored: Mapping[str, Stored],
    ids: Collection[str],
) -> Pulled:
    """Return what a log has of some records that is newer than what is stored of them.

    Args:
        layout: The directory.
        collection: The collection.
        shape: In which lines are stored.
        stored: What is stored, by id.
        ids: Of the records.

    Raises:
        StoreAccessError: The log, or the settings, cannot be read.
        ConfigError: The settings are not valid.
    """
    newest: dict[str, Line] = {}
    written: set[bytes] = set()
    path, wanted = layout.log_path(collection), frozenset(ids)
    with access(path):
        try:
            fd = files.open_log(path)
        except FileNotFoundError:
            return Pulled(collection)
        try:
            for line in read_lines(fd):
                raw = (line.raw or b"").strip()
                try:
                    id, order_us, deleted, _, _ = decode_key(raw)
                except LineError:
                    continue  # a problem of the log, which a sync reports
                if id in wanted:
                    written.add(raw)
                    if id not in newest or newest[id].order_us <= order_us:
                        newest[id] = Line(raw, id, order_us, deleted)
        finally:
            os.close(fd)
    lines = {id: one for id, one in newest.items() if _is_news(shape, one, stored.get(id))}
    if not lines:
        return Pulled(collection)
    policies = parse_policies(layout.read_config(), str(layout.config_path))
    return Pulled(
        collection, shape, policies.of(collection, shape.graph), lines, frozenset(written)
    )


def _is_news(shape: Shape, line: Line, stored: Stored | None) -> bool:
    """Return whether a line is neither what is stored nor older."""
    if stored is None or line.order_us != stored.order_us:
        return stored is None or line.order_us > stored.order_us
    if line.deleted or stored.line is None:
        return line.deleted != stored.deleted
    return shape.read(line.raw.decode()) != stored.line
