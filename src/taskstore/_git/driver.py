"""The settings that install the merge driver and the textconv in a clone.

A clone copies attributes but not settings, so each clone needs them once.
"""

from __future__ import annotations

import os
import re

from taskstore._git.launcher import FOLDER, NAME
from taskstore._git.repository import Repository

# Git runs both in a shell, in the work tree, which may have moved.
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
    """Return our settings that do not apply in this clone, with the actual values."""
    found = {name: repository.setting(name) for name in SETTINGS}
    return {name: value for name, value in found.items() if value != SETTINGS[name]}


def install(repository: Repository) -> dict[str, bool]:
    """Write the settings of this clone.

    Existing values stay. If a setting has several values, the last one counts, which is ours.

    Returns:
        The settings that were written, and whether they had values before.

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
    """Remove our values of a setting from the clone's configuration.

    Args:
        repository: The clone.
        name: The setting.
        before: The value that ours replaced; None if there was none.

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
    """Return the value in the clone's own configuration, ignoring other files."""
    answer = repository.git.ask("config", "--local", "-z", "--get-all", name)
    return [os.fsdecode(value) for value in answer.data.split(b"\0")[:-1]]


def _is_ours(name: str, value: str) -> bool:
    """Return whether a value is ours, or from another version of Taskstore."""
    return value == SETTINGS[name] or _RUN in value


_SPECIAL = re.compile(r"[][\\.^$*+?(){}|]")
_ESCAPED = r"\\\g<0>"
