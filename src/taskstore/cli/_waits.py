"""What is said while another process has the store locked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from taskstore._log.layout import Layout
from taskstore.cli._output import note

_PATIENCE = 1.0
"""How long one waits without being told for whom, in seconds."""


@contextmanager
def waits_told(layout: Layout) -> Iterator[None]:
    """Say once on stderr for which process a command waits, where that takes more than a second.

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
            note(f"waiting for {_holder(layout, fd)}, which writes to the store")

    with telling_of_waits(tell):
        yield


def _holder(layout: Layout, fd: int) -> str:
    from taskstore._doctor.log_checks import holder

    # The holder of the turn waits too, for the holder of the gate.
    at_gate = holder(layout.gate_path) if _is_file(fd, layout.turn_path) else None
    return at_gate or holder(fd) or "another process"


def _is_file(fd: int, path: os.PathLike[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
