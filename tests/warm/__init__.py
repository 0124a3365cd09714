"""`taskstore` and programs that use it, as processes that need not import anything first.

Most of the time of a command goes into starting an interpreter and into imports. `warm(...)`
returns a command line that does what `python -P -m taskstore` does, and `warm_program(...)` one
that does what `python -c` does, in a process with the streams, environment and folder of its
caller. But the process is forked from a server that has already imported everything, so the call
takes a tenth of the processor time.

`taskstore git install` takes such a process for its interpreter, so git runs hooks and merges
in the same way. A test of what they do in a hostile repository uses the fixture `cold_hooks`.

A call with other variables PYTHON..., another locale, or a closed stream starts an interpreter,
unless `warm(..., start=...)` names the variables: each set of these has a server of its own. Tests
of imports, of interpreters and of signals use `sys.executable` instead.
"""

from __future__ import annotations

import atexit
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

COLD = "TESTS_COLD_HOOKS"
"""The variable of a call after which git starts interpreters. `server.py` has it too."""

_FOLDER = Path(__file__).resolve().parent


def warm(*arguments: str, start: Mapping[str, str] | None = None) -> list[str]:
    """Return the command line for a call of `taskstore`.

    Args:
        arguments: Of the call.
        start: The variables of its environment that an interpreter reads when it starts.
    """
    return [*_client(_server(tuple(sorted((start or {}).items())))), *arguments]


def warm_program(program: str, *arguments: str) -> list[str]:
    """Return the command line for a Python program that uses the library."""
    return warm("-c", program, *arguments)


def _client(address: str) -> list[str]:
    # Without site packages the client needs a hundredth of a second.
    return [sys.executable, "-I", "-S", str(_FOLDER / "client.py"), address]


def _write_python(path: Path, address: str) -> None:
    """Write the program that stands in for the interpreter: it runs the program of hooks warm."""
    warm, cold = shlex.join(_client(address)), shlex.quote(sys.executable)
    path.write_text(
        "#!/bin/sh\n"
        'case "$1 $2 $3" in\n'
        f'    "-P -c "*"from taskstore.cli import main"*) exec {warm} "$@" ;;\n'
        "esac\n"
        f'exec {cold} "$@"\n'
    )
    path.chmod(0o755)


@cache
def _server(start: tuple[tuple[str, str], ...]) -> str:
    """Start a server, which ends with this process, and return the path of its socket."""
    folder = tempfile.TemporaryDirectory(prefix="warm")
    address = str(Path(folder.name) / "socket")
    python = Path(folder.name) / "python"
    _write_python(python, address)
    variables = {**os.environ, **dict(start)}
    server = subprocess.Popen(
        [sys.executable, "-P", str(_FOLDER / "server.py"), address, str(python)],
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
