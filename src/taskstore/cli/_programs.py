"""The programs that the user's environment names: the editor, and the pager."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from taskstore.cli._errors import Failure, Status

_EDITORS = ("VISUAL", "EDITOR")
_USUAL_EDITOR = "vi"


def edited(text: str, suffix: str) -> str | None:
    """Return what a person has made of a text; None if nothing was changed.

    Args:
        text: The text.
        suffix: How the name of the file ends, by which editors know what is in it.

    Raises:
        Failure: The editor cannot be run, or has failed.
    """
    command = next(filter(None, map(os.environ.get, _EDITORS)), _USUAL_EDITOR)
    with tempfile.TemporaryDirectory(prefix="taskstore-") as folder:
        path = Path(folder, f"record{suffix}")
        path.write_text(text, encoding="utf-8")
        try:
            call = [*shlex.split(command), str(path)]
            done = subprocess.run(call, check=False)  # noqa: S603 - no shell
        except (OSError, ValueError) as error:
            raise Failure(
                f"{command}: {error}: set EDITOR to an editor that is installed", Status.USAGE
            ) from error
        if done.returncode:
            raise Failure(f"{command} failed with {done.returncode}: nothing was written")
        new = path.read_text(encoding="utf-8")
    return None if new == text else new
