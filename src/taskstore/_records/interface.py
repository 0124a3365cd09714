"""What the cache and the store need of a record type, be it a class or plain dicts."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import attrs

from taskstore._records.hints import Hint
from taskstore._records.indexing import IndexField
from taskstore._records.versions import Claim

T = TypeVar("T")


@attrs.frozen
class FieldInfo:
    """One field of a record type.

    Attributes:
        name: Its name, which is its key in a line.
        type: Its declared type, resolved.
        default_json: Its default in JSON; None if it has none, or if a factory
            makes a new one each time.
        required: Whether a line must have the key.
    """

    name: str
    type: Hint
    default_json: bytes | None
    required: bool


class RecordCodec(Protocol[T]):
    """What the cache and the store need of a record type, be it a class or plain dicts."""

    @property
    def collection(self) -> str:
        """The name of the collection."""
        ...

    @property
    def name(self) -> str:
        """How messages call the type."""
        ...

    @property
    def index_fields(self) -> tuple[IndexField, ...]:
        """The indexed fields, in the order of the class."""
        ...

    def decode(self, line: str | bytes) -> T:
        """Make a record from a line."""
        ...

    def encode(self, record: T) -> dict[str, bytes]:
        """Return the keys and JSON values of a new record's line."""
        ...

    def quick_line(self, record: T, updated_at: int | str) -> bytes | None:
        """Return the line of a new record at once, None if `encode` has to look closer."""
        ...

    def id_of(self, record: T) -> str:
        """Return the record's id."""
        ...

    def claim(self, record: T) -> Claim | None:
        """Return the version that the record carries, if any."""
        ...

    def stamped(self, record: T, updated_at: int | str) -> T:
        """Return the record with a new version."""
        ...

    def merge(self, previous: str | bytes | None, record: T) -> dict[str, bytes]:
        """Return the keys and JSON values of the record's next line."""
        ...

    def value_of(self, record: T, name: str) -> Any:
        """Return the value of a field."""
        ...

    def field(self, name: str) -> FieldInfo:
        """Return what is known of a field."""
        ...
