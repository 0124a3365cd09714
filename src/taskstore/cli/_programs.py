"""The programs that the user's environment names: the editor, the pager and the browser."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
import webbrowser
from pathlib import Path

from taskstore.cli._errors import Failure, Status

_EDITORS = ("VISUAL", "EDITOR")
_USUAL_EDITOR = "vi"


def edited(text: str, suffix: str) -> str | None:
    """Open a text in the editor and return the result; None if nothing was changed.

    Args:
        text: The text.
        suffix: The suffix of the file, which tells editors its format.

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


_PAGERS = ("TASKSTORE_PAGER", "PAGER")
_USUAL_PAGER = "less"
# Show colours, end if all fits on the screen, and leave the text on the screen.
_LESS = "FRX"


class Pager:
    """A pager that runs.

    Args:
        process: Reads UTF-8 from its stdin.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._is_open = True

    def write(self, text: str) -> None:
        """Write text, unless the person has left the pager."""
        if not self._is_open or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(text.encode("utf-8", "backslashreplace"))
        except OSError:
            self._is_open = False

    def finish(self) -> None:
        """Wait until the person leaves the pager."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        while True:
            # Ctrl-C is for the pager, which has its own use for it.
            with contextlib.suppress(KeyboardInterrupt):
                self._process.wait()
                return


def start_pager() -> Pager | None:
    """Start the pager; return None if there is none or it is turned off."""
    command = next(
        (os.environ[name] for name in _PAGERS if os.environ.get(name) is not None), _USUAL_PAGER
    )
    try:
        call = shlex.split(command)
        if not call or call == ["cat"]:
            return None
        process = subprocess.Popen(  # noqa: S603 - no shell
            call, stdin=subprocess.PIPE, env={"LESS": _LESS, **os.environ}
        )
    except (OSError, ValueError):
        # It is missing: everything is written to the terminal.
        return None
    return Pager(process)


def open_page(url: str) -> None:
    """Open a page in the browser, if there is one."""
    webbrowser.open(url)
