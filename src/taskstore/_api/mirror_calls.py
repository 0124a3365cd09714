"""The call of a store that is for mirrored models only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskstore._api.sessions import Sessions
from taskstore._mirror.model.registry import registry
from taskstore._store.context import StoreContext
from taskstore._sync.cache_file import CacheFile
from taskstore._unit.work import Work
from taskstore.errors import InvalidDeclarationError

if TYPE_CHECKING:
    from taskstore._mirror.model.shape import Mirror


class MirrorCalls:
    """The call for mirrored models, besides writing them in sessions."""

    _cache: CacheFile
    _context: StoreContext
    _sessions: Sessions

    def export(self, type: Any = None, /, *, refused: bool = False) -> int:
        """Write the rows of a mirrored model that its log does not have, in one transaction.

        Without a model, do this for each mirrored model, in a transaction of its own.

        Use it to start the log of a table that had rows before it was mirrored, and to write a
        lost log again. If a row is older than the line of its record and differs from it, the row
        becomes the newest line.

        Args:
            type: A mirrored class or table; None for all.
            refused: Also write the rows whose lines a sync could not apply, for example after a
                column got another type. The row becomes the newest line.

        Returns:
            How many lines were written.

        Raises:
            InvalidDeclarationError: This store does not mirror `type`.

        Warns:
            RecordSkippedWarning: A row has no id, or a value that cannot be read or written as
                JSON. The row is left out and stays as it is.
        """
        self._context.check_open()
        mirrors = registry(self._context)
        if type is None:
            return sum(self._export(one, refused=refused) for one in mirrors)
        mirror = mirrors.named(type)
        if mirror is None:
            raise InvalidDeclarationError(
                getattr(type, "__qualname__", repr(type)),
                reason="this store does not mirror it: Store.open(..., mirrors=[...])",
            )
        return self._export(mirror, refused=refused)

    def _log_migrated(self) -> None:
        """Log the rows that migrations have changed, in one transaction."""
        if not self._context.mirrors:
            return
        from taskstore._mirror.capture.export import written_mirrors  # most stores mirror nothing

        written = written_mirrors(self._context)
        if written:
            self._sessions.run(lambda: self._cache.retried(lambda: self._exported(written)))

    def _export(self, mirror: Mirror, *, refused: bool) -> int:
        return self._sessions.run(
            lambda: self._cache.retried(lambda: self._exported([mirror], refused=refused))
        )

    def _exported(self, mirrors: Sequence[Mirror], *, refused: bool = False) -> int:
        from taskstore._mirror.capture.export import export_rows  # most stores mirror nothing

        def export(work: Work) -> int:
            return sum(
                export_rows(self._context, work.connection(), work.unit, mirror, refused=refused)
                for mirror in mirrors
            )

        return self._sessions.write(mirrors[0].collection, "export rows", export)
