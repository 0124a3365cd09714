"""The wanted state of rows of mirrored tables."""

from __future__ import annotations

import attrs

from taskstore._mirror.model.shape import Mirror, Row, Shape

Key = tuple[str, str]


@attrs.frozen(eq=False)
class WantedRow:
    """The wanted state of a row.

    Attributes:
        mirror: Whose row it is.
        id: Its id.
        row: What it should be; None for no row.
        current: What it is; None for no row.
    """

    mirror: Mirror
    id: str
    row: Row | None
    current: Row | None

    @property
    def key(self) -> Key:
        """Collection and id."""
        return self.mirror.collection, self.id

    @property
    def shape(self) -> Shape:
        """The shape of the wanted row, or of the one to delete."""
        row = self.row or self.current
        assert row is not None
        return row.shape

    @property
    def kind(self) -> str:
        """One of "update", "delete", "insert" and, by a row of another class, "replace"."""
        if self.row is None:
            return "delete"
        if self.current is None:
            return "insert"
        return "update" if self.current.shape is self.row.shape else "replace"

    @property
    def deletes(self) -> bool:
        """Whether a row goes, be it for another one."""
        return self.kind in {"delete", "replace"}
