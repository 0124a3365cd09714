"""Whether the user trusts the directories of another one: git's `safe.directory`."""

from __future__ import annotations

import os
from pathlib import Path

from taskstore._git.run import Git
from taskstore.errors import GitError

_SCOPES = ("--system", "--global")


def is_safe(directory: Path) -> bool:
    """Say whether the user's git trusts a directory that belongs to another user.

    As git itself does, this reads no configuration that a repository brings: `safe.directory` in
    the system's and the user's own. An empty value there forgets those before it, `*` stands for
    every directory, and `/*` at the end of a value for all that is below.

    Args:
        directory: The store's directory. It is trusted with a directory that holds it.
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
    # In the root directory there is no repository whose configuration could have a say.
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
