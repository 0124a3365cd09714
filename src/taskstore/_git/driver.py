"""The settings that put the merge driver and the textconv into a clone.

Attributes travel with a clone, settings do not: each clone needs them once.
"""

from __future__ import annotations

from taskstore._git.launcher import FOLDER, NAME
from taskstore._git.repository import Repository

__all__ = ["SETTINGS", "install", "set_to", "wrong"]

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


def install(repository: Repository) -> dict[str, str | None]:
    """Write the settings of this clone; return those that were written, with what stood there."""
    before = {}
    for name, wanted in SETTINGS.items():
        old = own(repository, name)
        if old != wanted:
            before[name] = old
            set_to(repository, name, wanted)
    return before


def own(repository: Repository, name: str) -> str | None:
    """Return what the clone's own configuration says, whatever others say."""
    answer = repository.git.ask("config", "--local", "-z", "--get", name)
    return (
        answer.data.removesuffix(b"\0").decode(errors="surrogateescape")
        if answer.status == 0
        else None
    )


def set_to(repository: Repository, name: str, value: str | None) -> None:
    """Set or, with None, unset a setting of the clone's own configuration.

    Raises:
        GitError: Git refused.
    """
    if value is None:
        repository.git.run("config", "--local", "--unset-all", name)
    else:
        repository.git.run("config", "--local", "--replace-all", name, value)
