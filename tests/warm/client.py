"""The process that a test starts: pass the call to the server, and exit as the command does.

It runs thousands of times, so it imports only modules that are part of the interpreter.
"""

import marshal
import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket

UNFIT = 1000
"""The answer of the server if the call needs a new interpreter. `server.py` has it too."""


def main() -> None:
    """Ask the server to run the command, or start an interpreter for it."""
    address, *arguments = sys.argv[1:]
    status = ask(address, arguments)
    if status == UNFIT:
        command = [] if arguments[:1] in (["-c"], ["-P"]) else ["-P", "-m", "taskstore"]
        os.execv(sys.executable, [sys.executable, *command, *arguments])
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def ask(address: str, arguments: list[str]) -> int:
    """Send the call to the server, and return the exit status."""
    words = [os.fsencode(argument) for argument in arguments]
    call = marshal.dumps((os.getcwdb(), words, dict(os.environb)))
    streams = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
    connection = socket(AF_UNIX)
    if connection.fileno() < 3:
        return UNFIT  # a stream is closed
    connection.connect(address)
    size = len(call).to_bytes(4, sys.byteorder)
    connection.sendmsg([size], [(SOL_SOCKET, SCM_RIGHTS, streams)])
    connection.sendall(call)
    answer = connection.recv(4)
    if not answer:
        sys.exit("the server that runs commands gave no answer")
    return int.from_bytes(answer, sys.byteorder, signed=True)


if __name__ == "__main__":
    main()
