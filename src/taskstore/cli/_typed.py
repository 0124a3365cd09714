"""What a completion knows about the words before it."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import click

from taskstore.errors import TaskstoreError


def given(ctx: click.Context, name: str) -> Any:
    """Return the value of a parameter that was typed before.

    click parses nothing if the last word is an option without a value.
    """
    words: list[str] = ctx.obj or []
    value = ctx.params.get(name)
    if isinstance(value, enum.Enum):
        value = None  # click's own mark of an option that was not given
    if value is not None or not words or not words[-1].startswith("-"):
        return value
    depth, parent = 0, ctx.parent
    while parent is not None:
        depth, parent = depth + 1, parent.parent
    again = ctx.command.make_context(
        ctx.info_name, words[depth:-1], parent=ctx.parent, resilient_parsing=True
    )
    return again.params.get(name)


Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def quietly(complete: Complete) -> Complete:
    """Make a completion offer nothing if a store or a repository cannot be read."""

    @functools.wraps(complete)
    def call(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        try:
            return complete(ctx, param, incomplete)
        except TaskstoreError:
            # No message: the person is in the middle of typing a line.
            return []

    return call
