"""Add lines to git's hooks beside existing content, and remove them again to the byte.

A hook that is a shell script gets a block of lines after its first line. It keeps its name, place
and arguments, and nothing that it does at its end can prevent ours from running. Any other hook (a
program, a link, one that is switched off) is moved aside, and a script in its place calls it. It
moves to a folder and keeps its name, because a program that is linked as several hooks checks its
own name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from pathlib import Path

from taskstore._git import files
from taskstore._git.launcher import FOLDER, NAME
from taskstore._log.files import make_directories

HOOKS = ("pre-commit", "post-checkout", "post-merge", "post-rewrite")
"""The hooks that we need. Git has no hook after a rebase; post-rewrite serves for it."""

ASIDE = "before-taskstore"
"""The folder, beside the hooks, for hooks that are moved aside."""

_START = b"# >>> taskstore >>>"
_END = b"# <<< taskstore <<<\n"
_BLOCK = re.compile(re.escape(_START) + rb".*?" + re.escape(_END), re.DOTALL)
_SHELL = re.compile(rb"#! ?(?:/usr)?(?:/local)?/bin/(?:env )?(?:ba|da|z|k|a)?sh(?: [^\r\n]*)?\n")
_FIRST = b"#!/bin/sh\n"
_UP = "../"
_NEW = b" written by `taskstore git install`\n"
_ADDED = b" added by `taskstore git install`; `taskstore git uninstall` takes it out\n"
_CALL = b'if test -x "$before"; then exec "$before" "$@"; fi\n'
_OLD_CALL = b'before="$0.before-taskstore"\n' + _CALL  # of a hook put aside under another name


def line(hook: str) -> str:
    """Return the shell command of a hook, which does nothing if we are not installed."""
    path = f'"$(git rev-parse --git-common-dir)/{FOLDER}/{NAME}"'
    return f"! test -f {path} || sh {path} hook {hook}"


def block(hook: str, *, is_new: bool) -> bytes:
    """Return the lines that are put into a hook's script, which may run under `set -eu`."""
    command = f'{{ {line(hook)} "$@" </dev/null; }} || exit $?\n'.encode()
    return b"".join([_START, _NEW if is_new else _ADDED, command, _END])


def is_in(path: Path) -> bool:
    """Return whether a hook runs our lines: they are in it, and git will run it."""
    data = files.peek(path)
    name = path.name.encode()
    return data is not None and b"hook %b " % name in data and _START in data and _may_run(path)


def put_in(path: Path) -> bool:
    """Add our lines to a hook; return whether anything changed.

    Args:
        path: The hook. It may be missing.

    Raises:
        FileExistsError: It must be moved aside, but something else is there already.
        GitError: The path has a link, or something other than a regular file, in it.
        OSError: It cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory", str(path))
    old = files.peek(path)
    if old is None:
        make_directories(path.parent)
        files.write(path, _FIRST + block(path.name, is_new=True), executable=True)
        return True
    if _BLOCK.sub(b"", old) == _FIRST + _OLD_CALL:
        take_out(path)
        old = files.peek(path) or b""
    if _BLOCK.search(old):
        # It may be from another version of Taskstore.
        new = _BLOCK.sub(lambda found: block(path.name, is_new=_NEW in found[0]), old)
        if new == old:
            return False
        is_aside = path.is_symlink()
    else:
        new = _SHELL.sub(lambda first: first[0] + block(path.name, is_new=False), old, count=1)
        is_aside = _is_to_be_put_aside(path)
    if is_aside:
        _put_aside(path)
        draft = _draft(path)
        files.write(draft, _wrapper(path.name), executable=True)
        os.replace(draft, path)
    else:
        files.write(path, new)
    return True


def take_out(path: Path) -> bool:
    """Remove our lines from a hook; return whether they were there.

    What was there before is restored, with its bytes and permissions.
    """
    data = None if path.is_symlink() else files.peek(path)
    found = None if data is None else _BLOCK.search(data)
    if data is None or found is None:
        return False
    rest = data[: found.start()] + data[found.end() :]
    if rest == _FIRST + _call_aside(path.name) and os.path.lexists(_aside(path)):
        _put_back(path)
    elif rest == _FIRST + _OLD_CALL and os.path.lexists(
        old := path.with_name(f"{path.name}.{ASIDE}")
    ):
        os.replace(old, path)
    elif rest == _FIRST and _NEW in found[0]:
        path.unlink()
    else:
        files.write(path, rest)
    return True


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")


def _wrapper(hook: str) -> bytes:
    return _FIRST + block(hook, is_new=False) + _call_aside(hook)


def _call_aside(hook: str) -> bytes:
    return f'before="$(dirname -- "$0")/{ASIDE}/{hook}"\n'.encode() + _CALL


def _aside(path: Path) -> Path:
    return path.parent / ASIDE / path.name


def _is_to_be_put_aside(path: Path) -> bool:
    data = files.peek(path) or b""
    return not _may_run(path) or path.is_symlink() or not _SHELL.match(data)


def _put_aside(path: Path) -> None:
    """Link a hook to its second place. It keeps the first one until something replaces it."""
    aside = _aside(path)
    if aside.parent.is_symlink():
        raise FileExistsError(errno.EEXIST, "it is a symbolic link", str(aside.parent))
    make_directories(aside.parent)
    _link_neighbours(aside.parent)
    if os.path.lexists(aside):
        if _is_same(path, aside):
            return  # an interrupted installation
        raise FileExistsError(errno.EEXIST, f"it is in the way of {path.name}", str(aside))
    if path.is_symlink():
        aside.symlink_to(_from_aside(path))
        return
    try:
        os.link(path, aside)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, aside)


def _put_back(path: Path) -> None:
    """Move a hook back to its place."""
    aside = _aside(path)
    target = os.readlink(aside) if aside.is_symlink() else ""
    if target.startswith(_UP):
        draft = _draft(path)
        draft.symlink_to(target.removeprefix(_UP))
        os.replace(draft, path)
        aside.unlink()
    else:
        os.replace(aside, path)
    _clear(aside.parent)


def _from_aside(path: Path) -> str:
    """Return the target of a link as seen from one folder further down."""
    target = os.readlink(path)
    name = os.path.normpath(target)
    goes_along = name in HOOKS and (
        os.path.lexists(path.parent / ASIDE / name) or _is_to_be_put_aside(path.parent / name)
    )
    return target if os.path.isabs(target) or goes_along else _UP + target


def _link_neighbours(folder: Path) -> None:
    """Link the neighbours of hooks that are moved aside, such as `$0.d`, so that they find them."""
    for path in folder.parent.iterdir():
        link = folder / path.name
        if path.name not in (*HOOKS, ASIDE) and path.suffix not in (".sample", ".tmp"):
            with contextlib.suppress(OSError):  # it is there, or links are not allowed here
                link.symlink_to(_UP + path.name)


def _clear(folder: Path) -> None:
    """Remove the folder of hooks that were moved aside, unless something is still in it."""
    if any(os.path.lexists(folder / hook) for hook in HOOKS):
        return
    for path in folder.iterdir():
        if path.is_symlink() and os.readlink(path) == _UP + path.name:
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_same(path: Path, other: Path) -> bool:
    if path.is_symlink() or other.is_symlink():
        return path.is_symlink() and other.is_symlink() and os.readlink(other) == _from_aside(path)
    data = files.peek(path)
    return os.path.samefile(path, other) or (data != b"" and data == files.peek(other))


def _may_run(path: Path) -> bool:
    return os.name == "nt" or os.access(path, os.X_OK)
