"""The merge of two versions of a log that have a common ancestor."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taskstore._merge.forms import as_log, one_per_id
from taskstore._merge.logs import Lines, Log, read_log
from taskstore._merge.places import Clash
from taskstore._merge.records import Settled, merge_record
from taskstore._merge.values import Value

__all__ = ["Conflict", "Merged", "merge_logs"]


@attrs.frozen
class Conflict:
    """Two changes of one thing of which only one could be kept.

    Attributes:
        id: The record's id.
        field: The field, such as `status` or `meta.owner`; empty for the whole line.
        ours: Our value as JSON; None where it is missing.
        theirs: Their value.
        taken: Whose is in the result: "ours" or "theirs".
        reason: Why.
        is_left: Whether a person is to decide.
    """

    id: str
    field: str
    ours: Value
    theirs: Value
    taken: str
    reason: str
    is_left: bool


@attrs.frozen
class Merged:
    """The result of a merge.

    Attributes:
        data: The merged file.
        conflicts: What was changed on both sides differently, in the order of the ids.
        has_markers: Whether a side has the conflict markers of an earlier merge.
    """

    data: bytes
    conflicts: tuple[Conflict, ...] = ()
    has_markers: bool = False

    @property
    def is_left(self) -> bool:
        """Whether a person has something to decide."""
        return self.has_markers or any(conflict.is_left for conflict in self.conflicts)


def merge_logs(
    base: bytes, ours: bytes, theirs: bytes, policies: Mapping[str, str] | None = None
) -> Merged:
    """Merge two versions of a log.

    The result has the same bytes whichever version is `ours`.

    Args:
        base: The file before both changes; empty where there was none.
        ours: One version.
        theirs: The other.
        policies: What settles two changes of a field, by the field's name.
    """
    if ours == theirs or base in (ours, theirs):
        data = theirs if ours == base else ours
        return Merged(data, has_markers=read_log(data, {}).has_markers)
    # From here on nothing knows which side is whose, so nothing can depend on it.
    swapped = theirs < ours
    first, second = (theirs, ours) if swapped else (ours, theirs)
    known: Lines = {}
    logs = read_log(base, known), read_log(first, known), read_log(second, known)
    has_markers = logs[1].has_markers or logs[2].has_markers
    is_one_per_id = not has_markers and logs[1].is_one_per_id and logs[2].is_one_per_id
    settled = _settle(logs, policies or {}, may_go_back=is_one_per_id)
    blocks = {id: _block(found, swapped) for id, found in settled.items() if found.variants}
    if is_one_per_id:
        lines = one_per_id(logs, settled, blocks)
    else:
        lines = as_log(logs, settled, blocks, known, keep_all=has_markers)
    conflicts = [
        _conflict(id, clash, swapped) for id in sorted(settled) for clash in settled[id].clashes
    ]
    data = b"".join([b"%b\n" % line for line in lines])
    return Merged(data, tuple(conflicts), has_markers)


def _settle(
    logs: tuple[Log, Log, Log], policies: Mapping[str, str], *, may_go_back: bool
) -> dict[str, Settled]:
    before, first, second = (log.winners for log in logs)
    settled: dict[str, Settled] = {}
    for id in first | second | before:
        ours, theirs, base = first.get(id), second.get(id), before.get(id)
        # Lines are decoded once for all files: most records are one and the same object.
        if ours is theirs or theirs is base:
            settled[id] = Settled(ours)
        elif ours is base:
            settled[id] = Settled(theirs)
        else:
            settled[id] = merge_record(base, ours, theirs, policies, may_go_back=may_go_back)
    return settled


def _block(found: Settled, swapped: bool) -> bytes:
    """Return the lines between which a person is to choose, as git marks them."""
    assert found.variants is not None
    ours, theirs = found.variants[::-1] if swapped else found.variants
    return b"\n".join([b"<<<<<<< ours", ours, b"=======", theirs, b">>>>>>> theirs"])


def _conflict(id: str, clash: Clash, swapped: bool) -> Conflict:
    values = clash.second, clash.first
    ours, theirs = values if swapped else values[::-1]
    taken = "ours" if (clash.taken == 1) == swapped else "theirs"
    return Conflict(id, clash.path, ours, theirs, taken, clash.reason, clash.is_left)
