"""Import names of an application for a command."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from taskstore.cli._errors import Failure, Status, hint


def imported(name: str) -> Any:
    """Return the object that a name such as `shop.models:Base` stands for.

    Raises:
        UsageError: The name does not have this form.
        Failure: The module cannot be imported, or lacks the base.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise click.UsageError(f"Name a module and a base in it, as in shop.models:Base: {name!r}")
    sys.path.insert(0, str(Path.cwd()))
    # The command writes nothing, not even compiled code.
    sys.dont_write_bytecode = True
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = f"{module_name!r} cannot be imported: {type(error).__name__}: {error}"
        raise Failure(reason, Status.USAGE) from error
    for part in path.split("."):
        if not hasattr(found, part):
            known = [each for each in dir(found) if not each.startswith("_")]
            raise Failure(f"{name!r}: there is no {part!r}{hint(part, known)}", Status.USAGE)
        found = getattr(found, part)
    return found


def needed(package: str, extra: str) -> None:
    """Make sure that a package of an extra is installed.

    Raises:
        Failure: It is not installed.
    """
    if find_spec(package) is None:
        message = f"{package} is not installed: pip install 'taskstore[{extra}]'"
        raise Failure(message, Status.USAGE)
