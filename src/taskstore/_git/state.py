"""What an installation has changed in a clone, so that all of it can be put back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import attrs

from taskstore._git import files
from taskstore._git.launcher import FOLDER

__all__ = ["State", "digest"]


@attrs.define
class State:
    """What was there before.

    Attributes:
        settings: Of each setting that was written, what it took the place of; None for nothing.
        config: The configuration as it was, byte for byte, if ours can be taken out of it by
            putting this back.
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
        """Read the state of a clone; an empty one where there is none, or none that is whole."""
        data = files.read(_path(common_dir))
        try:
            found: dict[str, Any] = json.loads(data or b"{}")
            return cls(**found)
        except (TypeError, ValueError):
            return cls()

    def save(self, common_dir: Path) -> None:
        """Write the state of a clone, unless it is what is there."""
        path = _path(common_dir)
        data = json.dumps(attrs.asdict(self), indent=1).encode() + b"\n"
        if files.read(path) != data:
            path.parent.mkdir(exist_ok=True)
            files.write(path, data, private=True)

    @staticmethod
    def remove(common_dir: Path) -> None:
        """Remove the state of a clone, and the folder if nothing else is in it."""
        path = _path(common_dir)
        files.remove(path)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def digest(path: Path) -> str:
    """Return a digest of a file."""
    return hashlib.sha256(files.read(path) or b"").hexdigest()


def _path(common_dir: Path) -> Path:
    return common_dir / FOLDER / "state.json"
