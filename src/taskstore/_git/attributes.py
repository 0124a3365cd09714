"""The attributes of a store's logs, which tell git how to treat them.

They are in two places. In the store directory, they apply to this store's logs only, move with the
store, and override patterns for `*.jsonl` further up. But git reads attributes from the work tree
or the index before a merge. A branch that is older than the installation, a sparse checkout and a
moved store have no attributes there. So they are also in the clone's `info/attributes`, which
applies whatever is checked out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import attrs

from taskstore._git import files
from taskstore._git.repository import Repository
from taskstore._git.run import Git

FILE = ".gitattributes"
"""The name of the file in the store directory."""

WANTED = {"merge": "union", "text": "set", "eol": "lf", "diff": "taskstore"}
"""The attributes of a log. `union` is git's own merge, which runs where the driver does not."""

UNWANTED = ("ident", "working-tree-encoding", "export-subst")
"""The attributes with which git changes values on the way into a work tree or an archive.

With `ident`, it also removes what follows `$Id:` in a value when the log is added.
"""

# Git refuses `-working-tree-encoding`.
_ATTRIBUTES = b"merge=union text eol=lf diff=taskstore -ident !working-tree-encoding -export-subst"
_OFF = ("unspecified", "unset")
_OLDER = b"merge=union text eol=lf diff=taskstore"

_OF_STORE = b"""\
# Merge logs by record, and keep their line ends; see `taskstore git status`.
*.jsonl %b
"""

_OF_CLONE = b"""\
# Added by `taskstore git install`; `taskstore git uninstall` takes it out.
**/.taskstore/*.jsonl %b
"""


@attrs.frozen
class Lines:
    """Our lines in a file of attributes, which may have others.

    Attributes:
        path: The file. It may be missing.
        template: The lines, without the attributes.
        below: The directory below which no part of the path may be a link.
    """

    path: Path
    _template: bytes
    _below: Path

    @property
    def block(self) -> bytes:
        """The lines as an installation writes them."""
        return self._template % _ATTRIBUTES

    def are_there(self, data: bytes | None = None) -> bool:
        """Return whether they, or older ones, are in the file, or in the given content."""
        data = files.read(self.path) if data is None else data
        return data is not None and self._place(data) is not None

    def are_current(self) -> bool:
        """Return whether the file has them as an installation writes them now."""
        data = files.read(self.path) or b""
        place = self._place(data)
        return place is not None and _ATTRIBUTES in data[slice(*place)]

    def add(self) -> bool:
        """Write them at the end of the file, or in place of older ones; return whether it changed.

        A block with the line ends of another system stays.
        """
        old = files.read(self.path) or b""
        if (place := self._place(old)) is None:
            # The last lines count; earlier lines stay as they are.
            gap = b"\n" if old and not old.endswith(b"\n") else b""
            new = old + gap + self.block
        elif _ATTRIBUTES in old[slice(*place)]:
            return False
        else:
            new = old[: place[0]] + self.block + old[place[1] :]
        files.write(self.path, new, below=self._below)
        return True

    def take_out(self, *, had_no_end: bool = False, was_there: bool = False) -> bool:
        """Remove them; return whether they were there.

        Args:
            had_no_end: Whether the file's last line had no newline before.
            was_there: Whether the file existed before, so that it stays even if it is empty.
        """
        old = files.read(self.path)
        if old is None or (place := self._place(old)) is None:
            return False
        start, end = place
        if had_no_end and end == len(old) and start:
            start -= 1
        rest = old[:start] + old[end:]
        if rest or was_there:
            files.write(self.path, rest, below=self._below)
        else:
            self.path.unlink()
        return True

    def has_no_end(self) -> bool:
        """Return whether the last line of the file has no newline."""
        data = files.read(self.path)
        return data is not None and data[-1:] not in (b"", b"\n")

    def _place(self, data: bytes) -> tuple[int, int] | None:
        blocks = [self._template % attributes for attributes in (_ATTRIBUTES, _OLDER)]
        for block in [*blocks, *(block.replace(b"\n", b"\r\n") for block in blocks)]:
            start = data.find(block)
            if start >= 0 and (start == 0 or data[start - 1 : start] == b"\n"):
                return start, start + len(block)
        return None


def of_store(directory: Path) -> Lines:
    """Return the lines in a store directory, which are tracked."""
    return Lines(directory / FILE, _OF_STORE, directory.parent)


def of_clone(common_dir: Path) -> Lines:
    """Return the lines in a clone's git directory, which apply to all stores in it."""
    return Lines(common_dir / "info" / "attributes", _OF_CLONE, common_dir)


def wrong(repository: Repository, directory: Path) -> dict[str, str]:
    """Return our attributes that do not apply to a store's logs here, with the actual values."""
    name = repository.name_of(directory / "a.jsonl")
    return _differing(repository.attributes(name, *WANTED, *UNWANTED))


def unsaid(directory: Path) -> dict[str, str]:
    """Return our attributes that a store's own file does not set, with the values that it sets.

    These values apply in a clone in which nothing is installed.

    Raises:
        GitError: Git cannot be asked.
    """
    data = files.read(directory / FILE) or b""
    if data.endswith(of_store(directory).block):
        return {}
    # Only git knows what its patterns mean, and it would include the clone's own attributes.
    with tempfile.TemporaryDirectory() as folder:
        git = Git.elsewhere(Path(folder))
        git.run("init", "-q", "--template=")
        Path(folder, FILE).write_bytes(data)
        fields = git.run("check-attr", "-z", *WANTED, *UNWANTED, "--", "a.jsonl").fields
    return _differing(dict(zip(fields[1::3], fields[2::3], strict=True)))


def _differing(found: dict[str, str]) -> dict[str, str]:
    wrong = {key: found.get(key, "unspecified") for key in WANTED if found.get(key) != WANTED[key]}
    actual = {key: found.get(key, "unspecified") for key in UNWANTED}
    return wrong | {key: value for key, value in actual.items() if value not in _OFF}
