"""`taskstore` as a program: on a pipe, and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import attrs

from tests.warm import warm

CALL = [sys.executable, "-P", "-m", "taskstore"]
INTERRUPTIBLE = [
    sys.executable,
    "-P",
    "-c",
    """import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from taskstore.cli import main; main()""",
]
"""A call that takes SIGINT, which whoever runs the tests in the background may have turned off."""

BAR = re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h\r?(?:\x1b\[1A\x1b\[2K)*", re.DOTALL)
"""A progress bar, which a command shows on a busy machine, where anything may take long."""

_STARTS = {"LC_ALL", "PYTHONCOERCECLOCALE", "PYTHONUTF8"}
"""Variables that an interpreter reads when it starts."""

_WIDTH, _HEIGHT = 100, 40
_PATIENCE = 60.0


@attrs.frozen
class Run:
    """What a program exited with, and printed; on a terminal all of it is `stdout`."""

    status: int
    stdout: str
    stderr: str = ""


def environment(**more: str) -> dict[str, str]:
    """The environment without what changes the output, as on a plain terminal."""
    unwanted = {
        "TASKSTORE_DIR",
        "NO_COLOR",
        "FORCE_COLOR",
        "COLORTERM",
        "COLUMNS",
        "LINES",
        "PYTHONUNBUFFERED",
    }
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC", **more}


def on_pipe(*arguments: str, cwd: Path, stdin: str = "", **variables: str) -> Run:
    """Run a command with its output in pipes."""
    start = {name: value for name, value in variables.items() if name in _STARTS}
    done = subprocess.run(
        warm(*arguments, start=start),
        cwd=cwd,
        input=stdin.encode(),
        env=environment(**variables),
        capture_output=True,
        check=False,
        timeout=_PATIENCE,
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def on_terminal(*arguments: str, cwd: Path, typed: str = "", **variables: str) -> Run:
    """Run a command on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (_HEIGHT, _WIDTH))
    os.write(ours, typed.encode())
    try:
        child = subprocess.Popen(
            warm(*arguments),
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # A pager would wait for somebody who is not there.
            env=environment(**{"PAGER": "", **variables}),
            start_new_session=True,
        )
        os.close(theirs)
        output = _read_all(ours, child)
        return Run(child.wait(), output.decode().replace("\r\n", "\n"))
    finally:
        os.close(ours)


def _read_all(fd: int, child: subprocess.Popen[bytes]) -> bytes:
    """Everything until the last one who has the terminal has closed it."""
    parts = []
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        ready, _, _ = select.select([fd], [], [], 0.2)
        if not ready:
            if child.poll() is not None:
                break
            continue
        try:
            data = os.read(fd, 65536)
        except OSError:  # how Linux says that nobody is there any more
            break
        if not data:
            break
        parts.append(data)
    else:
        child.kill()
    return b"".join(parts)
