"""Made-up histories of a log: a base, and versions of it that were changed apart."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from taskstore._merge.logs import read_log

IDS = ["a", "b", "c", "d"]
FIELDS = ["title", "status", "labels", "notes", "meta"]
TIMES = st.sampled_from([None, 1, 2, 3, 2000, "1970-01-01T00:00:02Z", "1970-01-01T00:00:03+00:00"])

scalars = st.sampled_from(["x", "y", "z", 1, 2, 1.0, None, True, "<<<<<<< ours"])
labels = st.lists(st.sampled_from(["p", "q", "r", "s", "t"]), max_size=4)
notes = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from([1, 2, 3]), "text": scalars},
        optional={"updated_at": TIMES, "deleted": st.just(True)},
    ),
    max_size=3,
)
metas = st.dictionaries(st.sampled_from(["k", "l", "m"]), scalars | labels, max_size=3)
values = {"title": scalars, "status": scalars, "labels": labels, "notes": notes, "meta": metas}


def dumped(record: dict[str, Any]) -> bytes:
    """A record as a compact line."""
    return json.dumps(record, separators=(",", ":")).encode()


def joined(lines: list[bytes]) -> bytes:
    """A file of these lines."""
    return b"".join(line + b"\n" for line in lines)


@st.composite
def records(draw: Any, id: str | None = None) -> dict[str, Any]:
    """A live record, seldom a tombstone."""
    record: dict[str, Any] = {"id": id or draw(st.sampled_from(IDS))}
    if (time := draw(TIMES)) is not None:
        record["updated_at"] = time
    if draw(st.integers(0, 7)) == 0:
        return record | {"deleted": True}
    for field in draw(st.permutations(FIELDS)):
        if draw(st.booleans()):
            record[field] = draw(values[field])
    return record


@st.composite
def edits(draw: Any, line: bytes) -> bytes:
    """A changed version of a record's line."""
    record = json.loads(line)
    if not isinstance(record, dict) or "id" not in record:
        return line
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=2)):
        record[field] = draw(values[field])
    if draw(st.integers(0, 5)) == 0:
        record.pop(draw(st.sampled_from([*FIELDS, "updated_at", "deleted"])), None)
    time = draw(TIMES)
    if time is not None:
        record["updated_at"] = time
    return dumped(record)


@st.composite
def changed(draw: Any, lines: list[bytes], *, appends: bool) -> list[bytes]:
    """A version of a file after some edits: appended as a store does, or made in place."""
    lines = list(lines)
    for step in draw(
        st.lists(st.sampled_from(["edit", "add", "remove", "odd", "move"]), max_size=4)
    ):
        place = draw(st.integers(0, len(lines)))
        if step == "edit" and place < len(lines) and lines[place].startswith(b'{"id"'):
            line = draw(edits(lines[place]))
            if appends:
                lines.append(line)
            else:
                lines[place] = line
        elif step == "remove" and lines:
            del lines[place - 1]
        elif step == "move" and lines:
            lines.append(lines.pop(place - 1))
        elif step == "odd":
            lines.insert(place, draw(st.sampled_from([b"{broken", b"[1]", b"// note"])))
        else:
            record = draw(records())
            known = read_log(joined(lines), {}).winners
            if appends or record["id"] not in known:
                lines.insert(len(lines) if appends else place, dumped(record))
    return lines


@st.composite
def histories(draw: Any) -> tuple[bytes, bytes, bytes]:
    """A base and two versions of it."""
    appends = draw(st.booleans())
    base = draw(changed([], appends=appends)) + [
        dumped(draw(records(id))) for id in draw(st.lists(st.sampled_from(IDS), unique=True))
    ]
    if not appends:
        base = list(
            {
                json.loads(line)["id"]: line
                for line in base
                if line[:1] == b"{" and line != b"{broken"
            }.values()
        )
    first = draw(changed(base, appends=appends))
    second = draw(changed(base, appends=appends))
    if draw(st.integers(0, 4)) == 0:
        base = []
    return joined(base), joined(first), joined(second)


def state(data: bytes) -> dict[str, dict[str, Any]]:
    """The living records of a file, by id."""
    return {
        id: json.loads(line.raw)
        for id, line in read_log(data, {}).winners.items()
        if not line.deleted
    }
