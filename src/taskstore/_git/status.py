"""What is installed in a clone, and what is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs

from taskstore._git import attributes, driver, hooks, launcher, owners
from taskstore._git.owners import Owner
from taskstore._git.repository import Repository
from taskstore._git.run import shown

__all__ = ["Status", "hooks_owner", "look"]


@attrs.frozen
class Status:
    """The installation of one clone, for one store.

    Attributes:
        repository: The clone.
        attributes: The attributes of the store's logs that do not hold, with what holds instead.
        settings: The settings that do not hold in this clone, with what holds instead.
        python: The interpreter that git runs Taskstore with; None where none is named.
        hooks: For each hook that we need, whether git runs our lines.
        hooks_dir: The directory from which git takes hooks; None where hooks are switched off.
        owner: The tool that owns the hooks, if one does.
    """

    repository: Repository
    attributes: dict[str, str]
    settings: dict[str, str | None]
    python: str | None
    hooks: dict[str, bool]
    hooks_dir: Path | None
    owner: Owner | None

    @property
    def has_python(self) -> bool:
        """Whether the interpreter is there."""
        return self.python is not None and os.access(self.python, os.X_OK)

    @property
    def has_driver(self) -> bool:
        """Whether git merges the logs by record in this clone."""
        return not self.settings and self.has_python

    @property
    def missing_hooks(self) -> list[str]:
        """The hooks that do not run our lines."""
        return [hook for hook, is_there in self.hooks.items() if not is_there]

    @property
    def ok(self) -> bool:
        """Whether all is installed."""
        return not self.attributes and self.has_driver and not self.missing_hooks

    @property
    def lines_to_add(self) -> list[dict[str, str]]:
        """What a person has to add where another tool owns the hooks: file, hook and text."""
        if self.owner is None:
            return []
        return [
            {"file": shown(self.owner.place(hook)), "hook": hook, "text": self.owner.text(hook)}
            for hook in self.missing_hooks
        ]

    def to_dict(self) -> dict[str, Any]:
        """The status in plain values, for JSON."""
        return {
            "ok": self.ok,
            "work_tree": shown(self.repository.top),
            "attributes": {"ok": not self.attributes, "wrong": self.attributes},
            "driver": {
                "ok": self.has_driver,
                "wrong": self.settings,
                "python": None if self.python is None else shown(self.python),
                "python_exists": self.has_python,
            },
            "hooks": {
                "ok": not self.missing_hooks,
                "installed": self.hooks,
                "directory": None if self.hooks_dir is None else shown(self.hooks_dir),
                "owner": None if self.owner is None else self.owner.tool,
                "to_add": self.lines_to_add,
                "then_run": "" if self.owner is None else self.owner.after,
            },
        }


def look(repository: Repository, directory: Path) -> Status:
    """Look at what is installed for a store.

    Raises:
        GitError: Git cannot be asked.
    """
    place = hooks_dir(repository)
    owner = hooks_owner(repository, place)
    if owner is not None:
        lacking = owner.lacking(repository.top)
        # Another tool may leave, or call, a hook that we were in before it came.
        found = {hook: hook not in lacking or hooks.is_in(place / hook) for hook in hooks.HOOKS}
    else:
        found = {hook: hooks.is_in(place / hook) for hook in hooks.HOOKS}
    return Status(
        repository,
        attributes.wrong(repository, directory),
        _settings(repository),
        launcher.interpreter(repository.common_dir),
        found,
        None if place.exists() and not place.is_dir() else place,
        owner,
    )


def _settings(repository: Repository) -> dict[str, str | None]:
    found = driver.wrong(repository)
    if not attributes.is_in_clone(repository.common_dir):
        found["info/attributes"] = None
    return found


def hooks_dir(repository: Repository) -> Path:
    """Return the directory from which git takes hooks, which need not be there."""
    return repository.top / repository.git.run("rev-parse", "--git-path", "hooks").text


def hooks_owner(repository: Repository, place: Path) -> Owner | None:
    """Return what owns the hooks: a tool, or a setting that many repositories share."""
    owner = owners.find(repository.top, place)
    if owner is None and place.is_dir() and _is_shared(repository):
        return Owner("core.hooksPath", f"{place}/{{}}", "", hooks.line)
    return owner


def _is_shared(repository: Repository) -> bool:
    answer = repository.git.ask("config", "-z", "--show-scope", "--get", "core.hooksPath")
    scope, _, _ = answer.data.partition(b"\0")
    return answer.status == 0 and scope in (b"global", b"system")
