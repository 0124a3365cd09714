"""The settings that put the merge driver and the textconv into a clone.

Attributes travel with a clone, settings do not: each clone needs them once.
"""

from __future__ import annotations

import os
import re

from taskstore._git.launcher import FOLDER, NAME
from taskstore._git.repository import Repository

# Git runs both in a shell, in the work tree, wherever that has been moved to meanwhile.
_RUN = f'run="$(git rev-parse --git-common-dir)/{FOLDER}/{NAME}"'

SETTINGS = {
    "merge.union.name": "taskstore: logs by record, other files by lines",
    "merge.union.driver": (
        f'{_RUN}; if test -f "$run"; then sh "$run" merge %O %A %B %P; '
        "else git merge-file --union %A %O %B; fi"
    ),
    "diff.taskstore.textconv": (
        f'f() {{ {_RUN}; if test -f "$run"; then sh "$run" textconv "$@"; '
        'else cat -- "$@"; fi; }; f'
    ),
}
"""The settings, by name."""


def wrong(repository: Repository) -> dict[str, str | None]:
    """Return the settings that do not hold in this clone, with what holds instead."""
    found = {name: repository.setting(name) for name in SETTINGS}
    return {name: value for name, value in found.items() if value != SETTINGS[name]}


def install(repository: Repository) -> dict[str, bool]:
    """Write the settings of this clone.

    Values that stand there stay: of several the last one holds, and that is ours.

    Returns:
        The settings that were written, and whether any values of them stood there.

    Raises:
        GitError: Git refused.
    """
    written = {}
    for name, wanted in SETTINGS.items():
        values = _own(repository, name)
        if values[-1:] != [wanted]:
            take_out(repository, name)
            written[name] = bool(values)
            repository.git.run("config", "--local", "--add", name, wanted)
    return written


def take_out(repository: Repository, name: str, before: str | None = None) -> bool:
    """Take our values of a setting out of the clone's own configuration.

    Args:
        repository: The clone.
        name: The setting.
        before: What ours took the place of; None if it took none.

    Returns:
        Whether there was one.

    Raises:
        GitError: Git refused.
    """
    values = _own(repository, name)
    found = {value for value in values if _is_ours(name, value)}
    for value in found:
        pattern = f"^{_SPECIAL.sub(_ESCAPED, value)}$"
        repository.git.run("config", "--local", "--unset-all", name, pattern)
    if before is not None and found == set(values) != set():
        repository.git.run("config", "--local", "--add", name, before)
    return bool(found)


def _own(repository: Repository, name: str) -> list[str]:
    """Return what the clone's own configuration says, whatever others say."""
    answer = repository.git.ask("config", "--local", "-z", "--get-all", name)
    return [os.fsdecode(value) for value in answer.data.split(b"\0")[:-1]]


def _is_ours(name: str, value: str) -> bool:
    """Say whether a value is ours, also of another version."""
    return value == SETTINGS[name] or _RUN in value


_SPECIAL = re.compile(r"[][\\.^$*+?(){}|]")
_ESCAPED = r"\\\g<0>"
