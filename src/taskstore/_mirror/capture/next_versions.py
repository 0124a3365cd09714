"""The versions of the next lines of rows that were written, nearly all of which are alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import attrs

from taskstore._cache.rows.records import Stored
from taskstore._format.instants import MAX_MS, format_rfc3339
from taskstore._mirror.capture.versions import (
    NOT_PLAIN,
    form_at_end,
    is_form,
    plain_order,
    plain_text,
    stamp_for,
)
from taskstore._mirror.model.shape import Mirror, Row, rfc3339
from taskstore._records.reasons import StructureError
from taskstore._records.versions import Claim
from taskstore._unit.versions import Version
from taskstore.errors import InvalidRecordError

_VERSIONS = (int, datetime)


class _Kept(NamedTuple):
    """A version that a row has brought along.

    Attributes:
        mirror: Whose row it was.
        value: The value of its version column.
        form: The type of the version in a line.
        version: That version.
    """

    mirror: Mirror
    value: Any
    form: type
    version: Version

    def fits(self, mirror: Mirror, value: Any, before: Stored | None, form: type | None) -> bool:
        """Return whether a row with this value gets the same version."""
        return self.is_in(mirror, value) and (
            before is None or (form is self.form and 0 <= before.order_us < self.version.order_us)
        )

    def is_in(self, mirror: Mirror, value: Any) -> bool:
        """Return whether the version column of a row has this version."""
        return (
            mirror is self.mirror and type(value) is type(self.value) and bool(value == self.value)
        )


class _Older(NamedTuple):
    """A version that is not newer than the stored one, so that the row gets a new one.

    Attributes:
        mirror: Whose row it was.
        value: What is stored in its version column.
        form: The type of the version in the last line.
        order_us: What the column says, in microseconds.
        stamp: The present time.
    """

    mirror: Mirror
    value: Any
    form: type | None
    order_us: int
    stamp: Version


@attrs.define
class NextVersions:
    """Decides the versions of next lines.

    Attributes:
        now_ms: The time of all stamps, in milliseconds since the epoch.
    """

    now_ms: int
    _kept: _Kept | None = None
    _seen: _Kept | None = None
    _older: _Older | None = None
    _latest: Version | None = None
    _shown: tuple[Mirror, Version, Any] | None = None
    _burials: dict[tuple[str, type], Version] = attrs.field(factory=dict)

    def next(
        self, mirror: Mirror, id: str, value: Any, before: Stored | None, form: type | None
    ) -> Version:
        """Return the version of a changed row: that which it has, if it is newer, or a stamp.

        Args:
            mirror: Whose row it is.
            id: Of the row.
            value: Of its version column.
            before: What is stored of its id.
            form: The type of the version in its last line, where that is at hand.

        Returns:
            One that is not kept is a stamp, which the row has to get.

        Raises:
            InvalidRecordError: The value is no version.
        """
        # The rows of one flush mostly have one stamp.
        if (kept := self._kept) is not None and kept.fits(mirror, value, before, form):
            return kept.version
        plain = mirror.version.codec.plain if mirror.version is not None else None
        order_us = plain_order(plain, value) if plain in _VERSIONS else NOT_PLAIN
        if order_us != NOT_PLAIN and (before is None or is_form(plain, form)):
            found = self._plain(mirror, value, before, order_us)
            if found is not None:
                return found
        claim = self._claim(mirror, id, value) if mirror.version is not None else None
        if claim is not None and before is not None:
            stored = before.order_us - before.order_us % claim.precision_us
            claim = claim if claim.order_us > stored else None
        return stamp_for(mirror, id, before, claim, self.now_ms)

    def _plain(
        self, mirror: Mirror, value: Any, before: Stored | None, order_us: int
    ) -> Version | None:
        """The version of a row whose column is plain, in the usual case; None in others."""
        is_int = type(value) is int
        stored = before.order_us if before is not None else 0
        if stored < 0:
            return None
        if order_us > (stored - stored % 1000 if is_int else stored):
            shown = value if is_int else plain_text(value)
            version = Version(shown, order_us, kept=True)
            self._kept = _Kept(mirror, value, type(shown), version)
            return version
        stamp = max(self.now_ms, stored // 1000 + 1)
        if value is None or not 0 < stamp <= MAX_MS:
            return None
        shown = stamp if is_int else format_rfc3339(stamp)
        known = self._latest
        if known is None or known.value != shown or type(known.value) is not type(shown):
            # Of equal ones there is one only, so that what is made of it is at hand.
            known = self._latest = Version(shown, stamp * 1000)
        return known

    def _claim(self, mirror: Mirror, id: str, value: Any) -> Claim | None:
        assert mirror.version is not None
        try:
            claim = mirror.claim(value)
        except StructureError as error:
            raise InvalidRecordError(
                collection=mirror.collection,
                id=id,
                field=mirror.version.name,
                reason=str(error),
            ) from None
        if claim is not None and mirror.version.codec.python == "datetime":
            # In the form of a stamp.
            return attrs.evolve(claim, value=rfc3339(claim.order_us))
        return claim

    def known(
        self, mirror: Mirror, stored: Any, is_first: bool, order_us: int, form: type | None
    ) -> Version | None:
        """Return the version of the last row from `of_column`, if this row has the same.

        Args:
            mirror: Whose row it is.
            stored: What is stored in its version column.
            is_first: Whether this is the first line of its record.
            order_us: The version of its last line, in microseconds.
            form: The type of that.
        """
        # The rows of one flush mostly have one stamp, and so have those of one UPDATE.
        seen, older = self._seen, self._older
        if seen is not None and seen.is_in(mirror, stored):
            if is_first or (form is seen.form and 0 <= order_us < seen.version.order_us):
                return seen.version
        elif older is not None and older.value == stored and type(older.value) is type(stored):
            is_alike = older.mirror is mirror and older.form is form and not is_first
            if is_alike and older.order_us <= order_us and order_us // 1000 < self.now_ms:
                return older.stamp
        return None

    def of_column(
        self,
        mirror: Mirror,
        reader: Callable[[Any], Any] | None,
        id: str,
        stored: Any,
        before: Stored | None,
        form: type | None,
    ) -> Version:
        """Return what `next` does, by the value that is stored in a version column.

        Args:
            mirror: Whose row it is.
            reader: What makes its value of what is stored; None for nothing.
            id: Of the row.
            stored: The stored record; ignored without a version column.
            before: As in `next`.
            form: As in `next`.
        """
        if mirror.version is None:
            return self.next(mirror, id, None, before, form)
        value = stored if reader is None else reader(stored)
        version = self.next(mirror, id, value, before, form)
        if version.kept:
            self._seen = _Kept(mirror, stored, type(version.value), version)
        elif version is self._latest and version.order_us == self.now_ms * 1000:
            plain = mirror.version.codec.plain
            self._older = _Older(mirror, stored, form, plain_order(plain, value), version)
        return version

    def in_column(self, mirror: Mirror, version: Version) -> Any:
        """Return a stamp as the version column of a row holds it."""
        shown = self._shown
        if shown is None or shown[0] is not mirror or shown[1] is not version:
            shown = self._shown = mirror, version, mirror.version_value(version.value)
        return shown[2]

    def is_same(self, mirror: Mirror, row: Row, before: Stored | None) -> bool:
        """Return whether a row has the version that is stored."""
        if mirror.version is None or before is None:
            return True
        if mirror.version.codec.python == "int":
            version = row.version or 0
            if type(version) is not int:
                version = (mirror.order_of(version) or 0) // 1000
            return bool(version == before.order_us // 1000)
        return (
            self._claim(mirror, row.id, row.version) or Claim(0, 0, 1)
        ).order_us == before.order_us

    def burial(self, mirror: Mirror, id: str, before: Stored) -> Version:
        """Return the version of a tombstone: nearly all of them have the present time."""
        form = form_at_end(before.line) if before.line is not None else None
        key = mirror.collection, form or type(before.updated_at)
        known = self._burials.get(key)
        if known is not None and before.order_us < known.order_us:
            return known
        version = stamp_for(mirror, id, before, None, self.now_ms)
        if version.order_us == self.now_ms * 1000:
            self._burials[key] = version
        return version
