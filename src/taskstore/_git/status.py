"""What is installed in a clone, and what is not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs

from taskstore._git import attributes, driver, files, hooks, launcher, owners
from taskstore._git.attributes import Lines
from taskstore._git.launcher import FOLDER
from taskstore._git.owners import Owner
from taskstore._git.repository import Repository
from taskstore._git.run import shown
from taskstore._log.files import make_directories


@attrs.frozen
class Status:
    """The installation of one clone, for one store.

    Attributes:
        repository: The clone.
        attributes: Our attributes that do not apply to the store's logs here, with the actual
            values.
        unsaid: Our attributes that do not apply in other clones, with the values in the store's
            file.
        store_lines: Our lines in the store's own file of attributes.
        clone_lines: Our lines in the clone's.
        settings: Our settings that do not apply in this clone, with the actual values.
        python: The interpreter that git runs Taskstore with; None if none is named.
        hooks: For each hook that we need, whether git runs our lines.
        hooks_dir: The directory from which git takes hooks; None if hooks are switched off.
        owner: The tool that owns the hooks, if one does.
    """

    repository: Repository
    attributes: dict[str, str]
    unsaid: dict[str, str]
    store_lines: Lines
    clone_lines: Lines
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
    def lacks_store_lines(self) -> bool:
        """Whether git would not recognize a log in another clone, which an installation fixes."""
        return bool(self.unsaid) and not self.store_lines.are_current()

    @property
    def lacks_clone_lines(self) -> bool:
        """Whether git would not know a log that is checked out without the store's own file."""
        lines = self.clone_lines
        return not (lines.are_current() if self.attributes else lines.are_there())

    @property
    def overridden(self) -> list[Path]:
        """The files in which something overrides our lines, which only a person can fix."""
        places = ((self.unsaid, self.store_lines), (self.attributes, self.clone_lines))
        return [lines.path for faults, lines in places if faults and lines.are_current()]

    @property
    def missing_hooks(self) -> list[str]:
        """The hooks that do not run our lines."""
        return [hook for hook, is_there in self.hooks.items() if not is_there]

    @property
    def ok(self) -> bool:
        """Whether all is installed."""
        return self.has_attributes and self.has_driver and not self.missing_hooks

    @property
    def has_attributes(self) -> bool:
        """Whether git knows the logs, here and in other clones."""
        return not (self.attributes or self.unsaid or self.lacks_clone_lines)

    @property
    def is_installable(self) -> bool:
        """Whether an installation would change something for the better."""
        lacks_lines = self.lacks_clone_lines or self.lacks_store_lines
        return lacks_lines or not self.has_driver or bool(self.missing_hooks)

    @property
    def lines_to_add(self) -> list[dict[str, str]]:
        """The lines to add by hand if another tool owns the hooks: file, hook and text."""
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
            "attributes": {
                "ok": not (self.attributes or self.unsaid),
                "wrong": {**self.unsaid, **self.attributes},
                "in_clone": not self.lacks_clone_lines,
                "overridden_in": [shown(path) for path in self.overridden],
            },
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
    """Return what is installed for a store.

    Raises:
        GitError: Git cannot be asked.
    """
    place = hooks_dir(repository)
    owner = hooks_owner(repository, place)
    if owner is not None:
        lacking = owner.lacking(repository.top)
        # Another tool may keep or call an older hook that has our lines.
        found = {hook: hook not in lacking or hooks.is_in(place / hook) for hook in hooks.HOOKS}
    else:
        found = {hook: hooks.is_in(place / hook) for hook in hooks.HOOKS}
    return Status(
        repository,
        attributes.wrong(repository, directory),
        attributes.unsaid(directory),
        attributes.of_store(directory),
        attributes.of_clone(repository.common_dir),
        driver.wrong(repository),
        launcher.interpreter(repository.common_dir),
        found,
        None if place.exists() and not place.is_dir() else place,
        owner,
    )


def hooks_dir(repository: Repository) -> Path:
    """Return the directory from which git takes hooks. It may be missing."""
    return repository.top / repository.git.run("rev-parse", "--git-path", "hooks").text


def hooks_owner(repository: Repository, place: Path) -> Owner | None:
    """Return the owner of the hooks: a tool, or a setting that many repositories share."""
    owner = owners.find(repository.top, place)
    if owner is None and place.is_dir():
        if _is_shared(repository):
            return Owner("core.hooksPath", f"{place}/{{}}", "", hooks.line)
        if _leads_out(repository, place):
            tool = f"the directory that {shown(place)} leads to"
            return Owner(tool, f"{place}/{{}}", "", hooks.line)
    return owner


def _leads_out(repository: Repository, place: Path) -> bool:
    """Say whether the directory of hooks lies in the clone by its name only."""
    homes = (repository.common_dir, repository.top)
    real = place.resolve()
    is_named = any(place.is_relative_to(home) for home in homes)
    return is_named and not any(real.is_relative_to(home) for home in homes)


def _is_shared(repository: Repository) -> bool:
    answer = repository.git.ask("config", "-z", "--show-scope", "--get", "core.hooksPath")
    scope, _, _ = answer.data.partition(b"\0")
    return answer.status == 0 and scope in (b"global", b"system")


@attrs.define
class State:
    """The state before the installation.

    Attributes:
        settings: For each setting that was written, the value before; None if there was none.
        config: The configuration before, byte for byte, if restoring it removes our settings.
        config_after: The digest of the configuration as we left it.
        hooks: The hooks that our lines were put into, as absolute paths.
        folders: Directories that were made for them, and for the clone's own attributes.
        attributes: The store directories that attributes were written to, and whether the last
            line of what was there had no newline.
        info_was_there: Whether the clone had a file of attributes of its own.
        info_had_no_end: Whether the last line of that had no newline.
    """

    settings: dict[str, str | None] = attrs.field(factory=dict)
    config: str | None = None
    config_after: str = ""
    hooks: list[str] = attrs.field(factory=list)
    folders: list[str] = attrs.field(factory=list)
    attributes: dict[str, bool] = attrs.field(factory=dict)
    info_was_there: bool = False
    info_had_no_end: bool = False

    @classmethod
    def load(cls, common_dir: Path) -> State:
        """Read the state of a clone; return an empty one if it is missing or incomplete."""
        data = files.read(_path(common_dir))
        try:
            found: dict[str, Any] = json.loads(data or b"{}")
            return cls(**found)
        except (TypeError, ValueError, RecursionError):
            return cls()

    def save(self, common_dir: Path) -> None:
        """Write the state of a clone, unless it is unchanged."""
        path = _path(common_dir)
        data = json.dumps(attrs.asdict(self), indent=1).encode() + b"\n"
        if files.read(path) != data:
            make_directories(path.parent)
            files.write(path, data, below=common_dir, private=True)

    @staticmethod
    def remove(common_dir: Path) -> None:
        """Remove the state of a clone, and the folder if nothing else is in it."""
        path = _path(common_dir)
        files.remove(path)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def digest(path: Path) -> str:
    """Return a digest of a file."""
    return hashlib.sha256(files.peek(path) or b"").hexdigest()


def _path(common_dir: Path) -> Path:
    return common_dir / FOLDER / "state.json"
