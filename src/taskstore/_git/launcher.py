"""The script through which git reaches this Python environment.

It is in the directory that all work trees of a clone share, and it is the only place that knows
where the environment is. So the lines in hooks are the same on every machine and can be tracked. A
missing or broken environment is handled in one place: git then does what it would do without
Taskstore.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from taskstore._git import files
from taskstore._log.files import make_directories

FOLDER = "taskstore"
"""The name of our folder in the common directory."""

NAME = "run"
"""The script's name in it."""

# Our exit status passes through with 100 added. Python itself exits with 1 if it cannot start or
# cannot import a module, and a program that is not Python, or that ended too early, may exit with
# 0.
_PROGRAM = """\
import sys
try:
    from taskstore.cli import main
except ImportError:
    sys.exit(127)
try:
    main(prog_name="taskstore")
except SystemExit as end:
    sys.exit(100 + (end.code or 0) if end.code in (None, 0, 1, 2) else end.code)
"""

_SCRIPT = """\
# Written by `taskstore git install`, removed by `taskstore git uninstall`. Git runs Taskstore
# through this file: as merge driver, as textconv and in hooks.
python={python}
kind=$1
file=$2
case $kind in
    merge) ;;
    textconv) set -- diff "--textconv=$file" ;;
    hook) set -- git "$@" ;;
    *) exit 2 ;;
esac
status=127
if test -x "$python"; then
    "$python" -P -c {program} "$@"
    status=$?
fi
case $status in
    100 | 101 | 102) exit $((status - 100)) ;;
esac
# The environment is gone or broken: git goes on without it.
case $kind in
    merge)
        # A signal ended it; only a person knows why.
        test "$status" -le 128 || exit 2
        echo "taskstore: no Python environment at $python: merged by lines;" \\
            "run 'taskstore git install' again" >&2
        exec git merge-file --union "$3" "$2" "$4"
        ;;
    textconv) exec cat -- "$file" ;;
esac
exit 0
"""


def path_in(common_dir: Path) -> Path:
    """Return the path of the script in a clone."""
    return common_dir / FOLDER / NAME


def script(python: str | None = None) -> bytes:
    """Return the script for a Python interpreter, by default the one that runs."""
    python = sys.executable if python is None else python
    text = _SCRIPT.format(python=shlex.quote(python), program=shlex.quote(_PROGRAM))
    return os.fsencode(text)


def write(common_dir: Path) -> bool:
    """Write the script for this environment; return whether it changed."""
    path, wanted = path_in(common_dir), script()
    if files.read(path) == wanted:
        return False
    make_directories(path.parent)
    files.write(path, wanted, below=common_dir)
    return True


def interpreter(common_dir: Path) -> str | None:
    """Return the Python interpreter that the script of a clone names; None if it has none."""
    data = files.read(path_in(common_dir))
    found = None if data is None else re.search(rb"(?ms)^python=(.*?)^kind=", data)
    if found is None:
        return None
    parts = shlex.split(os.fsdecode(found[1]))
    return parts[0] if len(parts) == 1 else None
