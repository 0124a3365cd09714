"""What a store knows about the models that it mirrors. `_mirror` knows the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper


class MirroredModel(Protocol):
    """One mirrored model."""

    @property
    def collection(self) -> str:
        """The collection that its rows are written to."""

    @property
    def name(self) -> str:
        """Its name in messages."""


class MirroredModels(Protocol):
    """The mirrored models of one store; none for most stores."""

    def __bool__(self) -> bool: ...

    @property
    def by_collection(self) -> Mapping[str, MirroredModel]:
        """The models by collection."""

    @property
    def digests(self) -> Mapping[str, str]:
        """A short digest of each collection's model."""

    @property
    def tables(self) -> frozenset[str]:
        """The names of all their tables, in lower case."""

    def of(self, mapper: Mapper[Any]) -> object | None:
        """Return the mirrored model of a mapper; None if it is not mirrored."""

    def named(self, target: Any) -> MirroredModel | None:
        """Return the model of a class, a subclass of one, or a table; None if there is none."""


class NoMirrors:
    """The mirrored models of a store that has none."""

    by_collection: Mapping[str, MirroredModel] = {}
    digests: Mapping[str, str] = {}
    tables: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return False

    def of(self, mapper: Mapper[Any]) -> None:
        """Return None."""

    def named(self, target: Any) -> None:
        """Return None."""
