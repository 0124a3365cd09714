"""What a shell is offered when Tab is pressed."""

from __future__ import annotations

import click

from taskstore._log.layout import Layout
from taskstore.cli._store import locate, opened
from taskstore.errors import TaskstoreError

__all__ = ["complete_collection", "complete_field", "complete_id"]

_MOST = 100


def complete_collection(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the collections whose names begin as typed."""
    try:
        names, _ = Layout(locate(ctx.params.get("store_path"))).collections()
    except TaskstoreError:
        # There is nobody to tell: the person is in the middle of a line.
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_id(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids that begin as typed, of the collection that was named before."""
    from taskstore._survey.fields import ids_from

    try:
        with opened(ctx.params.get("store_path")) as store:
            return ids_from(store, ctx.params.get("collection") or "", incomplete, _MOST)
    except TaskstoreError:
        return []


def complete_field(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the fields that begin as typed, of the collection that was named before."""
    from taskstore._survey.fields import field_names

    try:
        with opened(ctx.params.get("store_path")) as store:
            names = field_names(store, ctx.params.get("collection") or "")
    except TaskstoreError:
        return []
    return [name for name in names if name.startswith(incomplete)]
