"""Whether the user trusts directories of another user: git's `safe.directory`."""

from __future__ import annotations

import os
from pathlib import Path

from taskstore._git.run import Git
from taskstore.errors import GitError

_SCOPES = ("--system", "--global")


def is_safe(directory: Path) -> bool:
    """Return whether the user's git trusts a directory that belongs to another user.

    Like git, this reads `safe.directory` from the configuration of the system and the user only,
    not from a repository. An empty value clears the values before it, `*` stands for every
    directory, and `/*` at the end of a value for everything below.

    Args:
        directory: The store's directory. It is trusted if a directory that contains it is.
    """
    holders = [os.fspath(path) for path in directory.parents]
    trusted = False
    for value in _values():
        if value == "":
            trusted = False
        elif (
            value == "*"
            or value.rstrip("/") in holders
            or (value.endswith("/*") and value.removesuffix("/*") in holders)
        ):
            trusted = True
    return trusted


def _values() -> list[str]:
    # In the root directory, no repository adds its configuration.
    git = Git.elsewhere(Path(os.path.abspath(os.sep)))
    values: list[str] = []
    for scope in _SCOPES:
        try:
            answer = git.ask("config", scope, "--type=path", "-z", "--get-all", "safe.directory")
        except GitError:
            return []
        if answer.status == 0:
            values += os.fsdecode(answer.data).split("\0")[:-1]
    return values
