"""`taskstore trust`: which modules with record types are imported in this clone."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status
from taskstore.cli._output import confirmed, json_option, note, to_terminal, write, write_json
from taskstore.cli._store import locate, store_option


@click.command("trust")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--list", "only_list", is_flag=True, help="Only print what is trusted.")
@click.option(
    "--remove", is_flag=True, help="Stop trusting these MODULEs; without MODULE, all of them."
)
@click.option("-y", "--yes", is_flag=True, help="Without MODULE: do not ask.")
@json_option
@store_option
def command(
    store_path: Path | None,
    modules: tuple[str, ...],
    *,
    only_list: bool,
    remove: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Trust modules with record types in this clone.

    `types` in config.toml names modules that `doctor` imports. Importing a module runs its code,
    and config.toml comes with the clone, so only modules that you trust are imported. Without
    MODULE, the command shows the modules in config.toml and their files, and asks. It prints what
    is trusted. Trust applies to this clone only, and is not stored in its files.

    \b
    Examples:
      taskstore trust
      taskstore trust shop.models
      taskstore trust --remove shop.models
    """
    from taskstore._doctor.trust import forget_modules, trust_modules, trusted_modules

    if only_list and (modules or remove):
        raise click.UsageError("Use --list without a module and without --remove.")
    layout = Layout(locate(store_path).absolute())
    if only_list:
        found = trusted_modules(layout)
    elif remove:
        found = forget_modules(layout, modules or trusted_modules(layout))
    else:
        chosen = modules or _configured(layout, ask=not yes)
        try:
            found = trust_modules(layout, chosen)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if as_json:
        write_json({"trusted": found})
        return
    for name in found:
        write(name)


def _configured(layout: Layout, *, ask: bool) -> tuple[str, ...]:
    """Show the modules that config.toml names, and return them.

    Raises:
        Failure: The user does not trust them, or cannot be asked.
        ConfigError: The settings cannot be used.
    """
    from taskstore._doctor.trust import trusted_modules
    from taskstore._doctor.types import place_of
    from taskstore._store.settings import read_settings

    config = read_settings(layout)
    config.check("types", layout.config_path)
    trusted = trusted_modules(layout)
    new = [name for name in config.modules if name not in trusted]
    for name in new:
        note(f"{name}: {place_of(name) or 'not found'}")
    if not new:
        note(f"{layout.config_path.name} names no module that is not trusted")
    elif ask:
        if sys.stdin is None or not to_terminal(sys.stdin):
            message = f"{len(new)} modules would be trusted: name them, or pass --yes"
            raise Failure(message, Status.USAGE)
        if not confirmed("Trust them in this clone?"):
            raise Failure("nothing was trusted")
    return tuple(new)
