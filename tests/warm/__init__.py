"""`taskstore` and programs that use it, as processes that need not import anything first.

Most of the time of a command goes into starting an interpreter and into imports. `warm(...)`
returns a command line that does what `python -P -m taskstore` does, and `warm_program(...)` one
that does what `python -c` does, in a process with the streams, environment and folder of its
caller. But the process is forked from a server that has already imported everything, so the call
takes a tenth of the processor time.

A call with other variables PYTHON..., another locale, or a closed stream starts an interpreter,
unless `warm(..., start=...)` names the variables: each set of these has a server of its own. Tests
of imports, of interpreters and of signals use `sys.executable` instead.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def warm(*arguments: str, start: Mapping[str, str] | None = None) -> list[str]:
    """Return the command line for a call of `taskstore`.

    Args:
        arguments: Of the call.
        start: The variables of its environment that an interpreter reads when it starts.
    """
    server = _server(tuple(sorted((start or {}).items())))
    # Without site packages the client needs a hundredth of a second.
    return [sys.executable, "-I", "-S", str(_FOLDER / "client.py"), server, *arguments]


def warm_program(program: str, *arguments: str) -> list[str]:
    """Return the command line for a Python program that uses the library."""
    return warm("-c", program, *arguments)


@cache
def _server(start: tuple[tuple[str, str], ...]) -> str:
    """Start a server, which ends with this process, and return the path of its socket."""
    folder = tempfile.TemporaryDirectory(prefix="warm")
    address = str(Path(folder.name) / "socket")
    variables = {**os.environ, **dict(start)}
    server = subprocess.Popen(
        [sys.executable, "-P", str(_FOLDER / "server.py"), address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in variables.items() if name != "PYTHONUNBUFFERED"},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    assert b"ready\n" == server.stdout.readline()
    atexit.register(folder.cleanup)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return address
