"""The process that has imported everything, and forks itself for each command."""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import time
import warnings
from importlib import import_module
from types import ModuleType

import attrs

import taskstore

UNFIT = 1000
"""The answer to a call that needs a new interpreter. `client.py` has it too."""
COLD = "TESTS_COLD_HOOKS"
"""The variable of a call after which git starts interpreters. `__init__.py` has it too."""
_APART = ("_aio", "_browse", "_postgres", "cli._mcp", "testing")
"""What only a few commands import, with an extra."""


@attrs.frozen
class Call:
    """A command that a client asks for."""

    folder: bytes
    arguments: list[str]
    environment: dict[bytes, bytes]
    streams: list[int]


def main() -> None:
    """Serve until stdin ends. In each child, run the command."""
    load()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        os.write(1, b"ready\n")
        call = next_call(listener)
    become(call, sys.argv[2])
    try:
        run(call.arguments)
    except SystemExit as end:
        leave(end.code)
        raise
    leave(0)


def run(arguments: list[str]) -> None:
    """Run the command, or a program."""
    if arguments[:1] == ["-P"]:
        arguments = arguments[1:]
    elif arguments[:1] == ["-c"]:
        sys.path.insert(0, "")
    else:
        from taskstore.cli import main as command

        command(prog_name="taskstore")
        return
    sys.argv[:] = ["-c", *arguments[2:]]
    sys.modules["__main__"] = module = ModuleType("__main__")
    exec(arguments[1], module.__dict__)


def leave(status: str | int | None) -> None:
    """End the process as the interpreter does, but leave it to the system to free its memory.

    The interpreter would free each object of all modules, which takes longer than the command.
    Return if it has something to print first.
    """
    if isinstance(status, str):
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(status or 0)


def load() -> None:
    """Import what commands import."""
    for name in ("alembic.command", "rich.markup", "rich.table", "sqlalchemy.dialects.sqlite"):
        import_module(name)
    apart = tuple(f"taskstore.{name}" for name in _APART)
    for module in pkgutil.walk_packages(taskstore.__path__, "taskstore."):
        if not module.name.startswith(apart) and "__main__" not in module.name:
            import_module(module.name)
    gc.collect()
    gc.freeze()


def next_call(listener: socket.socket) -> Call:
    """Fork for each client. Return only in the process that runs the command."""
    # Let the system reap the processes that answer clients.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener.fileno(), 0], [], [])
        if 0 in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            call = receive(connection)
            if is_command(call, connection):
                return call
        connection.close()


def receive(connection: socket.socket) -> Call:
    """Read what a client sends."""
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    wanted = int.from_bytes(size, sys.byteorder)
    data = b""
    while len(data) < wanted:
        some = connection.recv(wanted - len(data))
        if not some:
            os._exit(0)  # the client was killed
        data += some
    folder, words, environment = marshal.loads(data)
    return Call(folder, [os.fsdecode(word) for word in words], environment, streams)


def is_command(call: Call, connection: socket.socket) -> bool:
    """Fork the command, and tell the client its exit status. Return only in the command."""
    ended, alive = os.pipe()
    child = os.fork() if is_fit(call) else -1
    if child == 0:
        connection.close()
        os.close(ended)
        return True
    for stream in (*call.streams, alive):
        os.close(stream)
    status = UNFIT if child < 0 else wait(child, ended, connection)
    connection.sendall(status.to_bytes(4, sys.byteorder, signed=True))
    os._exit(0)


def is_fit(call: Call) -> bool:
    """Return whether a new interpreter would start with the settings of this one."""
    return settings(call.environment) == settings(dict(os.environb))


def settings(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what an interpreter reads of an environment when it starts."""
    # See `become`. Streams have buffers here.
    followed = (b"PYTHONIOENCODING", b"PYTHONUNBUFFERED", b"PYTHONWARNINGS")
    found = {
        name: value
        for name, value in environment.items()
        if name.startswith(b"PYTHON") and name not in followed
    }
    names = (b"LC_ALL", b"LC_CTYPE", b"LANG")
    locale = next((environment[name] for name in names if environment.get(name)), b"C.UTF-8")
    return {**found, b"locale": locale}


def wait(child: int, ended: int, connection: socket.socket) -> int:
    """Return the exit status of a command. Kill it if its client ends first."""
    ready, _, _ = select.select([connection.fileno(), ended], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def become(call: Call, python: str) -> None:
    """Take over the streams, folder, environment and arguments of a call.

    Args:
        call: What a client asks for.
        python: The program that stands in for the interpreter.
    """
    for number, stream in enumerate(call.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call.folder)
    os.environb.clear()
    os.environb.update(call.environment)
    time.tzset()
    sys.argv[1:] = call.arguments
    if COLD not in os.environ:
        # `taskstore git install` writes it into the script that git runs.
        sys.executable = python
    open_streams(os.environ.get("PYTHONIOENCODING", ""))
    if os.environ.get("PYTHONWARNINGS"):
        options = os.environ["PYTHONWARNINGS"].split(",")
        warnings._processoptions(options)  # type: ignore[attr-defined]


def open_streams(wanted: str) -> None:
    """Open the streams as a new interpreter does.

    Args:
        wanted: The value of PYTHONIOENCODING, an encoding and perhaps how to handle errors.
    """
    encoding, _, errors = wanted.partition(":")
    # Without the variable, as the locale has it, and so as the server has it.
    encoding = encoding or sys.stdin.encoding
    errors = errors or ("strict" if wanted else sys.stdin.errors or "")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(  # noqa: SIM115
            number,
            "w" if number else "r",
            buffering=1 if number == 2 or os.isatty(number) else -1,
            encoding=encoding,
            errors="backslashreplace" if number == 2 else errors,
            newline="\n" if number else None,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
