"""`taskstore browse`: the records and their history in a browser."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from taskstore.cli._errors import Failure, Status
from taskstore.cli._imports import needed
from taskstore.cli._output import flush, json_option, note, warn, write, write_json_line
from taskstore.cli._store import uses_store

if TYPE_CHECKING:
    from socket import socket

    from taskstore._api.store import Store


@click.command("browse")
@click.option(
    "--host",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. By default only this computer can connect.",
)
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="The port; 0 is any free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@json_option
@uses_store()
def command(store: Store, host: str, port: int, *, opens: bool, as_json: bool) -> None:
    """Show the records, their history and their links in a browser, until Ctrl-C.

    The command prints the address of the first page. The pages show what the logs have at that
    moment, and cannot change it. Datasette, which shows them, comes with
    `pip install 'taskstore[browse]'`.

    Exit status: 0 after Ctrl-C or SIGTERM; 2 Datasette is missing; 3 the address is in use.

    \b
    Examples:
      taskstore browse --open
      taskstore browse --port 8001
    """
    needed("datasette", "browse")
    from taskstore._browse.serving import serve

    with closing(_listening(host, port)) as listener:

        def ready(url: str) -> None:
            _say(url, host, as_json=as_json)
            if opens:
                from taskstore.cli._programs import open_page

                open_page(url)

        serve(store, host, listener, ready=ready, report=note)


def _listening(host: str, port: int) -> socket:
    from taskstore._browse.serving import listen

    try:
        return listen(host, port)
    except (OSError, UnicodeError) as error:
        # A name that cannot be one on a network is a UnicodeError.
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "give another --port, or none for a free one" if port else "name another --host"
        message = f"cannot listen on {host}, port {port}: {reason}: {remedy}"
        raise Failure(message, Status.STORE) from error


def _say(url: str, host: str, *, as_json: bool) -> None:
    from taskstore._browse.guard import is_local

    if as_json:
        write_json_line({"url": url})
    else:
        write(url)
    flush()
    if not is_local(host):
        warn(f"whoever can reach {host} can read this store")
    if not as_json:
        note("press Ctrl-C to stop")
