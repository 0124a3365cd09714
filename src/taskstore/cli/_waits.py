"""Messages while another process holds a lock of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from taskstore._log.layout import Layout
from taskstore.cli._output import note

_PATIENCE = 1.0
"""How long a command waits before it names the process that it waits for, in seconds."""


@contextmanager
def waits_told(layout: Layout) -> Iterator[None]:
    """Say once on stderr which process a command waits for, if that takes over a second.

    A command that prints JSON says nothing: a program reads it.
    """
    from taskstore._log.locks import telling_of_waits

    context = click.get_current_context(silent=True)
    if context is None or context.params.get("as_json"):
        yield
        return
    is_told = False

    def tell(fd: int, waited: float) -> None:
        nonlocal is_told
        if not is_told and waited >= _PATIENCE:
            is_told = True
            note(f"waiting for {_holder(fd)}, which writes to the store")

    with telling_of_waits(tell):
        yield


def _holder(fd: int) -> str:
    from taskstore._doctor.log_checks import holder

    return holder(fd) or "another process"
