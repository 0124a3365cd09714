"""The mirrored models of one store, as the folders below know them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection, Engine

from taskstore._mirror.model.registry import Registry

if TYPE_CHECKING:
    from taskstore._cache.rows.rows import Rows
    from taskstore._format.problems import Problem
    from taskstore._mirror.capture.capture import MirrorCapture
    from taskstore._mirror.projection.sync import MirrorSync
    from taskstore._store.context import StoreContext
    from taskstore._sync.report import SyncReport
    from taskstore._sync.verification import Difference
    from taskstore._unit.unit import Unit


class Mirrors(Registry):
    """The mirrored models of one store; none for most stores, which load no more than this."""

    def capture(self, context: StoreContext, engine: Engine) -> MirrorCapture:
        """Return what captures the changes of mirrored rows on an engine."""
        from taskstore._mirror.capture.capture import MirrorCapture

        return MirrorCapture(context, engine)

    def projection(
        self, context: StoreContext, connection: Connection, rows: Rows, unit: Unit, prune: bool
    ) -> MirrorSync:
        """Return what updates mirrored tables in one sync."""
        from taskstore._mirror.projection.sync import MirrorSync

        return MirrorSync(context, connection, rows, unit, prune)

    def late(self, context: StoreContext, connection: Connection, rows: Rows) -> list[str]:
        """Return the collections whose tables were not compared since their models changed."""
        from taskstore._mirror.projection.sync import late_mirrors

        return late_mirrors(context, connection, rows, rows.mirror_states())

    def check_logs(self, context: StoreContext, connection: Connection, report: SyncReport) -> None:
        """Raise MissingLogError if a table has rows and its log is not theirs."""
        from taskstore._mirror.projection.sync import check_synced

        check_synced(context, connection, report)

    def differences(
        self, context: StoreContext, connection: Connection, rows: Rows, problems: list[Problem]
    ) -> Iterator[Difference]:
        """Yield where mirrored tables differ from their records."""
        from taskstore._mirror.projection.verification import MirrorVerification

        return MirrorVerification(context, connection, rows, problems).run()
