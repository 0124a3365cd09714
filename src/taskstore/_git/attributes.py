"""The attributes of a store's logs: what tells git, in every clone, how to treat them.

They stand in the store directory, not at the repository's root: so they concern this store's logs
alone, move and go with it, and win over whatever a pattern further up says of `*.jsonl`.
"""

from __future__ import annotations

from pathlib import Path

from taskstore._git import files
from taskstore._git.repository import Repository

__all__ = ["FILE", "WANTED", "add", "has_no_end", "holds", "take_out", "wrong"]

FILE = ".gitattributes"
"""The name of the file."""

WANTED = {"merge": "union", "text": "set", "eol": "lf", "diff": "taskstore"}
"""The attributes of a log. `union` is git's own merge, which runs where the driver does not."""

_BLOCK = b"""\
# Merge logs by record, and keep their line ends; see `taskstore git status`.
*.jsonl merge=union text eol=lf diff=taskstore
"""


def wrong(repository: Repository, directory: Path) -> dict[str, str]:
    """Return the attributes that do not hold for the logs of a store, with what holds instead."""
    name = repository.name_of(directory / "a.jsonl")
    found = repository.attributes(name, *WANTED)
    return {key: found.get(key, "unspecified") for key in WANTED if found.get(key) != WANTED[key]}


def add(directory: Path) -> bool:
    """Write the attributes into the store directory; say whether they were not there."""
    path = directory / FILE
    old = files.read(path) or b""
    if _place(old) is not None:
        return False
    # What stands last counts; what was there before stays as it is.
    files.write(path, old + (b"\n" if old and not old.endswith(b"\n") else b"") + _BLOCK)
    return True


def take_out(directory: Path, *, had_no_end: bool = False) -> bool:
    """Take the attributes out again; say whether they were there.

    Args:
        directory: The store directory.
        had_no_end: Whether the file's last line had no newline before.
    """
    path = directory / FILE
    old = files.read(path)
    if old is None or (place := _place(old)) is None:
        return False
    start, end = place
    if had_no_end and end == len(old) and start:
        start -= 1
    rest = old[:start] + old[end:]
    if rest:
        files.write(path, rest)
    else:
        path.unlink()
    return True


def has_no_end(directory: Path) -> bool:
    """Say whether the last line of the file has no newline."""
    data = files.read(directory / FILE)
    return data is not None and data[-1:] not in (b"", b"\n")


def holds(data: bytes | None) -> bool:
    """Say whether the content of such a file has our lines."""
    return data is not None and _place(data) is not None


def _place(data: bytes) -> tuple[int, int] | None:
    for block in (_BLOCK, _BLOCK.replace(b"\n", b"\r\n")):
        start = data.find(block)
        if start >= 0 and (start == 0 or data[start - 1 : start] == b"\n"):
            return start, start + len(block)
    return None
