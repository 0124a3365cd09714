"""The version of a write: the rule that makes the last local write win.

A record's `updated_at` is its version. A write without a version, or with the stored one, is
stamped with ``max(now, stored + 1)`` milliseconds. A write with an older version is refused,
because it would be lost at the next replay. A newer version is kept.
"""

from __future__ import annotations

from typing import NamedTuple

from taskstore._format.instants import MAX_MS, MIN_MS, format_rfc3339, in_form_of
from taskstore._records.versions import Claim
from taskstore.errors import InvalidRecordError, StaleRecordError


class Version(NamedTuple):
    """An instant, as the line shows it and as the cache orders it.

    Attributes:
        value: The value in the line.
        order_us: The instant, in microseconds since the epoch.
        kept: Whether the write had it, and it is newer than the stored one.
    """

    value: int | str
    order_us: int
    kept: bool = False

    @property
    def ms(self) -> int:
        """The instant in whole milliseconds since the epoch."""
        return self.order_us // 1000


def next_version(
    claim: Claim | None,
    stored_us: int | None,
    previous: int | str | None,
    now_ms: int,
    *,
    collection: str,
    id: str,
) -> Version:
    """The version of the next line of a record.

    Args:
        claim: What the write carries; None is no claim.
        stored_us: The order of the stored line, live or dead, in microseconds; None for none.
        previous: `updated_at` of the stored line, for its form.
        now_ms: The clock, in milliseconds since the epoch.
        collection: For the error.
        id: For the error.

    Raises:
        StaleRecordError: The claim is older than what is stored.
        InvalidRecordError: The clock gives no time.
    """
    if claim is not None:
        known = None if stored_us is None else stored_us - stored_us % claim.precision_us
        if known is None or claim.order_us > known:
            return _kept(claim, previous)
        if claim.order_us < known:
            raise StaleRecordError(
                collection=collection, id=id, carried=claim.value, stored=previous
            )
    if type(now_ms) is not int or not MIN_MS <= now_ms <= MAX_MS:
        raise InvalidRecordError(
            collection=collection,
            id=id,
            field="updated_at",
            reason=f"the clock says {now_ms!r}, which is not a time in milliseconds within the "
            "years 1 to 9999: set the clock",
        )
    stamp = now_ms if stored_us is None else max(now_ms, stored_us // 1000 + 1)
    if stored_us is not None and stamp > MAX_MS:
        # Nothing can follow the last possible moment, but among equals the later line wins.
        return Version(MAX_MS if previous is None else previous, stored_us)
    return Version(in_form_of(stamp, previous), stamp * 1000)


def _kept(claim: Claim, previous: int | str | None) -> Version:
    """A claimed version, in the form of the record's previous line where that loses nothing."""
    if isinstance(previous, str) and isinstance(claim.value, int):
        return Version(format_rfc3339(claim.value), claim.order_us, kept=True)
    if isinstance(previous, int) and claim.order_us % 1000 == 0:
        return Version(claim.order_us // 1000, claim.order_us, kept=True)
    return Version(claim.value, claim.order_us, kept=True)
