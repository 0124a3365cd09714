"""The attributes of a store's logs: what tells git, in every clone, how to treat them.

They stand in the store directory, not at the repository's root: so they concern this store's logs
alone, move and go with it, and win over whatever a pattern further up says of `*.jsonl`. Git reads
them as they are before a merge. For branches that have no such file yet, for stores that a sparse
checkout leaves out or that a branch has moved, the clone says the same in its `info/attributes`.
"""

from __future__ import annotations

import re
from pathlib import Path

from taskstore._git import files
from taskstore._git.repository import Repository

__all__ = [
    "FILE",
    "WANTED",
    "add",
    "add_to_clone",
    "has_no_end",
    "holds",
    "is_in_clone",
    "take_out",
    "take_out_of_clone",
    "wrong",
]

FILE = ".gitattributes"
"""The name of the file."""

WANTED = {"merge": "union", "text": "set", "eol": "lf", "diff": "taskstore"}
"""The attributes of a log. `union` is git's own merge, which runs where the driver does not."""

_BLOCK = b"""\
# Merge logs by record, and keep their line ends; see `taskstore git status`.
*.jsonl merge=union text eol=lf diff=taskstore
"""

_CLONE_BLOCK = b"""\
# Merge the logs of all branches by record; see `taskstore git status`.
**/.taskstore/*.jsonl merge=union text eol=lf diff=taskstore
"""

_SAYS = re.compile(rb"^[^#\n]*\bmerge=union\b", re.MULTILINE)


def wrong(repository: Repository, directory: Path) -> dict[str, str]:
    """Return the attributes that do not hold for the logs of a store, with what holds instead."""
    name = repository.name_of(directory / "a.jsonl")
    found = repository.attributes(name, *WANTED)
    bad = {key: found.get(key, "unspecified") for key in WANTED if found.get(key) != WANTED[key]}
    if not bad and not _is_said(repository, directory):
        return {"merge": "union in this clone alone"}
    return bad


def _is_said(repository: Repository, directory: Path) -> bool:
    """Say whether a file that travels with the repository has the attributes."""
    for folder in (directory, *directory.parents):
        data = files.read(folder / FILE)
        if data is not None and _SAYS.search(data):
            return True
        if folder == repository.top:
            break
    # A sparse checkout may leave it out.
    found = repository.git.ask("cat-file", "blob", f":{repository.name_of(directory / FILE)}")
    return found.status == 0 and _SAYS.search(found.data) is not None


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


def is_in_clone(common_dir: Path) -> bool:
    """Say whether the clone's own attributes end with ours."""
    return (files.read(_of_clone(common_dir)) or b"").endswith(_CLONE_BLOCK)


def add_to_clone(common_dir: Path) -> dict[str, bool]:
    """Write the attributes into the clone's own, where what stands last counts.

    Returns:
        What has to be known to take them out again; nothing if they stood there before.
    """
    path = _of_clone(common_dir)
    old = files.read(path)
    rest = (old or b"").replace(_CLONE_BLOCK, b"")
    before = {
        "folder": path.parent.is_dir(),
        "file": old is not None,
        "end": rest[-1:] in (b"", b"\n"),
    }
    path.parent.mkdir(exist_ok=True)
    files.write(path, rest + (b"" if before["end"] else b"\n") + _CLONE_BLOCK)
    return {} if rest != (old or b"") else before


def take_out_of_clone(common_dir: Path, before: dict[str, bool]) -> bool:
    """Take the attributes out of the clone's own again; say whether they were there."""
    path = _of_clone(common_dir)
    old = files.read(path)
    if old is None or _CLONE_BLOCK not in old:
        return False
    start = old.index(_CLONE_BLOCK)
    rest = old[:start] + old[start + len(_CLONE_BLOCK) :]
    if not before.get("end", True) and start == len(rest):
        rest = rest[:-1]
    if rest or before.get("file", False):
        files.write(path, rest)
    else:
        path.unlink()
        if not before.get("folder", True) and not any(path.parent.iterdir()):
            path.parent.rmdir()
    return True


def _of_clone(common_dir: Path) -> Path:
    return common_dir / "info" / "attributes"


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
