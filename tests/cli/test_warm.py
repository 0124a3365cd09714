"""The processes that tests run commands in."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.warm import client


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")
def test_a_command_without_an_answer_has_failed() -> None:
    """Otherwise a command whose process is killed would count as a success."""
    # A socket's path is short.
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder) / "socket")
        listener.bind(address)
        listener.listen()
        command = [sys.executable, "-I", "-S", client.__file__, address, "list"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            connection, _ = listener.accept()
            with connection:
                connection.shutdown(socket.SHUT_WR)
                process.wait()
    assert 1 == process.returncode
