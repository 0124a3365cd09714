"""`taskstore mcp`: a store for programs that speak the Model Context Protocol."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from taskstore.cli._arguments import standard_input
from taskstore.cli._errors import Failure, Status
from taskstore.cli._output import standard_output
from taskstore.cli._store import locate, store_option
from taskstore.cli._streams import unwrapped_output


@click.command("mcp")
@click.option("--read-only", is_flag=True, help="Leave out the tools that change records.")
@store_option
def command(store_path: Path | None, *, read_only: bool) -> None:
    """Offer a store to AI agents as tools, over the Model Context Protocol (MCP).

    A client starts the command, writes to its stdin and reads its stdout. The tools are
    collections, list, get, history, changes, add and set. They do what the commands of their
    names do, with the same checks. The command ends when its stdin ends. It needs the extra mcp:
    pip install 'taskstore[mcp]'.

    Exit status: 0; 3 no store.

    \b
    Example:
      taskstore mcp --store ~/shop/.taskstore --read-only
    """
    directory = locate(store_path).absolute()
    standard_input()
    standard_output()
    # Version 1 of the SDK has other calls, and no package of this name.
    if find_spec("mcp_types") is None or find_spec("mcp") is None:
        message = "`taskstore mcp` needs the MCP SDK 2: pip install 'taskstore[mcp]'"
        raise Failure(message, Status.USAGE)
    from taskstore.cli._mcp.server import serve

    with unwrapped_output():
        serve(directory, read_only=read_only)
